"""What a killed `up` left behind is found by its mark, and nothing else is touched."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from agents.environment import MARK as AGENT_MARK
from studio.launcher import leftovers
from studio.launcher.child import MARK
from studio.launcher.down import down
from studio.launcher.folder import DataFolder
from studio.launcher.options import Options
from studio.launcher.record import Record, own_record, read_record, write_record

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
