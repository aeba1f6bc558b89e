"""A forge of each kind, and a project that is connected to it."""

from __future__ import annotations

import pytest

from tests.real.forge_server import REPOSITORY, TOKEN, forge_server
from tests.repositories import git
from workspaces.forge.gitea import Gitea
from workspaces.forge.github import GitHub

KINDS = {"github": GitHub, "gitea": Gitea}


@pytest.fixture(params=KINDS)
def forge(request, tmp_path):
    """A running forge with a real bare repository behind it."""
    remote = tmp_path / "remote.git"
    remote.mkdir()
    git(remote, "init", "-q", "--bare", "-b", "main")
    with forge_server(request.param, remote) as running:
        yield running


@pytest.fixture
def client(forge):
    """The studio's side of it."""
    suffix = {"github": "/api/v3", "gitea": "/api/v1"}[forge.kind]
    return KINDS[forge.kind](f"{forge.url}{suffix}", REPOSITORY, TOKEN)
