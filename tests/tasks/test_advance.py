from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessions_app.models import Turn, TurnOutcome
from studio.kernel.errors import Invalid, Upstream
from studio.queue import Names
from tasks.choices import ERRORS, FindingState, Needs, Phase, RunPhaseState, RunState, Status, Verdict
from tasks.models import PhaseRun, Plan
from tasks.services import results, steps
from tasks.services.advance import advance_turn
from tests.factories import settle_turn
from tests.repositories import git
from tests.tasks.pipeline import ERROR, WARNING, Pipeline

pytestmark = pytest.mark.django_db

COLUMN = {
    Phase.PLANNING: Status.PLANNING,
    Phase.IMPLEMENTATION: Status.IN_PROGRESS,
    Phase.FIX: Status.IN_PROGRESS,
    Phase.REVIEW: Status.AI_REVIEW,
}


def test_story__from_todo_to_review(pipeline):
    pipeline.to_review()
    assert pipeline.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "")
    assert pipeline.history() == [
        ("create", "", "todo"),
        ("start", "todo", "planning"),
        ("plan_ready", "planning", "planning_review"),
        ("approve_plan", "planning_review", "in_progress"),
        ("implemented", "in_progress", "ai_review"),
        ("ai_approve", "ai_review", "review"),
    ]
    assert pipeline.phases() == [("planning", 1, 0), ("implementation", 1, 0), ("review", 1, 0)]
    assert set(pipeline.task.runs.values_list("state", flat=True)) == {RunPhaseState.SUCCEEDED}


def test_plan__handed_in_goes_before_the_last_message(pipeline):
    run = pipeline.to(Phase.PLANNING)
    results.submit_plan(str(run.pk), "The plan.")
    pipeline.settle(result_text="I handed the plan in.")
    assert pipeline.task.plans.get().text == "The plan."
    assert pipeline.shown == (Status.PLANNING_REVIEW, RunState.WAITING, Needs.PLAN_APPROVAL, "")


def test_plan__the_last_message_is_the_plan(pipeline):
    pipeline.to(Phase.PLANNING)
    pipeline.settle(result_text="\n## Plan\n\nIn prose.\x00\n")
    assert pipeline.task.plans.get().text == "## Plan\n\nIn prose."
    assert pipeline.shown[0] == Status.PLANNING_REVIEW


def test_plan__a_far_too_long_message_is_cut(pipeline):
    pipeline.to(Phase.PLANNING)
    pipeline.settle(result_text="p" * (results.PLAN_LIMIT + 5))
    assert len(pipeline.task.plans.get().text) == results.PLAN_LIMIT


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_plan__none_is_a_failure(pipeline, text):
    pipeline.to(Phase.PLANNING)
    run = pipeline.settle(result_text=text)
    assert pipeline.shown == (Status.PLANNING, RunState.FAILED, Needs.FAILURE, "plan_missing")
    assert (run.state, run.error_code) == (RunPhaseState.FAILED, "plan_missing")
    assert pipeline.task.reason == ERRORS["plan_missing"].sentence


def test_plan__without_approval_goes_on_by_itself(db):
    pipeline = Pipeline(plan_approval=False)
    pipeline.act("start")
    pipeline.plan()
    assert pipeline.shown == (Status.IN_PROGRESS, RunState.QUEUED, "", "")
    assert pipeline.history()[-1] == ("plan_ready", "planning", "in_progress")
    plan = pipeline.task.plans.get()
    assert (bool(plan.approved_at), plan.approved_by) == (True, None)
    assert "1. Write goodbye()." in pipeline.begin().turn.prompt


def test_implementation__commits_everything_that_is_left(pipeline):
    run = pipeline.to(Phase.IMPLEMENTATION)
    pipeline.write("new folder/ünï \n code.py", "x\n")
    run = pipeline.settle(result_text="Done, and tested.")
    folder = run.session.workspace.path
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "rev-parse", "HEAD").strip() == run.head_commit != run.base_commit
    message = git(folder, "log", "-1", "--format=%an%n%B")
    assert message.startswith("studio-implementer via OpenCode Studio\nAdd a farewell\n\nDone, and tested.")
    assert f"Task: {pipeline.task.key} (implementation, round 1)" in message
    assert run.summary == "Done, and tested."


