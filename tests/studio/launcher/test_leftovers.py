"""What a killed `up` left behind is found by its mark, and nothing else is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from agents.environment import MARK as AGENT_MARK
from studio.env import BASE_DIR
from studio.launcher import leftovers
from studio.launcher.child import MARK
from studio.launcher.down import down
from studio.launcher.folder import DataFolder
from studio.launcher.options import Options
from studio.launcher.record import Record, own_record, read_record, write_record
from tests.real.parts import wait_until
from workspaces.commands.files import MARK as COMMAND_MARK
from workspaces.commands.files import CommandFolder, command_folder, read_json, write_json

pytestmark = pytest.mark.real

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPS


@pytest.fixture
def start():
    """Starts processes with variables of their own, and ends them after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(code: str = SLEEPS, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env={"PATH": os.environ["PATH"], **environment}, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_end__takes_the_marked_ones_and_spares_all_others(start, tmp_path):
    mine = [start(**{MARK: str(tmp_path)}), start(**{AGENT_MARK: str(tmp_path / "opencode")})]
    stubborn = start(STUBBORN, **{MARK: str(tmp_path)})
    others = [start(), start(**{MARK: f"{tmp_path}/x"}), start(**{AGENT_MARK: str(tmp_path)})]
    assert {process.pid for process in leftovers.find(tmp_path)} == {process.pid for process in [*mine, stubborn]}
    assert leftovers.end(tmp_path) == 3
    assert all(process.wait(10) is not None for process in [*mine, stubborn])
    assert all(process.poll() is None for process in others)
    assert leftovers.end(tmp_path) == 0


def test_down__ends_leftovers_and_clears_the_folder(start, tmp_path):
    folder = DataFolder(tmp_path / "data")
    folder.prepare()
    folder.prepare_run()
    process = start(**{MARK: str(folder.root)})
    said: list[str] = []
    assert down(folder, said.append) == 0
    assert said == ["Ended 1 processes that a killed start had left behind."]
    assert process.wait(10) is not None
    assert sorted(path.name for path in folder.root.iterdir()) == ["log"]
    assert down(folder, said.append) == 0
    assert said[1].startswith("Nothing runs in")


def test_record__is_not_taken_for_somebody_elses_process(tmp_path):
    path = tmp_path / "studio.json"
    mine = own_record("http://127.0.0.1:8000", Options(data=tmp_path, port=8123, agent=False))
    write_record(path, mine)
    found = read_record(path)
    assert found == mine
    assert found.port == 8123
    assert found.process() == psutil.Process()
    reused = Record(**{**vars_of(mine), "created": mine.created - 100})
    assert reused.process() is None
    path.write_text("{}")
    assert read_record(path) is None
    assert read_record(tmp_path / "none") is None


def vars_of(record):
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


@pytest.fixture
def keeper(tmp_path):
    """A background command with its wrapper, started as the worker does."""
    folders: list[CommandFolder] = []

    (tmp_path / "data").mkdir()

    def run(text: str) -> CommandFolder:
        folder = command_folder(tmp_path / "data", f"command-{len(folders)}")
        folder.prepare()
        environment = {"PATH": os.environ["PATH"]}
        argv = ["/bin/bash", "-c", text]
        write_json(folder.spec, {"argv": argv, "cwd": "/", "environment": environment, "seconds": 600})
        lock = folder.take_lock()
        assert lock is not None
        command = [sys.executable, "-B", "-S", "-E", "-m", "workspaces.commands.wrapper", str(folder.root)]
        mark = {COMMAND_MARK: str(folder.root)}
        subprocess.run(command, check=True, cwd=BASE_DIR, env={**environment, **mark}, pass_fds=[lock], timeout=30)
        os.close(lock)
        folders.append(folder)
        wait_until(
            lambda: folder.output.exists() and b"up" in folder.output.read_bytes(), seconds=30, what="its output"
        )
        return folder

    yield run
    for process in leftovers.find_commands(tmp_path / "data"):
        process.kill()


def test_commands__survive_a_start_and_end_with_a_stop(keeper, start, tmp_path):
    data = tmp_path / "data"
    obedient, deaf = keeper("echo up; sleep 600"), keeper("trap '' TERM; echo up; sleep 600 & wait; sleep 600")
    other = start(**{COMMAND_MARK: f"{data}x/commands/1"})
    assert leftovers.end(data) == 0  # what a start does
    assert obedient.is_kept()
    assert deaf.is_kept()
    assert leftovers.end_commands(data) == 2
    assert leftovers.find_commands(data) == []
    for folder in (obedient, deaf):
        ended = read_json(folder.ended)
        assert ended is not None
        assert (ended["outcome"], ended["reason"]) == ("cancelled", "studio_stopped")
    assert other.poll() is None
    assert leftovers.end_commands(data) == 0


def test_commands__whose_wrapper_hangs_are_killed_by_a_stop(keeper, tmp_path, monkeypatch):
    data = tmp_path / "data"
    folder = keeper("echo up; sleep 600")
    pid = folder.wrapper_pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(leftovers, "COMMAND_SECONDS", 0.3)
    assert leftovers.end_commands(data) == 1
    assert leftovers.find_commands(data) == []
    assert not folder.is_kept()
    assert read_json(folder.ended) is None  # so its row becomes lost
