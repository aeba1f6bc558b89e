"""Every test of the contract runs in each version control system that the studio knows."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.workspaces.contract.world import World, make_world

KINDS = ("git", "jj", "jj-colocated")


def require_jj() -> None:
    """Without jj the tests that need it are named as skipped on a developer's machine, and fail in CI."""
    if shutil.which("jj") is None:
        sentence = "jj is not on PATH; install the package jujutsu, or run .ci/install-jj on Debian"
        if os.environ.get("CI") == "true":
            pytest.fail(sentence)
        pytest.skip(sentence)


@pytest.fixture(params=KINDS)
def world(request, tmp_path) -> World:
    """A repository in each system."""
    if request.param != "git":
        require_jj()
    return make_world(request.param, tmp_path)


@pytest.fixture
def checkout(world):
    """A checkout of the studio in it."""
    return world.checkout()
