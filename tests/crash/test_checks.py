"""The proof can fail: after a case that passed, each kind of damage is seen by the check that is there for it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from tests.crash import checks
from tests.crash.cases import open_project, run_case
from tests.crash.checks import problems
from tests.crash.points import Point
from tests.crash.scenario import Ending, Message

pytestmark = pytest.mark.real

NOTHING = Point("nothing", lambda scene: scene.hurt())


@pytest.fixture(scope="module")
def passed(world):
    """A case of a project of its own to which nothing happened."""
    outcome = run_case(world, open_project(world, "unhurt"), NOTHING, seed=1)
    assert outcome.passed, "\n".join(outcome.problems)
    return outcome.case


@contextlib.contextmanager
def changed(case, do, undo, *values):
    """The database with a change."""
    with contextlib.closing(sqlite3.connect(case.world.database, timeout=30)) as connection:
        with connection:
            connection.execute(do, values)
        try:
            yield
        finally:
            with connection:
                connection.execute(undo, values)


def said(case):
    """The checks that complain."""
    return {problem.partition(":")[0] for problem in problems(case)}


def test_problems__a_gap_in_a_log_is_seen(passed):
    session = passed.world.rows("SELECT session_id FROM tasks_phaserun WHERE task_id = ?", passed.id)[0][0]
    gap = "UPDATE sessions_app_sessionevent SET seq = seq {} 1000 WHERE session_id = ? AND seq {} 3"
    with changed(passed, gap.format("+", "="), gap.format("-", "= 1000 +"), session):
        assert said(passed) == {"session_logs", "reader"}


def test_problems__a_second_prompt_is_seen(passed):
    turn = passed.world.rows("SELECT turn_id FROM tasks_phaserun WHERE task_id = ?", passed.id)[0][0]
    other = "UPDATE sessions_app_turn SET message_id = {} WHERE id = ?"
    with changed(passed, other.format("'x' || message_id"), other.format("substr(message_id, 2)"), turn):
        assert said(passed) == {"turns_on_server"}


def test_problems__what_is_left_active_is_seen(passed):
    state = "UPDATE sessions_app_turn SET state = '{}' WHERE id = ?"
    turn = passed.world.rows("SELECT turn_id FROM tasks_phaserun WHERE task_id = ?", passed.id)[-1][0]
    with changed(passed, state.format("unknown"), state.format("settled"), turn):
        assert said(passed) == {"nothing_active"}


def test_problems__a_step_that_is_asked_again_is_seen(passed):
    path = passed.world.data / "log" / "practice.jsonl"
    before = path.read_text()
    mine = [line for line in before.splitlines() if json.loads(line)["task"] == passed.task["key"]]
    try:
        path.write_text(before + mine[0] + "\n")
        assert said(passed) == {"practice"}
        path.write_text(before.replace(mine[1] + "\n", ""))
        assert said(passed) == {"practice"}
    finally:
        path.write_text(before)


def test_problems__lost_work_is_seen(passed):
    workspace = passed.world.get(f"/tasks/{passed.task['key']}")["workspace"]
    rows = passed.world.rows("SELECT path FROM workspaces_workspace WHERE id = ?", UUID(workspace).hex)
    name, text = next(iter(passed.scenario.files.items()))
    written = Path(rows[0][0]) / name
    written.write_text("something else")
    assert said(passed) == {"workspace"}
    written.write_text(text)


def test_problems__a_reader_that_missed_something_is_seen(passed):
    lost = passed.reader.seen[passed.reader.topic].pop()
    assert said(passed) == {"reader"}
    passed.reader.seen[passed.reader.topic].append(lost)


def test_problems__a_message_that_never_ran_is_seen(passed):
    unheard = replace(passed, scenario=passed.scenario.hearing(Message("Message 1:", ({"text": "Done."},), {})))
    assert said(unheard) == {"heard"}
    lost = replace(passed, scenario=passed.scenario.hearing(Message("Message 1:", (), {"said.txt": "said"})))
    assert said(lost) == {"workspace"}


def test_problems__a_stop_that_was_none_is_seen(passed, monkeypatch):
    stopped = replace(passed, ending=Ending.STOPPED)
    assert said(stopped) == {"history", "feed"}
    path = passed.world.data / "log" / "practice.jsonl"
    before = path.read_text()
    mine = next(line for line in before.splitlines() if json.loads(line)["task"] == passed.task["key"])
    for more, count in (("", 0), (mine + "\n", 1)):
        with monkeypatch.context() as patched:
            patched.setattr(checks, "ENDED_SECONDS", 0.0)  # nothing ends it here
            patched.setattr(checks.time, "sleep", lambda _, more=more: path.write_text(path.read_text() + more))
            assert len(checks.gone_on(stopped)) == count
    path.write_text(before)


def test_problems__half_a_merge_is_seen(passed):
    done = replace(passed, ending=Ending.DONE, scenario=replace(passed.scenario, target="trunk"))
    assert said(done) == {"history", "feed", "workspace"}
