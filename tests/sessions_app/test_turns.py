"""A turn from its admission to its end, with a server whose faults are chosen."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agents.backend import LogEntry, TurnView
from sessions_app.models import SessionEvent, Turn, TurnOutcome
from sessions_app.services import abort, clock, dispatch, pause, reconcile, retries, settle, stopping, sweep, turns
from studio.kernel.clock import later, now
from studio.kernel.errors import Conflict, NotFound, Upstream

UNREACHABLE = Upstream("The agent server did not answer.", code="server_unreachable", transient=True)


def kinds(session) -> list[str]:
    return list(SessionEvent.objects.filter(session=session).order_by("seq").values_list("kind", flat=True))


def test_admit__asks_for_dispatch_after_the_commit(session, requested_jobs, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        turn = turns.admit_turn(session=session, prompt="x", max_steps=1, wall_seconds=10, idle_seconds=5)
    assert requested_jobs == [("sessions.dispatch_turn", (str(turn.pk),))]
    assert turn.message_id.startswith("msg_")
    assert turn.part_id.startswith("prt_")


def test_admit__second_active_turn_is_a_conflict(session, turn):
    with pytest.raises(Conflict):
        turns.admit_turn(session=session, prompt="again", max_steps=1, wall_seconds=10, idle_seconds=5)


def test_dispatch__sends_once_and_runs(session, turn, backend):
    dispatch.dispatch(turn.pk)
    dispatch.dispatch(turn.pk)
    turn.refresh_from_db()
    assert (turn.state, turn.attempts, turn.lease_until) == ("running", 1, None)
    assert [prompt.message_id for prompt in backend.prompts] == [turn.message_id]
    assert len(backend.attached) == 1
    assert kinds(session) == ["turn.started"]


def test_dispatch__held_by_another_worker_is_left_alone(turn, backend):
    Turn.objects.filter(pk=turn.pk).update(lease_until=later(30), lease_epoch=1)
    dispatch.dispatch(turn.pk)
    assert backend.prompts == []


def test_dispatch__a_crash_after_the_post_sends_the_same_ids_again(turn, backend):
    """The worker died between the POST and the row: the lease runs out, the same prompt goes out again."""
    backend.during_admit = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        dispatch.dispatch(turn.pk)
    backend.during_admit = None
    dispatch.dispatch(turn.pk)
    assert len(backend.prompts) == 1  # the lease still holds
    Turn.objects.filter(pk=turn.pk).update(lease_until=now() - timedelta(seconds=1))
    dispatch.dispatch(turn.pk)
    assert {(prompt.message_id, prompt.part_id) for prompt in backend.prompts} == {(turn.message_id, turn.part_id)}
    assert len(backend.prompts) == 2
    assert len(backend.opened) == 1
    turn.refresh_from_db()
    assert turn.state == "running"


def test_dispatch__unreachable_server_is_tried_again_later(turn, backend):
    backend.fail["open_session"] = UNREACHABLE
    dispatch.dispatch(turn.pk)
    turn.refresh_from_db()
    assert turn.state == "dispatching"
    assert turn.next_try_at > now()
    assert turn.lease_until is None
    backend.fail.clear()
    dispatch.dispatch(turn.pk)  # not due yet
    assert backend.prompts == []
    Turn.objects.filter(pk=turn.pk).update(next_try_at=now())
    dispatch.dispatch(turn.pk)
    assert len(backend.prompts) == 1


def test_dispatch__gives_up_after_ten_minutes_of_tries(turn, backend, settled):
    Turn.objects.filter(pk=turn.pk).update(attempts=dispatch.GIVE_UP_TRIES)
    backend.fail["admit"] = UNREACHABLE
    dispatch.dispatch(turn.pk)
    assert (settled[0].outcome, settled[0].error_code) == ("failed", "server_unreachable")


def test_dispatch__unknown_model_is_rejected(turn, backend, settled):
    backend.fail["admit"] = Upstream("No such model.", code="model_not_found")
    dispatch.dispatch(turn.pk)
    assert (settled[0].outcome, settled[0].error_code) == ("rejected", "model_not_found")


def test_dispatch__session_lost_before_anything_was_sent_is_opened_anew(turn, backend):
    backend.fail["admit"] = NotFound("gone")
    dispatch.dispatch(turn.pk)
    backend.fail.clear()
    dispatch.dispatch(turn.pk)
    turn.refresh_from_db()
    assert (turn.state, backend.opened) == ("running", ["Plan DEMO-1", "Plan DEMO-1"])


def test_dispatch__session_lost_later_is_for_a_person_to_decide(running, backend):
    reconcile.resume(running)
    backend.fail["admit"] = NotFound("gone")
    dispatch.dispatch(running.pk)
    running.refresh_from_db()
    assert running.state == "unknown"


def test_dispatch__stopped_while_the_prompt_goes_out_is_aborted_there(turn, backend):
    def stop() -> None:
        abort.request_abort(turn_id=turn.pk, reason="stop")
        settle.settle(turn.pk, TurnOutcome.ABORTED)
        assert stopping.confirm_stopped(turn.pk)  # nothing runs there yet
        backend.working.add("ses_1")

    backend.during_admit = stop
    dispatch.dispatch(turn.pk)
    assert not stopping.confirm_stopped(turn.pk)
    assert backend.aborted == ["ses_1"]


def test_dispatch__settled_by_the_bridge_before_the_row_says_running(turn, backend, settled):
    """A turn may be over before its dispatch has returned."""

    def finish() -> None:
        backend.view = TurnView(state="completed", result_text="done")
        reconcile.reconcile(turn.pk)

    backend.during_admit = finish
    dispatch.dispatch(turn.pk)
    turn.refresh_from_db()
    assert (turn.state, turn.outcome) == ("settled", "completed")
    assert backend.aborted == []
    assert len(settled) == 1


def test_reconcile__running_stays_running(running, backend):
    backend.view = TurnView(
        state="running", retry_note="429", events=[LogEntry("text", "text:p", {"text": "x"}, now())]
    )
    reconcile.reconcile(running.pk)
    running.refresh_from_db()
    assert (running.state, running.retry_note) == ("running", "429")
    assert "text" in kinds(running.session)


def test_reconcile__completed_settles_once(running, backend, settled):
    backend.view = TurnView(state="completed", result_text="All\x00 done")
    reconcile.reconcile(running.pk)
    reconcile.reconcile(running.pk)
    assert [turn.result_text for turn in settled] == ["All done"]
    assert kinds(running.session) == ["turn.started", "turn.settled"]


@pytest.mark.parametrize("state", ["failed", "rejected"])
def test_reconcile__failure_keeps_its_code(running, backend, settled, state):
    backend.view = TurnView(state=state, error_code="provider_auth", error_message="401")
    reconcile.reconcile(running.pk)
    assert (settled[0].outcome, settled[0].error_code) == (state, "provider_auth")


def test_reconcile__unreachable_server_changes_nothing(running, backend):
    backend.fail["view_turn"] = UNREACHABLE
    reconcile.reconcile(running.pk)
    running.refresh_from_db()
    assert running.state == "running"


def test_reconcile__died_just_after_the_post_is_not_believed(running, backend):
    backend.view = TurnView(state="died")
    reconcile.reconcile(running.pk)
    running.refresh_from_db()
    assert (running.state, running.resumes) == ("running", 0)


def test_reconcile__died_with_its_server_is_resumed_under_the_same_ids(running, backend):
    running.session.server.boot = "boot-2"
    running.session.server.save(update_fields=["boot"])
    backend.view = TurnView(state="died")
    reconcile.reconcile(running.pk)
    dispatch.dispatch(running.pk)
    running.refresh_from_db()
    assert (running.state, running.resumes, running.server_boot) == ("running", 1, "boot-2")
    assert len({prompt.message_id for prompt in backend.prompts}) == 1
    assert "turn.resumed" in kinds(running.session)


def test_reconcile__dies_for_ever_fails_at_last(running, backend, settled):
    Turn.objects.filter(pk=running.pk).update(resumes=reconcile.MAX_RESUMES, server_boot="older")
    backend.view = TurnView(state="died")
    reconcile.reconcile(running.pk)
    assert settled[0].error_code == "server_unreachable"


@pytest.fixture
def unknown(running, backend):
    """A turn whose server has lost everything."""
    backend.view = TurnView(state="absent")
    reconcile.reconcile(running.pk)
    running.refresh_from_db()
    assert running.state == "unknown"
    return running


def test_unknown__is_visible_and_waits_for_a_person(unknown, settled):
    reconcile.reconcile(unknown.pk)
    sweep.sweep()
    unknown.refresh_from_db()
    assert (unknown.state, unknown.error_code) == ("unknown", "session_lost")
    assert unknown.waiting_since is not None
    assert kinds(unknown.session)[-1] == "turn.unknown"
    assert settled == []


def test_unknown__retried_goes_to_a_fresh_session_under_fresh_ids(unknown, backend):
    before = unknown.message_id
    retries.retry_unknown(turn_id=unknown.pk)
    dispatch.dispatch(unknown.pk)
    unknown.refresh_from_db()
    assert (unknown.state, unknown.session.external_id) == ("running", "ses_2")
    assert unknown.message_id != before
    assert backend.prompts[-1].text.endswith(retries.LOST_NOTE)
    assert unknown.session.broken == ""
    with pytest.raises(Conflict):
        retries.retry_unknown(turn_id=unknown.pk)


def test_unknown__that_was_held_is_sent_when_a_person_says_so(unknown, backend):
    Turn.objects.filter(pk=unknown.pk).update(hold="budget")
    retries.retry_unknown(turn_id=unknown.pk)
    backend.fail.clear()
    dispatch.dispatch(unknown.pk)
    unknown.refresh_from_db()
    assert (unknown.state, unknown.hold) == ("running", "")


def test_unknown__given_up_has_failed(unknown, settled):
    retries.abandon_unknown(turn_id=unknown.pk)
    assert (settled[0].outcome, settled[0].error_code) == ("failed", "session_lost")


def test_unknown__can_be_stopped(unknown, backend, settled):
    abort.request_abort(turn_id=unknown.pk, reason="stopped")
    abort.abort(unknown.pk)
    assert settled[0].outcome == "aborted"


PASSING = TurnView(
    state="failed", error_code="rate_limited", error_message="429", retryable=True, last_answer="msg_failed"
)


def test_retry__of_a_passing_error_is_planned_visibly_and_sent_under_the_same_ids(running, backend, settled):
    backend.view = PASSING
    reconcile.reconcile(running.pk)
    running.refresh_from_db()
    assert (running.state, running.retries, running.retry_code) == ("admitted", 1, "rate_limited")
    assert retries.next_try(running) > now()
    assert running.waiting_since is not None
    assert kinds(running.session)[-1] == "turn.retrying"
    dispatch.dispatch(running.pk)
    assert len(backend.prompts) == 1  # not before its time
    assert retries.try_now(turn_id=running.pk)
    dispatch.dispatch(running.pk)
    running.refresh_from_db()
    assert (running.state, running.answered_until, running.waiting_since) == ("running", "msg_failed", None)
    assert {prompt.message_id for prompt in backend.prompts} == {running.message_id}
    assert settled == []


def test_retry__ends_with_its_budget(running, backend, settled):
    Turn.objects.filter(pk=running.pk).update(retries=retries.POLICIES["rate_limited"].tries)
    backend.view = PASSING
    reconcile.reconcile(running.pk)
    assert settled[0].error_code == "rate_limited"


def test_retry__waits_longer_each_time_up_to_a_cap():
    policy = retries.POLICIES["rate_limited"]
    delays = [retries.delay_for(policy, count) for count in range(12)]
    assert all(0.75 * min(policy.cap, policy.first * 2**count) <= one for count, one in enumerate(delays))
    assert max(delays) <= 1.25 * policy.cap


def test_retry__of_an_error_that_stays_is_not_planned(running, backend, settled):
    backend.view = TurnView(state="failed", error_code="provider_error", error_message="bad request")
    reconcile.reconcile(running.pk)
    assert settled[0].error_code == "provider_error"


@pytest.mark.parametrize("how", ["rate_limited", "stalled"])
def test_retry__planned_by_somebody_else_meanwhile_is_kept(running, backend, settled, monkeypatch, how):
    """The bridge hears of the end while the job that asked for it reads the server."""
    if how == "stalled":
        abort.request_abort(turn_id=running.pk, reason="stalled")
        backend.view = TurnView(state="aborted", last_answer="msg_a")
    else:
        backend.view = TurnView(state="failed", error_code=how, retryable=True, last_answer="msg_a")
    view_turn = backend.view_turn

    def view(**given):
        monkeypatch.setattr(backend, "view_turn", view_turn)
        reconcile.reconcile(running.pk)
        return view_turn(**given)

    monkeypatch.setattr(backend, "view_turn", view)
    reconcile.reconcile(running.pk)
    running.refresh_from_db()
    assert (running.state, running.retry_code, running.retries, settled) == ("admitted", how, 1, [])


def test_pause__holds_the_turn_and_release_sends_the_same_ids(running, backend, settled):
    assert pause.pause_turn(turn_id=running.pk, reason="budget")
    assert not pause.pause_turn(turn_id=running.pk, reason="budget")
    pause.stop_on_server(running.pk)
    assert backend.aborted == ["ses_1"]
    backend.view = TurnView(state="aborted", error_code="aborted", last_answer="msg_cut")
    reconcile.reconcile(running.pk)
    dispatch.dispatch(running.pk)
    sweep.sweep()
    running.refresh_from_db()
    assert (running.state, running.hold, running.answered_until) == ("admitted", "budget", "msg_cut")
    assert pause.release_turn(turn_id=running.pk)
    assert not pause.release_turn(turn_id=running.pk)
    dispatch.dispatch(running.pk)
    running.refresh_from_db()
    assert (running.state, running.hold, running.waiting_since) == ("running", "", None)
    assert {prompt.message_id for prompt in backend.prompts} == {running.message_id}
    assert settled == []


def test_pause__released_before_the_server_stopped_goes_on_all_the_same(running, backend, settled):
    pause.pause_turn(turn_id=running.pk, reason="budget")
    assert pause.release_turn(turn_id=running.pk)
    backend.view = TurnView(state="aborted", error_code="aborted", last_answer="msg_cut")
    reconcile.reconcile(running.pk)
    dispatch.dispatch(running.pk)
    running.refresh_from_db()
    assert (running.state, running.hold) == ("running", "")
    assert settled == []


def test_pause__released_before_the_server_stopped_leaves_nothing_behind(running, backend):
    pause.pause_turn(turn_id=running.pk, reason="budget")
    pause.release_turn(turn_id=running.pk)
    assert pause.pause_turn(turn_id=running.pk, reason="budget")
    pause.release_turn(turn_id=running.pk)
    backend.view = TurnView(state="failed", error_code="rate_limited", retryable=True, last_answer="msg_a")
    reconcile.reconcile(running.pk)
    assert retries.try_now(turn_id=running.pk)
    dispatch.dispatch(running.pk)
    running.refresh_from_db()
    assert (running.state, running.hold) == ("running", "")


def test_pause__of_a_turn_that_completes_first_changes_nothing(running, backend, settled):
    pause.pause_turn(turn_id=running.pk, reason="budget")
    backend.view = TurnView(state="completed", result_text="done")
    reconcile.reconcile(running.pk)
    running.refresh_from_db()
    assert (settled[0].outcome, running.hold, running.waiting_since) == ("completed", "", None)


def test_clock__does_not_count_what_a_turn_waited(running):
    Turn.objects.filter(pk=running.pk).update(started_at=now() - timedelta(seconds=100))
    clock.hold(running.pk)
    Turn.objects.filter(pk=running.pk).update(waiting_since=now() - timedelta(seconds=60))
    running.refresh_from_db()
    assert 39 < clock.worked(running) < 42
    clock.go(running.pk)
    clock.go(running.pk)
    running.refresh_from_db()
    assert 39 < clock.worked(running) < 42


def test_settle__fences_off_whoever_still_works(running):
    epoch = running.lease_epoch
    settle.settle(running.pk, TurnOutcome.COMPLETED)
    running.refresh_from_db()
    assert running.lease_epoch > epoch
    assert not settle.settle(running.pk, TurnOutcome.FAILED)
    assert running.outcome == "completed"


def test_sweep__rings_for_what_is_due(turn, requested_jobs, django_capture_on_commit_callbacks, monkeypatch):
    monkeypatch.setattr(sweep, "OVERDUE", timedelta(hours=1))  # however slow the machine is
    with django_capture_on_commit_callbacks(execute=True):
        assert sweep.sweep() == 0
        Turn.objects.filter(pk=turn.pk).update(created_at=later(-7200))
        assert sweep.sweep() == 1
        Turn.objects.filter(pk=turn.pk).update(lease_until=later(5))
        assert sweep.sweep() == 0
        Turn.objects.filter(pk=turn.pk).update(lease_until=None, state="running")
        assert sweep.sweep() == 1  # no bridge follows the server
        Turn.objects.filter(pk=turn.pk).update(abort_requested_at=later(-7200))
        sweep.sweep()
    assert {name for name, _ in requested_jobs} == {
        "sessions.dispatch_turn",
        "sessions.reconcile_turn",
        "sessions.abort_turn",
    }
