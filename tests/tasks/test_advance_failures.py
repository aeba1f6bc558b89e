from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessions_app.models import Turn, TurnOutcome
from studio.kernel.errors import Invalid, Upstream
from studio.queue import Names
from tasks.choices import ERRORS, Needs, Phase, RunPhaseState, RunState, Status
from tasks.models import PhaseRun, Plan
from tasks.services import results, steps
from tasks.services.advance import advance_turn
from tests.factories import settle_turn
from tests.repositories import git
from tests.tasks.pipeline import Pipeline

pytestmark = pytest.mark.django_db

COLUMN = {
    Phase.PLANNING: Status.PLANNING,
    Phase.IMPLEMENTATION: Status.IN_PROGRESS,
    Phase.FIX: Status.IN_PROGRESS,
    Phase.REVIEW: Status.AI_REVIEW,
}

BAD_ENDS = [
    (TurnOutcome.FAILED, "stalled"),
    (TurnOutcome.FAILED, "provider_auth"),
    (TurnOutcome.FAILED, "not in the list"),
    (TurnOutcome.FAILED, ""),
    (TurnOutcome.REJECTED, "model_not_found"),
    (TurnOutcome.ABORTED, "aborted"),
]


@pytest.mark.parametrize("phase", Phase.values)
@pytest.mark.parametrize(("outcome", "code"), BAD_ENDS)
def test_failed_turn__never_moves_a_task(pipeline, phase, outcome, code):
    run = pipeline.to(phase)
    if phase == Phase.PLANNING:
        results.submit_plan(str(run.pk), "A complete plan.")
    elif phase == Phase.REVIEW:
        results.submit_verdict(str(run.pk), "approved", "")
    else:
        pipeline.write("more.py", "x\n")
    pipeline.settle(outcome, error_code=code, result_text='```json\n{"verdict": "approved"}\n```')
    status, state, needs, error = pipeline.shown
    assert (status, state, needs) == (COLUMN[phase], RunState.FAILED, Needs.FAILURE)
    assert error == (code if code in ERRORS else "internal_error")
    assert pipeline.task.runs.filter(state__in=["queued", "preparing", "running", "finishing"]).count() == 0


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ends=st.lists(st.sampled_from([*BAD_ENDS, "stop"]), min_size=1, max_size=3),
    phase=st.sampled_from(Phase.values),
    text=st.sampled_from(["", "approved", "# Plan", '```json\n{"verdict": "approved"}\n```']),
)
def test_property__no_failed_or_stopped_turn_moves_a_task(ends, phase, text):
    pipeline = Pipeline()
    pipeline.to(phase)
    for end in ends:
        before = pipeline.fresh().status
        if end == "stop":
            pipeline.act("stop")
            pipeline.settle(TurnOutcome.COMPLETED, result_text=text)
        else:
            pipeline.settle(end[0], error_code=end[1], result_text=text)
        assert pipeline.fresh().status == before
        pipeline.act("resume" if end == "stop" else "retry")
        pipeline.begin()


def test_failed_turn__what_was_left_is_committed(pipeline):
    pipeline.to(Phase.IMPLEMENTATION)
    pipeline.write("half.py", "half\n")
    run = pipeline.settle(TurnOutcome.FAILED, error_code="step_limit")
    assert "half.py" in git(run.session.workspace.path, "show", "--stat", run.head_commit)


def test_aborted__from_outside_is_a_failure(pipeline):
    pipeline.to(Phase.PLANNING)
    pipeline.settle(TurnOutcome.ABORTED, error_code="aborted")
    assert pipeline.shown[1:] == (RunState.FAILED, Needs.FAILURE, "aborted")


def test_aborted__on_request_is_a_stop(pipeline):
    run = pipeline.to(Phase.PLANNING)
    Turn.objects.filter(pk=run.turn_id).update(abort_requested_at=run.started_at, abort_reason="person")
    pipeline.settle(TurnOutcome.ABORTED, error_code="aborted")
    assert pipeline.shown[1:] == (RunState.STOPPED, Needs.RESUME, "")


def test_twice__is_once(pipeline):
    for phase in Phase.values:
        own = Pipeline()
        run = own.to(phase)
        if phase in (Phase.IMPLEMENTATION, Phase.FIX):
            own.write("x.py", "x\n")
        elif phase == Phase.REVIEW:
            results.submit_verdict(str(run.pk), "approved", "")
        own.settle(result_text="# Plan")
        before = (own.shown, own.history(), own.phases(), own.fresh().version)
        advance_turn(run.turn_id)
        advance_turn(str(run.turn_id))
        assert (own.shown, own.history(), own.phases(), own.fresh().version) == before


def test_not_settled__nothing_happens(pipeline):
    run = pipeline.to(Phase.PLANNING)
    advance_turn(run.turn_id)
    advance_turn("00000000-0000-0000-0000-000000000000")
    run.refresh_from_db()
    assert run.state == RunPhaseState.RUNNING


def test_held_by_another__nothing_happens(pipeline):
    run = pipeline.to(Phase.PLANNING)
    settle_turn(run.turn, result_text="# Plan")
    PhaseRun.objects.filter(pk=run.pk).update(lease_until="2999-01-01T00:00:00Z", lease_owner="another")
    advance_turn(run.turn_id)
    assert pipeline.shown[0] == Status.PLANNING


