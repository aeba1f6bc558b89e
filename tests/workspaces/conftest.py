"""A registered repository and a workspace of it, both real."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection

from tests.repositories import git, make_repository
from workspaces.services import ensure_workspace, register_project
from workspaces.signals import merge_settled

FILES = {
    "README.md": "# A repository\n",
    "app.py": "print('hello')\n",
    "lib/deep/one.txt": "".join(f"line {number}\n" for number in range(1, 41)),
    "lib/two.txt": "two\n",
}


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    """No test reads the configuration of whoever runs it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return home


@pytest.fixture
def repository(tmp_path):
    """A repository whose default branch is neither main nor master, at a path with a space and an umlaut."""
    return make_repository(tmp_path / "Mein Repositörium", branch="trunk", files=FILES)


@pytest.fixture
def project(owner, repository):
    """The repository, registered."""
    return register_project(actor=owner, path=str(repository), name="Demo", key="DEMO")


@pytest.fixture
def workspace(project):
    """A ready workspace."""
    return ensure_workspace(project=project, label="DEMO-1")


@pytest.fixture
def checkout(workspace):
    """The folder of the workspace."""
    return Path(workspace.path)


@pytest.fixture
def commit():
    """Commit everything in a folder, as a person would; the commit."""

    def make(folder: Path, message: str = "A change") -> str:
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", message)
        return git(folder, "rev-parse", "HEAD").strip()

    return make


@pytest.fixture
def settled():
    """The attempts that settled, in order."""
    seen: list[object] = []

    def note(*, attempt_id, **_):
        assert connection.in_atomic_block
        seen.append(attempt_id)

    merge_settled.connect(note)
    yield seen
    merge_settled.disconnect(note)


@pytest.fixture
def moved_trunk(repository, commit):
    """The target has moved on since the workspace was made, elsewhere than the agent works."""

    def move():
        (repository / "lib" / "two.txt").write_text("zwei\n")
        return commit(repository, "Somebody else's work")

    return move
