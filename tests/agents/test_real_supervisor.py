"""The managed server's process as `manage.py agentserver` runs it: announced, watched, ended without leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from agents.backend import Prompt
from agents.discovery import find_binary
from agents.endpoint import read_endpoint, read_status
from agents.environment import MARK
from agents.leftovers import end_leftovers
from agents.opencode.backend import OpenCodeBackend
from agents.opencode.client import OpenCodeClient
from agents.opencode.config import ServerFolder
from agents.roles import agent_name
from agents.supervisor import AlreadyRunningError, Setup, Supervisor
from tests.real.agentserver import fresh_ids, prompt_text, wait_for

pytestmark = pytest.mark.real
ROOT = Path(__file__).resolve().parents[2]
AGENT = agent_name("implementer")


@pytest.fixture
def command(tmp_path, opencode_server):
    """Starts `manage.py agentserver` on a data folder of this test: command() -> the process, with its log."""
    data = tmp_path.resolve() / "data"
    (tmp_path / "home").mkdir()
    environment = {
        **{name: value for name, value in opencode_server.setup.environ.items() if name != "HOME"},
        "HOME": str(tmp_path / "home"),
        "STUDIO_HOME": str(data),
        "OPENCODE_BIN": str(opencode_server.setup.binary),
    }
    started = []

    def start():
        log = (tmp_path / "log").open("a")
        arguments = [sys.executable, "manage.py", "agentserver"]
        process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        log.close()
        started.append(process)
        return process

    start.data = data
    start.log = tmp_path / "log"
    yield start
    for process in started:
        process.kill()
        process.wait()
    end_leftovers(ServerFolder(data / "opencode"))


def marked(data):
    """The processes that belong to the server of `data`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(data / "opencode"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def ready(command, process):
    def look():
        assert process.poll() is None, command.log.read_text()
        return read_endpoint(command.data)

    return wait_for(look, what=command.log.read_text())


def backend_of(endpoint):
    return OpenCodeBackend(OpenCodeClient(endpoint.url, endpoint.username, endpoint.password))


def run_for_ever(endpoint, directory):
    """A turn whose command outlives its shell."""
    directory.mkdir()
    backend = backend_of(endpoint)
    script = {
        "implementation": [
            [{"tools": [{"name": "bash", "args": {"command": "touch begun; sleep 300", "description": "x"}}]}]
        ]
    }
    rules = [{"permission": "*", "pattern": "*", "action": "allow"}]
    session = backend.open_session(directory=str(directory), title="t", rules=rules, agent=AGENT, model="")
    message_id, part_id = fresh_ids()
    backend.admit(
        Prompt(session, str(directory), message_id, part_id, AGENT, "practice/practice", "", prompt_text(script))
    )
    wait_for((directory / "begun").exists)
    return backend, session, message_id


def test_server__is_announced_when_it_answers_and_ends_in_order(command, tmp_path):
    process = command()
    endpoint = ready(command, process)
    assert backend_of(endpoint).health().version.startswith("1.18.")
    assert psutil.pid_exists(endpoint.pid)
    run_for_ever(endpoint, tmp_path.resolve() / "work")
    assert len(marked(command.data)) >= 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert read_endpoint(command.data) is None
    assert marked(command.data) == []


def test_second_one__does_not_start(command, opencode_server):
    endpoint = ready(command, command())
    second = command()
    assert second.wait(60) == 1
    assert "already runs" in command.log.read_text()
    assert read_endpoint(command.data) == endpoint
    setup = Setup(binary=opencode_server.setup.binary, data=command.data, environ={})
    with pytest.raises(AlreadyRunningError):
        Supervisor(setup, threading.Event(), find_binary).run()


def test_server_that_dies__is_started_again_by_the_same_process(command, tmp_path):
    process = command()
    endpoint = ready(command, process)
    _, session, message_id = run_for_ever(endpoint, tmp_path.resolve() / "work")
    orphans = [one for one in marked(command.data) if one.pid != endpoint.pid]
    os.kill(endpoint.pid, signal.SIGKILL)
    wait_for(lambda: (found := read_endpoint(command.data)) and found.boot != endpoint.boot)
    fresh = ready(command, process)
    status = wait_for(lambda: (said := read_status(command.data)) and said.boot == fresh.boot and said)
    assert (status.state, status.crashes) == ("ready", 1)
    assert "SIGKILL" in status.crash
    assert "listening on" in " ".join(status.output)
    psutil.wait_procs(orphans, timeout=10)  # ended, perhaps not yet collected
    assert not any(one.is_running() for one in orphans)  # not even the command that the server had left behind
    seen = backend_of(fresh).view_turn(session, str(tmp_path.resolve() / "work"), message_id)
    assert seen.state == "died"


def test_killed_command__its_orphans_are_ended_by_the_next_start(command, tmp_path):
    process = command()
    endpoint = ready(command, process)
    _, session, message_id = run_for_ever(endpoint, tmp_path.resolve() / "work")
    process.kill()
    process.wait()
    orphans = marked(command.data)
    assert endpoint.pid in [one.pid for one in orphans]
    again = command()
    wait_for(lambda: (found := read_endpoint(command.data)) and found.boot != endpoint.boot)
    fresh = ready(command, again)
    psutil.wait_procs(orphans, timeout=10)
    assert not any(one.is_running() for one in orphans)
    seen = backend_of(fresh).view_turn(session, str(tmp_path.resolve() / "work"), message_id)
    assert seen.state == "died"  # the session is still known, and its turn can be resumed


def test_stop_while_it_starts__leaves_nothing(command):
    process = command()
    wait_for(lambda: marked(command.data))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert marked(command.data) == []
