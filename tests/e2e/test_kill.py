"""kill -9 of each process in the middle of an implementation turn: the task ends in review all the same."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.e2e.scripts import bash, script, write
from tests.e2e.studio_process import Studio

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("kill")]

VICTIMS = {
    "worker": ("celery", "worker"),
    "bridge": ("manage.py", "bridge"),
    "daphne": ("daphne",),
    "opencode": ("opencode", "serve"),
}
STEPS = [write("one\n", "one.txt"), bash("sleep 4 && echo two > two.txt"), write("three\n", "three.txt")]


@pytest.fixture(scope="module")
def killable():
    studio = Studio("--no-sample")
    try:
        yield studio.start()
    finally:
        studio.close()


@pytest.mark.parametrize("victim", VICTIMS)
def test_kill__the_task_ends_in_review(killable, victim):
    studio = killable
    folder = studio.repository(f"kill {victim}")
    key = studio.task(studio.project(folder), f"Survive {victim}", script(implementation=[STEPS]))["key"]
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")
    workspace = None

    def writing(task):
        nonlocal workspace
        workspace = task["workspace"] and studio.get(f"/workspaces/{task['workspace']}")
        return bool(workspace) and any(
            run["phase"] == "implementation" and run["state"] == "running"
            for run in studio.get(f"/tasks/{key}/runs")["results"]
        )

    studio.wait(key, writing)
    until_second_step(studio, key)
    victims = studio.find(*VICTIMS[victim])
    assert victims
    for process in victims:
        process.kill()
    studio.wait_status(key, "review", seconds=120)
    for session in studio.get(f"/tasks/{key}/sessions")["results"]:
        messages = studio.opencode(f"/session/{session['external_id']}/message")
        assert [message["info"]["role"] for message in messages].count("user") == 1
    asked_again(studio, key)


def until_second_step(studio, key):
    """Wait until the first step has finished: the practice model has been asked for the second."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(
            line["task"] == key and line["phase"] == "implementation" and line["step"] == 1
            for line in studio.practice_log()
        ):
            time.sleep(0.5)
            return
        time.sleep(0.05)
    raise AssertionError(studio.practice_log())


def asked_again(studio, key):
    """No step that was answered in full and whose result came back was asked again."""
    served = Counter(
        (line["phase"], line["round"], line["step"])
        for line in studio.practice_log()
        if line["task"] == key and line["outcome"] == "served"
    )
    again = {step: count for step, count in served.items() if count > 1}
    assert all(count == 2 for count in again.values())
    assert len(again) <= 1, again  # the one step that was cut off
    assert ("implementation", 1, 0) not in again
