"""Making sure that what was stopped has stopped, in the moments that cannot be made for real."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agents.backend import TurnView
from sessions_app.models import AgentSession, SubSession, Turn, TurnOutcome
from sessions_app.services import abort, dispatch, reconcile, settle, stopping, turns
from sessions_app.services.sweep import sweep
from studio.kernel.clock import now
from studio.kernel.errors import Upstream

DOWN = Upstream("Nobody answers.", code="server_unreachable", transient=True)


@pytest.fixture
def stopped(turn, session, backend):
    """A turn that was stopped while the server was out of reach."""
    AgentSession.objects.filter(pk=session.pk).update(external_id="ses_1")
    Turn.objects.filter(pk=turn.pk).update(
        state="running", started_at=now(), server_boot="boot-1", abort_requested_at=now(), abort_reason="stopped"
    )
    fresh = Turn.objects.get(pk=turn.pk)
    settle.settle_stopped(fresh, message="The agent server could not be reached to stop the turn.")
    fresh.refresh_from_db()
    return fresh


def is_confirmed(turn) -> bool:
    turn.refresh_from_db()
    return not turn.unconfirmed


def test_settle__a_turn_that_was_stopped_is_asked_about(stopped, requested_jobs, django_capture_on_commit_callbacks):
    assert stopped.unconfirmed
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    assert ("sessions.confirm_stopped", (str(stopped.pk),)) in requested_jobs


def test_settle__a_turn_that_ended_by_itself_is_not_asked_about(turn):
    Turn.objects.filter(pk=turn.pk).update(state="running", started_at=now())
    settle.settle(turn.pk, TurnOutcome.COMPLETED)
    assert is_confirmed(turn)


def test_confirm__an_idle_server_is_enough(stopped, backend):
    assert stopping.confirm_stopped(stopped.pk)
    assert is_confirmed(stopped)
    assert backend.aborted == []
    assert not stopping.confirm_stopped(stopped.pk)


def test_confirm__stops_the_session_and_its_sub_agents_until_they_are_idle(stopped, backend):
    SubSession.objects.create(session=stopped.session, external_id="ses_child", parent_external_id="ses_1")
    backend.working = {"ses_1", "ses_child", "ses_of_somebody_else"}
    assert not stopping.confirm_stopped(stopped.pk)
    assert set(backend.aborted) == {"ses_1", "ses_child"}
    assert not is_confirmed(stopped)
    backend.working = {"ses_of_somebody_else"}
    assert stopping.confirm_stopped(stopped.pk)


def test_confirm__an_unreachable_server_is_asked_again_later_and_later(stopped, backend):
    backend.fail["busy"] = DOWN
    assert not stopping.confirm_stopped(stopped.pk)
    stopped.refresh_from_db()
    assert now() < stopped.next_try_at <= now() + timedelta(seconds=3)
    assert stopping.unconfirmed_now() == []
    Turn.objects.filter(pk=stopped.pk).update(settled_at=now() - timedelta(hours=1), next_try_at=None)
    assert stopping.unconfirmed_now() == [stopped.pk]
    stopping.confirm_stopped(stopped.pk)
    stopped.refresh_from_db()
    assert stopped.next_try_at > now() + timedelta(seconds=50)
    backend.fail.clear()
    assert stopping.confirm_stopped(stopped.pk)


def test_confirm__a_managed_server_that_was_replaced_took_the_turn_with_it(stopped, backend, server):
    server.managed, server.boot = True, "boot-2"
    server.save()
    backend.fail["busy"] = DOWN
    assert stopping.confirm_stopped(stopped.pk)


def test_confirm__what_a_later_turn_of_the_session_does_is_not_the_stopped_ones(stopped, backend):
    later = turns.admit_turn(session=stopped.session, prompt="More", max_steps=9, wall_seconds=60, idle_seconds=30)
    Turn.objects.filter(pk=later.pk).update(state="running", started_at=now())
    backend.working = {"ses_1"}
    assert stopping.confirm_stopped(stopped.pk)
    assert backend.aborted == []


def test_confirm__ends_stray_commands_only_while_nobody_works_there(stopped, backend, server, monkeypatch):
    ended = []
    monkeypatch.setattr("sessions_app.services.stopping.end_strays", lambda mark, directory: ended.append(directory))
    server.managed = True
    server.save()
    other = turns.open_session(
        workspace=stopped.session.workspace, server=server, role="planner", title="B", agent="a", model=""
    )
    theirs = turns.admit_turn(session=other, prompt="More", max_steps=9, wall_seconds=60, idle_seconds=30)
    Turn.objects.filter(pk=theirs.pk).update(state="running", started_at=now())
    assert stopping.confirm_stopped(stopped.pk)
    assert ended == []
    Turn.objects.filter(pk=theirs.pk).update(state="settled")
    Turn.objects.filter(pk=stopped.pk).update(unconfirmed=True)
    assert stopping.confirm_stopped(stopped.pk)
    assert ended == [stopped.session.directory]


def test_dispatch__nothing_is_sent_into_a_workspace_that_may_be_at_work(stopped, backend, server):
    waiting = turns.admit_turn(session=stopped.session, prompt="More", max_steps=9, wall_seconds=60, idle_seconds=30)
    dispatch.dispatch(waiting.pk)
    assert backend.prompts == []
    stopping.confirm_stopped(stopped.pk)
    dispatch.dispatch(waiting.pk)
    assert len(backend.prompts) == 1


def test_reconcile__a_stopped_agent_that_answered_to_half_the_work_has_not_completed(turn, session, backend):
    AgentSession.objects.filter(pk=session.pk).update(external_id="ses_1")
    Turn.objects.filter(pk=turn.pk).update(state="running", started_at=now())
    abort.request_abort(turn_id=turn.pk, reason="stopped")
    backend.view = TurnView(state="completed", result_text="Done.", cut_off=True)
    reconcile.reconcile(turn.pk)
    turn.refresh_from_db()
    assert (turn.outcome, turn.error_code) == ("aborted", "aborted")


def test_reconcile__a_turn_that_ended_before_it_could_be_stopped_has_completed(turn, session, backend):
    AgentSession.objects.filter(pk=session.pk).update(external_id="ses_1")
    Turn.objects.filter(pk=turn.pk).update(state="running", started_at=now())
    abort.request_abort(turn_id=turn.pk, reason="stopped")
    backend.view = TurnView(state="completed", result_text="Done.")
    reconcile.reconcile(turn.pk)
    turn.refresh_from_db()
    assert turn.outcome == "completed"


def test_dispatch__a_prompt_that_may_have_arrived_is_asked_about_when_it_is_given_up(turn, backend):
    Turn.objects.filter(pk=turn.pk).update(attempts=dispatch.GIVE_UP_TRIES)
    backend.fail["admit"] = DOWN
    dispatch.dispatch(turn.pk)
    turn.refresh_from_db()
    assert (turn.state, turn.error_code, turn.unconfirmed) == ("settled", "server_unreachable", True)
