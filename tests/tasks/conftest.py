"""Fixtures of the board's tests: a pipeline on a real repository, without an agent server."""

from __future__ import annotations

import pytest

from tests.tasks.pipeline import Pipeline


@pytest.fixture(autouse=True)
def workspace_root(settings, tmp_path):
    """Workspaces of each test in a folder of its own."""
    settings.STUDIO_WORKSPACE_ROOT = tmp_path / "workspaces"
    settings.STUDIO_WORKSPACE_ROOT.mkdir()


@pytest.fixture
def pipeline(db):
    """A task in "To do" of a project with a real repository, a ready server and the default profiles."""
    return Pipeline()
