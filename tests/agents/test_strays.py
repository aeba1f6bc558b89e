"""What an agent's commands left running is known by its environment, ended, and nothing else with it."""

from __future__ import annotations

import os
import subprocess
import threading

import psutil
import pytest

from agents.endpoint import ask_end_strays, strays_asked
from agents.environment import COMMAND, MARK
from agents.server_process import Setup
from agents.strays import end_strays, find_strays
from agents.supervisor import Supervisor
from tests.real.agentserver import wait_for


@pytest.fixture
def begin(tmp_path):
    """Starts a process as an agent's command is: begin(script, mark=..., begun=...)."""
    started = []

    def begin(script="sleep 600", *, mark="here", begun=None, **more):
        environment = {"PATH": os.defpath, **more}
        if mark:
            environment[MARK] = mark
        if begun:
            environment[COMMAND] = str(begun)
        process = subprocess.Popen(["/bin/sh", "-c", f"{script} & wait"], env=environment, start_new_session=True)
        started.append(process)
        wait_for(lambda: psutil.Process(process.pid).children())
        return process

    yield begin
    for process in started:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait()


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path.resolve() / "work"
    (folder / "deep").mkdir(parents=True)
    return folder


def test_find__by_mark_and_by_where_the_command_was_begun(begin, workspace, tmp_path):
    mine = begin(begun=workspace / "deep")
    begin(begun=tmp_path)
    begin(begun=f"{workspace}-other")
    begin(begun=workspace, mark="elsewhere")
    begin(begun=workspace, mark="")
    begin()
    found = {process.pid for process in find_strays("here", str(workspace))}
    assert found == {mine.pid, *(child.pid for child in psutil.Process(mine.pid).children())}


def test_find__a_command_that_went_elsewhere_is_still_known(begin, workspace):
    begin("cd /; sleep 600", begun=workspace)
    assert len(find_strays("here", str(workspace))) >= 2


def test_find__a_link_to_the_directory_is_the_directory(begin, workspace, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(workspace)
    begin(begun=link)
    assert find_strays("here", str(workspace))
    assert find_strays("here", str(link))


@pytest.mark.parametrize("script", ["sleep 600", "trap '' TERM; while :; do sleep 0.1; done"])
def test_end__also_what_does_not_listen(begin, workspace, script):
    process = begin(script, begun=workspace)
    other = begin(begun=workspace.parent / "next door")
    assert end_strays("here", str(workspace)) >= 2
    process.wait(5)
    assert other.poll() is None
    assert end_strays("here", str(workspace)) == 0


def test_end__spares_this_process_and_those_above_it(workspace, monkeypatch):
    """A studio that was started by an agent's command does not end itself."""
    everyone = [psutil.Process(), *psutil.Process().parents()]
    marked = {MARK: "here", COMMAND: str(workspace)}
    monkeypatch.setattr(psutil, "process_iter", lambda: iter(everyone))
    monkeypatch.setattr(psutil.Process, "environ", lambda process: marked)
    assert find_strays("here", str(workspace)) == []


def test_supervisor__ends_what_another_container_asks_about(begin, workspace, tmp_path):
    setup = Setup(data=tmp_path / "data", environ={})
    process = begin(mark=str(setup.folder.root), begun=workspace)
    ask_end_strays(setup.data, str(workspace))
    ask_end_strays(setup.data, str(workspace))
    Supervisor(setup, threading.Event(), lambda: pytest.fail("no server is started"))._end_strays()
    process.wait(10)
    assert strays_asked(setup.data) == []
