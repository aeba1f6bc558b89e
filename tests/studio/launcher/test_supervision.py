"""A real supervisord with small parts: started, restarted, stopped in order, also in a folder with an odd name."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from studio.launcher.child import MARK
from studio.launcher.errors import LauncherError
from studio.launcher.folder import DataFolder
from studio.launcher.parts import Part, inherited, write_plan
from studio.launcher.supervision import Supervision
from tests.real.parts import wait_until

pytestmark = pytest.mark.real

PATIENCE = 30.0
STAYS = """
import pathlib, signal, sys, time
name, log = sys.argv[1:]
def end(number, _):
    with open(log, "a") as file: file.write(f"{name} {signal.Signals(number).name}\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end); signal.signal(signal.SIGQUIT, end)
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def supervise(tmp_path):
    """Starts a supervisord with parts, in a folder whose name would upset a configuration file."""
    folder = DataFolder(tmp_path / "data #1; 100% ü")
    folder.prepare()
    folder.prepare_run()
    opened: list[Supervision] = []

    def open_with(*parts: Part) -> Supervision:
        write_plan(list(parts), folder.parts)
        supervision = Supervision(folder, list(parts))
        opened.append(supervision)
        supervision.open(inherited({**os.environ, MARK: str(folder.root)}))
        return supervision

    yield open_with
    for supervision in opened:
        supervision.stop()
    folder.clear()


def staying(name, log, **how):
    return Part(name, (sys.executable, "-c", STAYS, name, str(log)), ("PATH",), **how)


def test_parts__stop_by_stage_with_their_signals(supervise, tmp_path):
    log = tmp_path / "order"
    supervision = supervise(
        staying("first", log, stage=0),
        staying("second", log, stage=1, stop_signal="QUIT"),
        staying("third", log, stage=3),
    )
    supervision.start(["first", "second", "third"])
    wait_until(lambda: running(supervision) == {"first", "second", "third"}, seconds=PATIENCE, what="three parts")
    logs = [supervision.folder.log / f"{name}.log" for name in ("first", "second", "third")]
    wait_until(
        lambda: all("up" in one.read_text() for one in logs), seconds=PATIENCE, what="their listening to signals"
    )
    pids = supervision.pids()
    supervision.stop()
    assert log.read_text().splitlines() == ["third SIGTERM", "second SIGQUIT", "first SIGTERM"]
    assert not supervision.alive()
    assert not any(psutil.pid_exists(pid) for pid in pids.values())
    supervision.stop()


def test_part__that_was_killed_is_started_again(supervise, tmp_path):
    supervision = supervise(staying("one", tmp_path / "order", stage=0))
    supervision.start(["one"])
    wait_until(lambda: running(supervision) == {"one"}, seconds=PATIENCE, what="the part")
    first = supervision.pids()["one"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: supervision.pids().get("one", first) != first, seconds=PATIENCE, what="its successor")


def test_part__that_cannot_start_is_reported_with_the_end_of_its_log(supervise):
    code = "import sys; print('the reason', flush=True); sys.exit(3)"
    supervision = supervise(Part("broken", (sys.executable, "-c", code), ("PATH",), stage=0))
    supervision.start(["broken"])
    with pytest.raises(LauncherError, match=r"(?s)broken does not start:.*the reason"):
        wait_until(lambda: supervision.check_starting(), seconds=PATIENCE, what="the report")


def test_part__that_ignores_its_signal_is_killed_with_its_children(supervise, tmp_path):
    stubborn = "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stubborn += "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print('up', flush=True); time.sleep(600)"
    supervision = supervise(Part("stubborn", (sys.executable, "-c", stubborn), ("PATH",), stage=0, stop_seconds=1))
    supervision.start(["stubborn"])
    wait_until(lambda: running(supervision) == {"stubborn"}, seconds=PATIENCE, what="the part")
    process = psutil.Process(supervision.pids()["stubborn"])
    wait_until(lambda: process.children(), seconds=PATIENCE, what="its child")
    family = [process, *process.children()]
    supervision.stop()
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def test_states__say_when_the_supervisor_is_gone(supervise, tmp_path):
    supervision = supervise(staying("one", tmp_path / "order", stage=0))
    assert supervision._process is not None
    supervision._process.kill()
    supervision._process.wait()
    assert not supervision.alive()
    with pytest.raises(LauncherError, match="does not answer"):
        supervision.states()


def running(supervision: Supervision) -> set[str]:
    return {name for name, entry in supervision.states().items() if entry["statename"] == "RUNNING"}


def test_open__reports_a_supervisor_that_does_not_start(tmp_path):
    folder = DataFolder(tmp_path)
    folder.prepare_run()
    broken = Part("broken\nname", ("/bin/true",), (), stage=0)
    with pytest.raises(LauncherError, match="supervisor did not start"):
        Supervision(folder, [broken]).open(inherited(os.environ))
    assert Path(folder.log / "supervisord.err").stat().st_size > 0
    folder.clear()
