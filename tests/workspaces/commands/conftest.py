"""Commands with real processes in a data folder of the test's own; nothing of them outlives the test."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil
import pytest

from tests.real.parts import wait_until
from workspaces.commands import launch, places, services
from workspaces.commands.files import FOLDER, MARK
from workspaces.commands.settling import look
from workspaces.models import Command, CommandState

PATIENCE = 30.0


def marked(data):
    """The processes of the commands of a data folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK, "").startswith(f"{data / FOLDER}/"):
                found.append(process)
    return found


@pytest.fixture(autouse=True)
def data(settings, tmp_path):
    """The data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    settings.DATA = folder
    yield folder
    for process in marked(folder):
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)


class Run:
    """One command on its way, driven as the jobs and the watcher do."""

    def __init__(self, workspace, text, **fields):
        self.row = services.start_command(workspace=workspace, text=text, actor=None, **fields)
        self.folder = places.folder_of(self.row.pk)

    def begin(self):
        launch.start(str(self.row.pk))
        return self

    def fresh(self):
        self.row = Command.objects.select_related("workspace__project").get(pk=self.row.pk)
        return self.row

    def says(self, text):
        """Wait until the output has `text`."""
        wait_until(lambda: text in self.raw(), seconds=PATIENCE, what=repr(text))
        return self

    def raw(self):
        return self.folder.output.read_bytes() if self.folder.output.exists() else b""

    def ended(self, seconds=PATIENCE):
        wait_until(lambda: look(self.folder), seconds=seconds, what="the command's end")
        return self.fresh()

    @property
    def wrapper(self):
        return self.folder.wrapper_pid()

    def kill_wrapper(self):
        os.kill(self.wrapper, signal.SIGKILL)


@pytest.fixture
def run(workspace):
    """Starts commands in the workspace."""
    return lambda text, **fields: Run(workspace, text, **fields).begin()


@pytest.fixture
def no_process_left(data):
    """After the test no process of its commands may be there."""
    yield
    wait_until(lambda: not marked(data), seconds=PATIENCE, what="the end of every process")


__all__ = ["PATIENCE", "CommandState", "Run", "marked"]
