"""Checkouts of a project with a setup, and commands with real processes that no test leaves behind."""

from __future__ import annotations

import pytest

from tests.repositories import git
from tests.workspaces.commands.conftest import data, no_process_left
from workspaces.models import ProjectSetup

__all__ = ["data", "no_process_left"]


@pytest.fixture
def configure(project):
    """Set the project's setup."""

    def make(**values):
        return ProjectSetup.objects.update_or_create(project=project, defaults=values)[0]

    return make


@pytest.fixture
def bring(project, repository):
    """Commit the repository's own file, and trust the project."""

    def make(text, *, trusted=True):
        path = repository / ".opencode-studio" / "config.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        git(repository, "add", "-f", "-A", ".opencode-studio")
        git(repository, "commit", "-q", "-m", "Configure")
        type(project).objects.filter(pk=project.pk).update(trusted=trusted)
        project.refresh_from_db()

    return make
