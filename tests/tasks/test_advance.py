from __future__ import annotations

import pytest

from tasks.choices import ERRORS, FindingState, Needs, Phase, RunPhaseState, RunState, Status, Verdict
from tasks.services import results
from tests.factories import settle_turn
from tests.repositories import git
from tests.tasks.pipeline import ERROR, WARNING, Pipeline

pytestmark = pytest.mark.django_db


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


def test_auto_complete__that_is_refused_leaves_the_approval_and_says_why(db):
    pipeline = Pipeline(auto_complete=True)
    pipeline.to(Phase.REVIEW)
    turn = pipeline.follow_up()
    results.submit_verdict(str(pipeline.run().pk), "approved", "")
    pipeline.settle()
    assert pipeline.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "")
    assert pipeline.task.reason.startswith("Approved, but not completed by itself. An agent is still at work")
    assert not pipeline.task.workspace.merges.exists()
    settle_turn(turn)
    assert pipeline.act("complete").run_state == RunState.RUNNING
