"""Checkouts of a project with a setup, and commands with real processes that no test leaves behind."""

from __future__ import annotations

import pytest

from tests.real.parts import wait_until
from tests.repositories import git
from tests.workspaces.commands.conftest import PATIENCE, data, no_process_left
from workspaces.commands import launch
from workspaces.commands.places import folder_of
from workspaces.commands.settling import look
from workspaces.models import Command, CommandState, ProjectSetup

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


class Steps:
    """Does what the jobs and the watcher do, until nothing is left to do."""

    def __init__(self, workspace):
        self.workspace = workspace

    def start(self):
        """Start the commands that wait for it."""
        for pk in list(self.workspace.commands.filter(state=CommandState.STARTING).values_list("pk", flat=True)):
            launch.start(str(pk))

    def settle(self, command):
        """Wait for a command's end; its row."""
        self.start()
        wait_until(lambda: look(folder_of(command.pk)), seconds=PATIENCE, what="the command's end")
        return Command.objects.get(pk=command.pk)


@pytest.fixture
def steps(workspace):
    return Steps(workspace)