def test_implementation__a_commit_of_the_agent_counts(pipeline):
    pipeline.to(Phase.IMPLEMENTATION)
    path = pipeline.write("own.py", "x\n")
    git(path.parent, "add", "-A")
    git(path.parent, "commit", "-q", "-m", "By the agent")
    run = pipeline.settle()
    assert pipeline.shown[0] == Status.AI_REVIEW
    assert git(path.parent, "log", "-1", "--format=%s", run.head_commit).strip() == "By the agent"


def test_implementation__an_empty_change_needs_a_person(pipeline):
    pipeline.to(Phase.IMPLEMENTATION)
    pipeline.settle(result_text="Nothing to do.")
    assert pipeline.shown == (Status.IN_PROGRESS, RunState.FAILED, Needs.FAILURE, "empty_change")


def test_review__sees_files_that_were_never_committed(pipeline):
    pipeline.to(Phase.IMPLEMENTATION)
    pipeline.write("untracked.py", "SECRET_WORD = 1\n")
    pipeline.settle()
    assert "SECRET_WORD" in pipeline.begin().turn.prompt


def test_review__findings_become_rows_and_the_fix_prompt(pipeline):
    pipeline.to(Phase.REVIEW)
    run = pipeline.run()
    results.report_finding(str(run.pk), ERROR)
    results.submit_verdict(str(run.pk), "changes_requested", "One error.")
    pipeline.settle()
    assert pipeline.shown == (Status.IN_PROGRESS, RunState.QUEUED, "", "")
    assert pipeline.history()[-1] == ("ai_request_changes", "ai_review", "in_progress")
    assert pipeline.phases()[-1] == (Phase.FIX, 1, 0)
    prompt = pipeline.begin().turn.prompt
    assert "#1 [error, open] It says hello (goodbye.py:1)" in prompt
    assert "One error." in prompt


def test_fix_round__is_approved_in_the_second(pipeline):
    pipeline.to(Phase.FIX)
    pipeline.write("goodbye.py", "print('goodbye')\n")
    pipeline.settle()
    finding = pipeline.task.findings.get()
    assert finding.state == FindingState.FIXED
    prompt = pipeline.begin().turn.prompt
    assert "Round: 2" in prompt
    assert "#1 [error, fixed]" in prompt
    results.submit_verdict(str(pipeline.run().pk), "approved", "")
    pipeline.settle()
    assert pipeline.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "")
    finding.refresh_from_db()
    assert finding.state == FindingState.VERIFIED
    assert [review.verdict for review in pipeline.task.reviews.all()] == ["changes_requested", "approved"]


def test_fix_round__a_finding_that_the_agent_left_open_stays_open(pipeline):
    run = pipeline.to(Phase.FIX)
    results.mark_finding(str(run.pk), 1, "open", "It is mistaken.")
    pipeline.write("goodbye.py", "print('goodbye')\n")
    pipeline.settle()
    assert pipeline.task.findings.get().state == FindingState.OPEN


def test_fix_round__that_changed_nothing_is_said(pipeline):
    pipeline.to(Phase.FIX)
    pipeline.settle(result_text="I see nothing to fix.")
    assert pipeline.shown[0] == Status.AI_REVIEW
    assert "The last fix round changed no file." in pipeline.begin().turn.prompt
    results.mark_finding(str(pipeline.run().pk), 1, "verified", "")
    results.submit_verdict(str(pipeline.run().pk), "approved", "")
    pipeline.settle()
    assert pipeline.task.reason == "The last fix round changed no file."


def test_verdict__an_open_error_contradicts_an_approval(pipeline):
    pipeline.to(Phase.REVIEW)
    run = pipeline.run()
    results.report_finding(str(run.pk), ERROR)
    _, contradicting = results.submit_verdict(str(run.pk), "approved", "Looks good.")
    assert contradicting == [1]
    pipeline.settle()
    assert pipeline.shown[0] == Status.IN_PROGRESS
    review = pipeline.task.reviews.get()
    assert review.verdict == Verdict.CHANGES_REQUESTED
    assert "Looks good." in review.summary
    assert "#1" in review.summary


