"""A stop that a person asked for is carried out, although the worker that was to carry it out is killed."""

from __future__ import annotations

import contextlib

import psutil
import pytest

from tests.crash.world import until
from tests.e2e.scripts import bash, script

pytestmark = pytest.mark.real

COMMAND = ["sleep", "86.25"]  # known by its odd number


def sleeping():
    """The agent's command, if it runs."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline() == COMMAND:
                found.append(process)
    return found


@pytest.mark.parametrize("step", ["abort.before_post", "abort.after_post"])
def test_stop__really_stops_when_its_worker_is_killed(world, project, step):
    title = f"Stop for sure at {step}"
    text = script(implementation=[[bash(" ".join(COMMAND))]])
    key = world.task({"id": project}, title, text)["key"]
    until(sleeping, "the command")
    world.arm(step, "kill")
    world.post(f"/tasks/{key}/stop")
    until(lambda: world.fired(step), "the worker's end")
    until(lambda: world.get(f"/tasks/{key}")["run_state"] == "stopped", "the stop")
    until(lambda: not sleeping(), "the end of the command")
    (directory,) = world.rows(
        "SELECT w.path FROM workspaces_workspace w JOIN tasks_task t ON t.workspace_id = w.id WHERE t.title = ?",
        title,
    )[0]
    assert world.opencode(f"/session/status?directory={directory}") == {}
    assert world.get(f"/tasks/{key}")["status"] == "in_progress"
