"""The limits of a turn: what ends it, what does not, and what a tick costs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.backend import LogEntry
from sessions_app import log
from sessions_app.bridge.loops import SAME_ANSWERS, SAME_CALLS, circling, steps_of
from sessions_app.bridge.watchdogs import Watchdogs
from sessions_app.models import Ask, Turn
from sessions_app.services import clock, turns
from studio.kernel.clock import later, now


def overdue(turn, *, steps: int = 0, watchdogs: Watchdogs | None = None, **ago: float | None) -> str:
    """The reason for which the watchdog ends a running turn; moments are seconds ago, None for never."""
    seconds = {"started_at": 0.0, "last_event_at": 0.0, **ago}
    moments = {name: None if value is None else now() - timedelta(seconds=value) for name, value in seconds.items()}
    Turn.objects.filter(pk=turn.pk).update(state="running", steps=steps, **moments)
    (watchdogs or Watchdogs(turn.session.server_id)).watch()
    turn.refresh_from_db()
    return turn.abort_reason


def say(turn, number: int, *, text: str = "", call: tuple[str, dict] | None = None, **more) -> None:
    """One answer of the model, as the log has it."""
    entries = []
    if text:
        entries.append(LogEntry("text", f"text:{number}", {"part": f"{number}", "text": text, **more}, now()))
    if call:
        data = {"part": f"c{number}", "tool": call[0], "input": call[1], "output": f"{number}", **more}
        entries.append(LogEntry("tool.finished", f"tool.finished:{number}", data, now()))
    entries.append(LogEntry("step.finished", f"step:{number}", {"part": f"s{number}", **more}, now()))
    log.append(turn.session_id, entries)


def answer(turn, count: int, **answer) -> str:
    """Let the model answer so often, and watch; the reason for which the turn is ended."""
    Turn.objects.filter(pk=turn.pk).update(state="running", started_at=now(), max_steps=1000)
    begun = Turn.objects.get(pk=turn.pk).steps
    for number in range(begun, begun + count):
        say(turn, number, **answer)
    Watchdogs(turn.session.server_id).watch()
    turn.refresh_from_db()
    return turn.abort_reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, ""),
        ({"started_at": 61}, "time_limit"),
        ({"steps": 3}, ""),
        ({"steps": 4}, "step_limit"),
        ({"started_at": 40, "last_event_at": 31}, "stalled"),
        ({"started_at": 40, "last_event_at": None}, "stalled"),
        ({"started_at": 40, "last_event_at": 35, "retry_at": -20}, ""),
    ],
)
def test_watch__ends_what_passes_a_limit(turn, fields, reason):
    assert overdue(turn, **fields) == reason


def test_watch__waiting_for_a_person_is_neither_work_nor_silence(turn, session):
    Ask.objects.create(session=session, turn=turn, kind="question", external_id="que_1", directory="/w", title="Which?")
    assert overdue(turn, started_at=500, last_event_at=490, waiting_since=480) == ""
    assert turn.waiting_since is not None
    assert overdue(turn, started_at=50, last_event_at=40, waiting_since=None) == ""
    assert turn.waiting_since is not None


def test_watch__a_clock_that_nobody_holds_any_more_goes_on(turn):
    watchdogs = Watchdogs(turn.session.server_id)
    assert overdue(turn, watchdogs=watchdogs, started_at=59, last_event_at=59, waiting_since=58) == ""
    assert turn.waiting_since is None
    assert overdue(turn, watchdogs=watchdogs, started_at=59, last_event_at=31) == "stalled"


def test_watch__a_wait_for_the_next_try_stops_the_clock_and_counts_as_waited(turn):
    watchdogs = Watchdogs(turn.session.server_id)
    assert overdue(turn, watchdogs=watchdogs, started_at=50, last_event_at=40, retry_at=-3600) == ""
    assert turn.waiting_since is not None
    later_on = {"started_at": 3650, "last_event_at": 3640, "retry_at": 1, "waiting_since": 3601}
    assert overdue(turn, watchdogs=watchdogs, **later_on) == ""
    assert turn.waiting_since is None
    assert 3600 < turn.waited_seconds < 3610
    assert overdue(turn, watchdogs=watchdogs, started_at=3665, last_event_at=0) == "time_limit"


def test_go_many__leaves_alone_what_changed_since_it_was_read(turn):
    Turn.objects.filter(pk=turn.pk).update(waiting_since=now() - timedelta(seconds=10))
    read = Turn.objects.get(pk=turn.pk)
    again = now()
    Turn.objects.filter(pk=turn.pk).update(waiting_since=again)
    clock.go_many([read])
    turn.refresh_from_db()
    assert (turn.waiting_since, turn.waited_seconds) == (again, 0)


def test_watch__a_provider_that_answers_with_nothing_is_ended_early(turn):
    """An endless loop of empty answers is the provider's fault, not a profile's limit."""
    assert answer(turn, SAME_ANSWERS - 1) == ""
    assert answer(turn, 1) == "provider_error"
    assert "without any content" in turn.error_message


def test_watch__a_provider_that_falls_silent_after_good_answers_is_ended_too(turn):
    assert answer(turn, 3, text="Working", call=("bash", {"command": "make"})) == ""
    assert answer(turn, SAME_ANSWERS) == "provider_error"


def test_watch__the_same_words_again_and_again_are_a_loop(turn):
    assert answer(turn, SAME_ANSWERS - 1, text="I am done.") == ""
    assert answer(turn, 1, text="I am done.") == "looping"


def test_watch__the_same_call_again_and_again_is_a_loop(turn):
    assert answer(turn, SAME_CALLS - 1, call=("read", {"filePath": "a.py"})) == ""
    assert answer(turn, 1, call=("read", {"filePath": "a.py"})) == "looping"


def test_watch__the_same_words_before_different_calls_go_on(turn):
    for number in range(SAME_CALLS + 2):
        assert answer(turn, 1, text="Next.", call=("read", {"filePath": f"{number}.py"})) == ""


def test_circling__what_sub_agents_repeat_is_not_the_agents_loop():
    answered = [("tool.finished", {"tool": "read", "input": {}, "child": "ses_child"})]
    answered += [("step.finished", {"child": "ses_child"})]
    assert steps_of(answered * 20) == []


def test_watch__answers_of_an_earlier_turn_do_not_count(turn, session):
    assert answer(turn, SAME_ANSWERS - 1, text="I am done.") == ""
    Turn.objects.filter(pk=turn.pk).update(state="settled", outcome="completed")
    following = turns.admit_turn(session=session, prompt="More", max_steps=9, wall_seconds=60, idle_seconds=30)
    assert answer(following, 0) == ""
    Turn.objects.filter(pk=following.pk).update(steps=SAME_ANSWERS)
    say(following, 100, text="I am done.")
    Watchdogs(session.server_id).watch()
    following.refresh_from_db()
    assert following.abort_reason == ""


def test_circling__is_not_what_alternates():
    calls = [("tool.finished", {"tool": "bash", "input": {"command": name}}) for name in "ab"]
    entries = [entry for _ in range(20) for call in calls for entry in (call, ("step.finished", {}))]
    assert circling(steps_of(entries)) == ""


def test_watch__a_tick_costs_the_same_for_one_turn_and_for_many(turn, workspace, server):
    def statements() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            Watchdogs(server.pk).watch()
        return len(seen)

    def run(one) -> None:
        Turn.objects.filter(pk=one.pk).update(
            state="running", started_at=now(), steps=9, max_steps=99, retry_at=later(60)
        )
        say(one, 1, text=str(one.pk))

    run(turn)
    one = statements()
    for number in range(30):
        session = turns.open_session(
            workspace=workspace, server=server, role="planner", title=f"{number}", agent="studio-planner", model=""
        )
        run(turns.admit_turn(session=session, prompt="Plan", max_steps=9, wall_seconds=60, idle_seconds=30))
    assert statements() <= one
