"""A turn that is stopped: by a person, by a watchdog, or by its server, which nobody had asked."""

from __future__ import annotations

from datetime import timedelta

from agents.backend import TurnView
from sessions_app.models import Turn
from sessions_app.services import abort, reconcile
from studio.kernel.clock import now
from tests.sessions_app.test_turns import UNREACHABLE


def test_abort__never_sent_ends_without_a_call(turn, backend, settled):
    assert abort.request_abort(turn_id=turn.pk, reason="stop")
    assert not abort.request_abort(turn_id=turn.pk, reason="stop")
    abort.abort(turn.pk)
    assert backend.aborted == []
    assert settled[0].outcome == "aborted"


def test_abort__running_is_aborted_on_the_server(running, backend, settled):
    abort.request_abort(turn_id=running.pk, reason="stop")
    backend.view = TurnView(state="aborted")
    abort.abort(running.pk)
    abort.abort(running.pk)
    assert backend.aborted == ["ses_1"]
    assert (settled[0].outcome, settled[0].error_code) == ("aborted", "aborted")


def test_abort__of_a_stalled_turn_is_tried_once_more(running, backend, settled):
    abort.request_abort(turn_id=running.pk, reason="stalled")
    backend.view = TurnView(state="aborted", last_answer="msg_cut")
    abort.abort(running.pk)
    running.refresh_from_db()
    assert (running.state, running.retry_code, running.abort_requested_at) == ("admitted", "stalled", None)
    assert settled == []


def aborted_unasked(turn, backend, *, boot):
    """The server aborted the turn, which nobody here had asked for."""
    backend.boot = boot
    backend.view = TurnView(state="aborted", error_code="aborted", last_answer="msg_cut")
    reconcile.reconcile(turn.pk)
    turn.refresh_from_db()


def test_aborted_with_its_server__goes_on_on_the_new_process(running, backend, settled):
    """A studio that is stopped in good order lets the server abort what runs."""
    aborted_unasked(running, backend, boot="boot-2")
    assert (running.state, running.resumes, running.answered_until) == ("admitted", 0, "msg_cut")
    assert settled == []


def test_aborted_while_the_server_is_being_stopped__is_looked_at_again(running, backend, settled):
    aborted_unasked(running, backend, boot="boot-1")
    backend.fail["health"] = UNREACHABLE
    reconcile.reconcile(running.pk)
    assert settled == []


def test_aborted_at_the_server__ends_when_that_goes_on(running, backend, settled):
    Turn.objects.filter(pk=running.pk).update(last_event_at=now() - timedelta(seconds=30))
    aborted_unasked(running, backend, boot="boot-1")
    assert (settled[0].outcome, settled[0].error_code) == ("aborted", "aborted")


def test_abort__by_a_watchdog_is_a_failure(running, backend, settled):
    abort.request_abort(turn_id=running.pk, reason="time_limit")
    backend.view = TurnView(state="aborted")
    abort.abort(running.pk)
    assert (settled[0].outcome, settled[0].error_code) == ("failed", "time_limit")


def test_abort__finished_first_counts_as_finished(running, backend, settled):
    abort.request_abort(turn_id=running.pk, reason="step_limit")
    backend.view = TurnView(state="completed", result_text="in time")
    abort.abort(running.pk)
    assert settled[0].outcome == "completed"


def test_abort__unreachable_server_is_asked_again_then_given_up(running, backend, settled):
    abort.request_abort(turn_id=running.pk, reason="stop")
    backend.fail["abort"] = UNREACHABLE
    abort.abort(running.pk)
    assert settled == []
    Turn.objects.filter(pk=running.pk).update(abort_requested_at=now() - timedelta(minutes=2))
    abort.abort(running.pk)
    assert settled[0].outcome == "aborted"


def test_abort__died_while_stopping_is_stopped(running, backend, settled):
    abort.request_abort(turn_id=running.pk, reason="stop")
    backend.view = TurnView(state="died")
    abort.abort(running.pk)
    assert settled[0].outcome == "aborted"
