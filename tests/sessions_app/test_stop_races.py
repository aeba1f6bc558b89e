"""A person's stop, whatever else happens to the turn in the same moment: nothing of it goes on, and it comes to an end."""

from __future__ import annotations

import pytest

from agents.backend import LogEntry, TurnView
from sessions_app import log
from sessions_app.models import InboxItem
from sessions_app.services import abort, dispatch, inbox, pause, reconcile, steer, stopping, sweep
from studio.kernel.clock import now
from studio.kernel.errors import Upstream
from tests.factories import make_profiles
from tests.fakes.model_server import ModelServer


@pytest.fixture
def running(turn, backend):
    make_profiles()
    dispatch.dispatch(turn.pk)
    turn.refresh_from_db()
    return turn


@pytest.fixture
def model_server(monkeypatch):
    make_profiles()
    server = ModelServer()
    for module in ("dispatch", "reconcile", "abort", "pause", "steer", "stopping"):
        monkeypatch.setattr(f"sessions_app.services.{module}.backend_for", lambda _: server)
    return server


@pytest.fixture
def model(model_server, turn, session):
    """A server that runs the turn and has stored its prompt."""
    dispatch.dispatch(turn.pk)
    session.refresh_from_db()
    log.append(session.pk, [LogEntry("user", f"user:{turn.message_id}", {"text": turn.prompt}, now())])
    return model_server


@pytest.mark.parametrize("reason", ["stopped", "operator"])
def test_stop__after_a_watchdog_is_not_tried_again(running, backend, reason):
    assert abort.request_abort(turn_id=running.pk, reason="stalled")
    assert abort.request_abort(turn_id=running.pk, reason=reason)
    assert not abort.request_abort(turn_id=running.pk, reason="stopped")
    backend.view = TurnView(state="aborted", last_answer="msg_a")
    abort.abort(running.pk)
    running.refresh_from_db()
    assert (running.state, running.outcome, running.error_code) == ("settled", "aborted", "aborted")


def test_stop__while_a_retry_is_planned_is_kept(running, backend, monkeypatch):
    abort.request_abort(turn_id=running.pk, reason="stalled")
    view_turn = backend.view_turn

    def view(**given):
        abort.request_abort(turn_id=running.pk, reason="stopped")
        return view_turn(**given)

    monkeypatch.setattr(backend, "view_turn", view)
    backend.view = TurnView(state="aborted", last_answer="msg_a")
    reconcile.reconcile(running.pk)
    reconcile.reconcile(running.pk)
    running.refresh_from_db()
    assert (running.state, running.outcome) == ("settled", "aborted")


def test_stop__after_interrupt_and_send_opens_no_turn(session, running, backend):
    inbox.interrupt_and_send(session=session, text="Do it otherwise.", actor=None)
    abort.request_abort(turn_id=running.pk, reason="stopped")
    backend.view = TurnView(state="aborted", last_answer="msg_a")
    abort.abort(running.pk)
    assert not session.turns.exclude(state="settled").exists()
    assert InboxItem.objects.get().state == "waiting"


def test_stop__of_a_turn_that_completes_first_opens_no_turn(
    session, running, backend, requested_jobs, django_capture_on_commit_callbacks
):
    item = inbox.post(session=session, text="And then this.", delivery="queue")
    InboxItem.objects.filter(pk=item.pk).update(created_at=now() - 2 * sweep.OVERDUE)
    abort.request_abort(turn_id=running.pk, reason="stopped")
    backend.view = TurnView(state="completed", last_answer="msg_a")
    abort.abort(running.pk)
    running.refresh_from_db()
    assert (running.state, running.outcome) == ("settled", "completed")
    requested_jobs.clear()
    with django_capture_on_commit_callbacks(execute=True):
        sweep.sweep()
    assert "sessions.open_next_turn" not in [name for name, _ in requested_jobs]
    assert not session.turns.exclude(state="settled").exists()


@pytest.mark.parametrize("arrived", [False, True])
@pytest.mark.parametrize("how", ["stopped", "released"])
def test_steer__whose_answer_was_lost_does_not_keep_a_turn_for_ever(turn, session, model, monkeypatch, how, arrived):
    inbox.post(session=session, text="This way.", delivery="steer")
    admit = model.admit

    def cut_off(prompt):
        if arrived:
            admit(prompt)
        raise Upstream("timed out", code="server_unreachable", transient=True)

    with monkeypatch.context() as patched:
        patched.setattr(model, "admit", cut_off)
        steer.deliver(session.pk)
    model.step(session.external_id, more=False)
    if how == "stopped":
        abort.request_abort(turn_id=turn.pk, reason="stopped")
    else:
        pause.pause_turn(turn_id=turn.pk, reason="budget")
        pause.release_turn(turn_id=turn.pk)
    for _ in range(3):  # what bridge and sweeper ring for
        InboxItem.objects.update(next_try_at=None)
        abort.abort(turn.pk)
        reconcile.reconcile(turn.pk)
        steer.deliver(session.pk)
        model.step(session.external_id, more=False)
    turn.refresh_from_db()
    assert turn.state == "settled"


def test_steer__that_arrives_after_the_stop_lets_no_agent_run_unseen(turn, session, model, monkeypatch):
    inbox.post(session=session, text="This way.", delivery="steer")
    admit = model.admit

    def late(prompt):  # the worker is slow between its claim and its request
        abort.request_abort(turn_id=turn.pk, reason="stopped")
        abort.abort(turn.pk)
        stopping.confirm_stopped(turn.pk)
        admit(prompt)

    monkeypatch.setattr(model, "admit", late)
    steer.deliver(session.pk)
    assert model.running
    for turn_id in stopping.unconfirmed_now():
        stopping.confirm_stopped(turn_id)
    turn.refresh_from_db()
    assert (turn.state, model.running) == ("settled", set())


@pytest.mark.parametrize("answered", [True, False])
def test_prompt__that_arrives_after_the_stop_lets_no_agent_run_unseen(turn, model_server, monkeypatch, answered):
    admit = model_server.admit

    def late(prompt):  # the worker is slow between its last look at the turn and its request
        abort.request_abort(turn_id=turn.pk, reason="stopped")
        abort.abort(turn.pk)
        stopping.confirm_stopped(turn.pk)
        admit(prompt)
        if not answered:
            raise Upstream("timed out", code="server_unreachable", transient=True)

    monkeypatch.setattr(model_server, "admit", late)
    dispatch.dispatch(turn.pk)
    assert model_server.running
    for turn_id in stopping.unconfirmed_now():
        stopping.confirm_stopped(turn_id)
    turn.refresh_from_db()
    assert (turn.state, turn.outcome, model_server.running) == ("settled", "aborted", set())