def test_lost_lease__writes_nothing(pipeline, monkeypatch):
    run = pipeline.to(Phase.IMPLEMENTATION)
    pipeline.write("x.py", "x\n")
    settle_turn(run.turn)

    def overtaken(workspace, **_):
        PhaseRun.objects.filter(pk=run.pk).update(lease_epoch=99)
        return workspace.base_commit

    monkeypatch.setattr("tasks.services.advance.commit_left", overtaken)
    advance_turn(run.turn_id)
    assert pipeline.shown[:2] == (Status.IN_PROGRESS, RunState.RUNNING)


def test_commit__a_passing_trouble_is_tried_again(pipeline, monkeypatch):
    run = pipeline.to(Phase.IMPLEMENTATION)
    pipeline.write("x.py", "x\n")
    settle_turn(run.turn)
    with monkeypatch.context() as patched:
        patched.setattr("tasks.services.advance.commit_left", _raising(Upstream("index.lock", transient=True)))
        advance_turn(run.turn_id)
    run.refresh_from_db()
    assert (run.state, run.failures, run.lease_until) == (RunPhaseState.FINISHING, 1, None)
    assert run.next_try_at
    advance_turn(run.turn_id)
    assert pipeline.shown[0] == Status.IN_PROGRESS  # not yet
    PhaseRun.objects.filter(pk=run.pk).update(next_try_at=None)
    advance_turn(run.turn_id)
    assert pipeline.shown[0] == Status.AI_REVIEW


@pytest.mark.parametrize(
    ("error", "tries", "code"),
    [
        (Upstream("disk full", transient=False), 1, "commit_failed"),
        (Invalid("no"), 1, "commit_failed"),
        (Upstream("locked", transient=True), steps.MAX_FAILURES, "commit_failed"),
        (OSError(28, "No space left"), steps.MAX_FAILURES, "commit_failed"),
        (ZeroDivisionError("a bug"), steps.MAX_FAILURES, "internal_error"),
    ],
)
def test_commit__what_keeps_failing_fails_the_run(pipeline, monkeypatch, error, tries, code):
    run = pipeline.to(Phase.IMPLEMENTATION)
    settle_turn(run.turn)
    monkeypatch.setattr("tasks.services.advance.commit_left", _raising(error))
    for _ in range(tries):
        assert pipeline.shown[1] == RunState.RUNNING
        PhaseRun.objects.filter(pk=run.pk).update(next_try_at=None)
        advance_turn(run.turn_id)
    assert pipeline.shown == (Status.IN_PROGRESS, RunState.FAILED, Needs.FAILURE, code)
    assert str(error) in pipeline.task.reason


def test_commit__that_fails_after_a_failed_turn_does_not_hide_it(pipeline, monkeypatch):
    pipeline.to(Phase.IMPLEMENTATION)
    monkeypatch.setattr("tasks.services.advance.commit_left", _raising(Upstream("disk full")))
    pipeline.settle(TurnOutcome.FAILED, error_code="stalled")
    assert pipeline.shown[3] == "stalled"


def test_killed_workers__are_bounded(pipeline):
    run = pipeline.to(Phase.PLANNING)
    settle_turn(run.turn, result_text="# Plan")
    PhaseRun.objects.filter(pk=run.pk).update(failures=steps.MAX_FAILURES)
    advance_turn(run.turn_id)
    assert pipeline.shown[1:] == (RunState.FAILED, Needs.FAILURE, "internal_error")


def test_superseded__the_waiting_run_is_woken(pipeline, requested_jobs, django_capture_on_commit_callbacks):
    old = pipeline.to(Phase.IMPLEMENTATION)
    pipeline.act("replan", feedback="Another way.")
    waiting = pipeline.begin()
    assert (waiting.state, waiting.phase) == (RunPhaseState.PREPARING, Phase.PLANNING)
    assert "still ending" in waiting.note
    settle_turn(old.turn, TurnOutcome.ABORTED)
    with django_capture_on_commit_callbacks(execute=True):
        advance_turn(old.turn_id)
    assert (Names.PREPARE_RUN, (str(waiting.pk),)) in requested_jobs
    assert pipeline.begin().state == RunPhaseState.RUNNING


def test_settling__requests_the_job(pipeline, requested_jobs, django_capture_on_commit_callbacks):
    run = pipeline.to(Phase.PLANNING)
    with django_capture_on_commit_callbacks(execute=True):
        settle_turn(run.turn)
    assert (Names.ADVANCE_TURN, (str(run.turn_id),)) in requested_jobs


def test_every_failure__has_a_sentence_and_a_next_step():
    for code, text in ERRORS.items():
        assert text.sentence.endswith("."), code
        assert text.next_step.endswith("."), code


def test_plan_of_a_run__is_one_version(pipeline):
    run = pipeline.to(Phase.PLANNING)
    for text in ("one", "two", "three"):
        results.submit_plan(str(run.pk), text)
    assert list(Plan.objects.values_list("version", "text")) == [(1, "three")]


def _raising(error):
    def fail(*_args, **_kwargs):
        raise error

    return fail