def test_verdict__warnings_do_not_contradict(pipeline):
    pipeline.to(Phase.REVIEW)
    results.report_finding(str(pipeline.run().pk), WARNING)
    results.submit_verdict(str(pipeline.run().pk), "approved", "")
    pipeline.settle()
    assert pipeline.shown[0] == Status.REVIEW


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('Good.\n\n```json\n{"verdict": "approved", "summary": "ok", "findings": []}\n```', (Status.REVIEW, "")),
        (
            '```json\n{"verdict": "changes_requested", "findings": [{"severity": "error", "title": "t"}]}\n```',
            (Status.IN_PROGRESS, ""),
        ),
        (
            '```json\n{"verdict": "approved", "findings": [{"severity": "error", "title": "t"}]}\n```',
            (Status.IN_PROGRESS, ""),
        ),
        ("This is NOT APPROVED. I approved nothing.", (Status.AI_REVIEW, "verdict_missing")),
        ("approved", (Status.AI_REVIEW, "verdict_missing")),
        ("", (Status.AI_REVIEW, "verdict_missing")),
        ('```json\n{"verdict": "not approved"}\n```', (Status.AI_REVIEW, "verdict_missing")),
        (
            'I changed my mind.\n```json\n{"verdict": "approved"}\n```\n```json\n{"verdict": "changes_requested"}\n```',
            (Status.AI_REVIEW, "verdict_missing"),
        ),
    ],
)
def test_verdict__in_prose(pipeline, text, shown):
    pipeline.to(Phase.REVIEW)
    pipeline.settle(result_text=text)
    assert (pipeline.shown[0], pipeline.shown[3]) == shown


def test_verdict__handed_in_goes_before_prose(pipeline):
    pipeline.to(Phase.REVIEW)
    results.submit_verdict(str(pipeline.run().pk), "changes_requested", "No.")
    pipeline.settle(result_text='```json\n{"verdict": "approved"}\n```')
    assert pipeline.shown[0] == Status.IN_PROGRESS


def test_verdict__missing_then_reviewed_again(pipeline):
    pipeline.to(Phase.REVIEW)
    pipeline.settle(result_text="Hm.")
    pipeline.act("retry")
    assert pipeline.phases()[-1] == (Phase.REVIEW, 1, 1)
    pipeline.review()
    assert pipeline.shown[0] == Status.REVIEW
    assert pipeline.task.reviews.count() == 2


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_rounds__end_with_a_decision_for_people(limit):
    pipeline = Pipeline(max_review_rounds=limit)
    pipeline.to(Phase.REVIEW)
    results.submit_verdict(str(pipeline.run().pk), "changes_requested", "Never good enough.")
    pipeline.settle()
    for number in range(limit - 1):
        assert pipeline.shown[0] == Status.IN_PROGRESS
        pipeline.implement(text=f"print({number})\n")
        pipeline.review("changes_requested", summary="Never good enough.")
    assert pipeline.shown == (Status.REVIEW, RunState.WAITING, Needs.DECISION, "")
    assert f"{limit} times" in pipeline.task.reason
    assert "Never good enough." in pipeline.task.reason
    assert pipeline.history()[-1] == ("ai_request_changes", "ai_review", "review")


def test_rounds__are_counted_anew_after_a_person_decided(db):
    pipeline = Pipeline(max_review_rounds=2)
    pipeline.to(Phase.FIX)
    pipeline.write("goodbye.py", "2\n")
    pipeline.settle()
    pipeline.review("changes_requested")
    assert pipeline.shown[2] == Needs.DECISION
    pipeline.act("request_changes", feedback="Like this.")
    pipeline.implement(text="3\n")
    pipeline.review("changes_requested")
    assert pipeline.shown[0] == Status.IN_PROGRESS


def test_auto_complete__asks_for_the_merge_itself(db):
    pipeline = Pipeline(auto_complete=True)
    pipeline.to_review()
    assert pipeline.shown[:2] == (Status.REVIEW, RunState.RUNNING)
    assert pipeline.task.workspace.merges.get().how == "merge"


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
