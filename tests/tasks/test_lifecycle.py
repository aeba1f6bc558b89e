from __future__ import annotations

from contextlib import nullcontext

import pytest

from agents.models import AgentRole
from sessions_app.models import AgentSession, Delivery, Turn, TurnOutcome
from sessions_app.services import inbox
from sessions_app.services.follow_up import open_next
from studio.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from studio.kernel.permissions import Role
from studio.models import FeedEvent
from studio.queue import Names
from tasks.actions import ROLES
from tasks.choices import Needs, Phase, RunPhaseState, RunState, Status
from tasks.models import PhaseRun
from tasks.services import results
from tasks.services.advance import advance_turn
from tasks.services.card_refresh import refresh_card
from tasks.services.lifecycle import FEEDBACK_LIMIT, HANDLERS, act, allowed_actions
from tasks.services.schedule import schedule
from tests.factories import make_member, make_plan, make_project, make_task, make_user, settle_turn
from tests.tasks.pipeline import ERROR
from workspaces.services import run_merge

pytestmark = pytest.mark.django_db


def test_handlers__are_the_actions():
    assert set(HANDLERS) == set(ROLES)


def test_start__queues_a_planning_run(pipeline, requested_jobs, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        task = pipeline.act("start")
    assert (task.status, task.run_state, task.needs) == (Status.PLANNING, RunState.QUEUED, "")
    assert pipeline.phases() == [(Phase.PLANNING, 1, 0)]
    assert pipeline.history()[-1] == ("start", "todo", "planning")
    assert (Names.SCHEDULE_RUNS, ()) in requested_jobs


def test_start__tells_the_feed_in_order(pipeline):
    pipeline.act("start")
    events = FeedEvent.objects.filter(topic=f"task:{pipeline.task.pk}").order_by("seq")
    assert list(events.values_list("kind", flat=True)) == ["task.created", "task.moved", "run.state"]
    moved, state = events[1].payload, events[2].payload
    assert (moved["from"], moved["to"], moved["action"], moved["key"]) == (
        "todo",
        "planning",
        "start",
        pipeline.task.key,
    )
    assert (state["phase"], state["state"], state["run_state"]) == ("planning", "queued", "queued")
    assert state["version"] == pipeline.fresh().version


def test_act__unknown_action(pipeline):
    with pytest.raises(NotFound) as refusal:
        pipeline.act("explode")
    assert refusal.value.code == "unknown_action"


@pytest.mark.parametrize("ref", ["NOPE-1", "not an id", "00000000-0000-0000-0000-000000000000", "", "P-", "٣-٣"])
def test_act__unknown_task(owner, ref):
    with pytest.raises(NotFound):
        act(actor=owner, task_ref=ref, action="start")


def test_act__takes_key_and_id(owner):
    first, second = make_task(), make_task()
    assert act(actor=owner, task_ref=first.key.lower(), action="start").status == Status.PLANNING
    assert act(actor=owner, task_ref=str(second.pk), action="start").status == Status.PLANNING


def test_act__second_start_is_a_conflict_with_the_allowed(pipeline):
    pipeline.act("start")
    with pytest.raises(Conflict) as refusal:
        pipeline.act("start")
    assert refusal.value.allowed == ["stop", "cancel"]
    assert PhaseRun.objects.count() == 1


@pytest.mark.parametrize("action", sorted(ROLES))
@pytest.mark.parametrize("role", Role.values)
def test_act__checks_the_role(action, role):
    project = make_project()
    member = make_member(project, Role(role))
    task = make_task(project, status=Status.DONE if action == "reopen" else Status.TODO)
    low = list(Role).index(Role(role)) < list(Role).index(ROLES[action])
    expected = Forbidden if low else Conflict if action not in ("start", "cancel", "reopen") else None
    with pytest.raises(expected) if expected else nullcontext():
        act(actor=member, task_ref=task, action=action)


def test_act__strangers_do_not_learn_that_the_task_exists(stranger):
    task = make_task()
    with pytest.raises(NotFound):
        act(actor=stranger, task_ref=task, action="start")


def test_allowed_actions__by_role():
    project = make_project()
    task = make_task(project)
    assert allowed_actions(task) == ["start", "cancel"]
    assert allowed_actions(task, make_member(project, Role.MAINTAINER)) == ["start", "cancel"]
    assert allowed_actions(task, make_member(project, Role.REVIEWER)) == []
    assert allowed_actions(task, make_user()) == []


def test_approve_plan__records_who_and_which(pipeline, owner):
    pipeline.to(Phase.PLANNING)
    make_plan(pipeline.task, text="The plan.", run=pipeline.run())
    pipeline.settle()
    task = act(actor=owner, task_ref=pipeline.task, action="approve_plan")
    plan = task.plans.get()
    assert (task.status, task.run_state) == (Status.IN_PROGRESS, RunState.QUEUED)
    assert plan.approved_by == owner
    assert plan.approved_at
    row = task.history.last()
    assert (row.action, row.actor, row.actor_name, row.reason) == ("approve_plan", owner, "owner", "Plan version 1.")
    assert pipeline.phases()[-1] == (Phase.IMPLEMENTATION, 1, 0)


def test_approve_plan__an_edited_plan_is_a_version_of_its_own(pipeline):
    pipeline.to(Phase.PLANNING)
    make_plan(pipeline.task, text="The plan.", run=pipeline.run())
    pipeline.settle()
    pipeline.act("approve_plan", plan="A better plan.")
    first, second = pipeline.task.plans.all()
    assert (first.text, first.approved_at) == ("The plan.", None)
    assert (second.version, second.text) == (2, "A better plan.")
    assert second.approved_at
    run = pipeline.begin()
    assert "A better plan." in run.turn.prompt


def test_approve_plan__the_same_text_is_the_same_version(pipeline):
    pipeline.to(Phase.PLANNING)
    make_plan(pipeline.task, text="The plan.", run=pipeline.run())
    pipeline.settle()
    pipeline.act("approve_plan", plan="The plan.\r\n")
    assert pipeline.task.plans.count() == 1


def test_reject_plan__plans_again_with_plan_and_feedback(pipeline):
    pipeline.act("start")
    pipeline.plan("The first plan.")
    task = pipeline.act("reject_plan", feedback="Say more.")
    assert task.status == Status.PLANNING
    plan = task.plans.get()
    assert (plan.feedback, bool(plan.rejected_at)) == ("Say more.", True)
    assert pipeline.phases()[-1] == (Phase.PLANNING, 2, 0)
    prompt = pipeline.begin().turn.prompt
    assert prompt.startswith("Phase: planning\nRound: 2\n")
    assert "The first plan." in prompt
    assert "Say more." in prompt


@pytest.mark.parametrize(
    ("status", "action", "field"),
    [
        (Status.PLANNING_REVIEW, "reject_plan", "feedback"),
        (Status.IN_PROGRESS, "replan", "feedback"),
        (Status.REVIEW, "request_changes", "feedback"),
        (Status.AI_REVIEW, "skip_ai_review", "reason"),
    ],
)
@pytest.mark.parametrize("said", ["", "  \n\x00 "])
def test_act__what_must_be_said(status, action, field, said):
    task = make_task(status=status)
    make_plan(task)
    with pytest.raises(Invalid) as refusal:
        act(actor=None, task_ref=task, action=action, **{field: said})
    assert refusal.value.detail == {"field": field}
    task.refresh_from_db()
    assert task.status == status
    assert task.history.count() == 0


def test_act__bounds_what_is_said(pipeline):
    with pytest.raises(Invalid) as refusal:
        pipeline.act("start", feedback="x" * (FEEDBACK_LIMIT + 1))
    assert refusal.value.detail["field"] == "feedback"


def test_act__cleans_what_is_said(pipeline):
    pipeline.act("start", feedback="a\x00b\ud800\r\nc")
    assert pipeline.run().feedback == "ab���\nc"


def test_request_changes__opens_a_fix_round(pipeline):
    pipeline.to_review()
    task = pipeline.act("request_changes", feedback="Louder.")
    assert (task.status, task.run_state, task.needs) == (Status.IN_PROGRESS, RunState.QUEUED, "")
    assert pipeline.phases()[-1] == (Phase.FIX, 1, 0)
    assert "Louder." in pipeline.begin().turn.prompt


def test_skip_ai_review__ends_the_review_run(pipeline):
    run = pipeline.to(Phase.REVIEW)
    task = pipeline.act("skip_ai_review", reason="I read it myself.")
    assert (task.status, task.run_state, task.needs) == (Status.REVIEW, RunState.WAITING, Needs.REVIEW)
    assert "I read it myself." in task.reason
    run.refresh_from_db()
    assert run.state == RunPhaseState.STOPPED
    assert Turn.objects.get(pk=run.turn_id).abort_requested_at
    before = pipeline.shown
    settle_turn(run.turn, TurnOutcome.ABORTED)
    advance_turn(run.turn_id)
    assert pipeline.shown == before


def test_replan__while_the_agent_works_supersedes_its_run(pipeline):
    run = pipeline.to(Phase.IMPLEMENTATION)
    task = pipeline.act("replan", feedback="Another way.")
    assert (task.status, task.run_state) == (Status.PLANNING, RunState.QUEUED)
    run.refresh_from_db()
    assert run.state == RunPhaseState.STOPPED
    assert Turn.objects.get(pk=run.turn_id).abort_reason == "stopped"
    assert pipeline.phases()[-1] == (Phase.PLANNING, 2, 0)


def test_stop__of_a_queued_run_is_immediate(pipeline):
    pipeline.act("start")
    task = pipeline.act("stop")
    assert (task.run_state, task.needs, task.status) == (RunState.STOPPED, Needs.RESUME, Status.PLANNING)
    assert pipeline.run().state == RunPhaseState.STOPPED
    assert schedule() == 0


def test_stop__of_a_running_turn_asks_it_to_end(pipeline, requested_jobs, django_capture_on_commit_callbacks):
    run = pipeline.to(Phase.PLANNING)
    with django_capture_on_commit_callbacks(execute=True):
        task = pipeline.act("stop", reason="Lunch.")
    assert (task.run_state, task.reason) == (RunState.RUNNING, "Stopping.")
    assert (Names.ABORT_TURN, (str(run.turn_id),)) in requested_jobs
    pipeline.settle(TurnOutcome.ABORTED)
    assert pipeline.shown == (Status.PLANNING, RunState.STOPPED, Needs.RESUME, "")
    assert pipeline.history()[-1] == ("stop", "planning", "planning")


def test_stop__wins_over_a_turn_that_completed_meanwhile(pipeline):
    pipeline.to(Phase.PLANNING)
    pipeline.act("stop")
    pipeline.settle(result_text="A plan.")
    assert pipeline.shown == (Status.PLANNING, RunState.STOPPED, Needs.RESUME, "")


def test_stop__commits_what_the_agent_left(pipeline):
    pipeline.to(Phase.IMPLEMENTATION)
    pipeline.write("half.py", "half\n")
    pipeline.act("stop")
    run = pipeline.settle(TurnOutcome.ABORTED)
    assert run.head_commit
    assert run.head_commit != run.base_commit


def test_stop__twice_is_harmless(pipeline):
    pipeline.to(Phase.PLANNING)
    pipeline.act("stop")
    pipeline.act("stop")
    pipeline.settle(TurnOutcome.ABORTED)
    assert pipeline.shown[1] == RunState.STOPPED


def test_resume__opens_a_fresh_run_of_the_same_round(pipeline):
    pipeline.act("start", feedback="Be brief.")
    pipeline.act("stop")
    task = pipeline.act("resume", feedback="And kind.")
    assert task.run_state == RunState.QUEUED
    assert pipeline.phases() == [(Phase.PLANNING, 1, 0), (Phase.PLANNING, 1, 1)]
    assert pipeline.run().feedback == "Be brief.\n\nAnd kind."
    assert pipeline.history()[-1] == ("resume", "planning", "planning")


def test_retry__carries_the_feedback_over(pipeline):
    pipeline.to(Phase.FIX)
    pipeline.settle(TurnOutcome.FAILED, error_code="stalled")
    assert pipeline.shown == (Status.IN_PROGRESS, RunState.FAILED, Needs.FAILURE, "stalled")
    task = pipeline.act("retry", feedback="Look at line 1.")
    assert (task.run_state, task.needs, task.reason, task.error_code) == (RunState.QUEUED, "", "", "")
    assert pipeline.phases()[-1] == (Phase.FIX, 1, 1)
    prompt = pipeline.begin().turn.prompt
    assert "One error." in prompt
    assert "Look at line 1." in prompt
    assert ERROR.title in prompt


def test_retry__of_a_task_without_a_run_opens_the_columns_first(pipeline):
    task = make_task(pipeline.task.project, status=Status.AI_REVIEW)
    act(actor=None, task_ref=task, action="retry")
    assert task.runs.get().phase == Phase.REVIEW


def test_cancel__ends_the_run_and_keeps_the_workspace(pipeline):
    run = pipeline.to(Phase.IMPLEMENTATION)
    task = pipeline.act("cancel", reason="No longer wanted.")
    assert (task.status, task.run_state, task.needs) == (Status.CANCELLED, RunState.IDLE, "")
    assert task.reason == "No longer wanted."
    run.refresh_from_db()
    assert run.state == RunPhaseState.STOPPED
    assert task.workspace.state == "ready"
    assert allowed_actions(task) == ["reopen"]


def test_reopen__is_a_new_attempt_with_a_fresh_workspace(pipeline):
    pipeline.to(Phase.FIX)
    old = pipeline.fresh().workspace
    pipeline.act("cancel")
    task = pipeline.act("reopen")
    assert (task.status, task.attempt, task.workspace, task.reason) == (Status.TODO, 2, None, "")
    old.refresh_from_db()
    assert old.state in ("removing", "removed")
    assert task.plans.count() == 1
    pipeline.to(Phase.REVIEW)
    task = pipeline.fresh()
    assert task.workspace != old
    assert pipeline.run().attempt == 2
    assert ERROR.title not in pipeline.run().turn.prompt
    results.submit_verdict(str(pipeline.run().pk), "approved", "")
    pipeline.settle()
    assert pipeline.shown[:2] == (Status.REVIEW, RunState.WAITING)


def test_complete__without_a_merge(pipeline, owner):
    pipeline.to_review()
    task = act(actor=owner, task_ref=pipeline.task, action="complete", how="none")
    assert (task.status, task.completed_how, task.completed_commit, task.run_state) == ("done", "none", "", "idle")
    assert task.history.last().actor == owner
    assert (task.workspace.state, task.workspace.finished_at is not None) == ("ready", True)  # its days begin


@pytest.mark.parametrize("how", ["pull request", "force", "MERGE"])
def test_complete__unknown_way(pipeline, how):
    pipeline.to_review()
    with pytest.raises(Invalid) as refusal:
        pipeline.act("complete", how=how)
    assert "merge, squash, rebase, pull_request, none" in refusal.value.message


def test_complete__without_a_workspace():
    task = make_task(status=Status.REVIEW)
    with pytest.raises(Conflict):
        act(actor=None, task_ref=task, action="complete", how="merge")


def test_complete__while_merging_nothing_else_is_possible(pipeline):
    pipeline.to_review()
    task = pipeline.act("complete", how="squash")
    assert (task.status, task.run_state, task.reason) == (Status.REVIEW, RunState.RUNNING, "Merging into main.")
    for action in sorted(ROLES):
        with pytest.raises(Conflict) as refusal:
            pipeline.act(action, feedback="x", reason="x")
        assert refusal.value.allowed == []


@pytest.mark.parametrize("how", ["merge", "pull_request", "none"])
def test_complete__waits_for_the_agent_that_answers_a_message(pipeline, how):
    pipeline.to_review()
    turn = pipeline.follow_up()
    pipeline.write("half.py", "def half(")
    with pytest.raises(Conflict) as refusal:
        pipeline.act("complete", how=how)
    assert (refusal.value.code, refusal.value.allowed) == ("agent_at_work", ["stop", "request_changes", "cancel"])
    assert "stop it, or wait until it has ended" in refusal.value.message
    assert pipeline.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "")
    assert allowed_actions(pipeline.act("stop")) == ["request_changes", "cancel"]
    turn.refresh_from_db()
    assert turn.abort_reason == "stopped"
    assert pipeline.history()[-1] == ("stop", "review", "review")
    with pytest.raises(Conflict):
        pipeline.act("complete", how=how)
    settle_turn(turn, TurnOutcome.ABORTED)
    advance_turn(turn.pk)
    assert allowed_actions(pipeline.fresh()) == ["complete", "request_changes", "cancel"]


def test_cancel_and_reopen__stop_the_agent_that_answers_a_message(pipeline):
    pipeline.to_review()
    turn = pipeline.follow_up()
    assert allowed_actions(pipeline.act("cancel")) == ["reopen"]
    turn.refresh_from_db()
    assert turn.abort_reason == "stopped"
    settle_turn(turn, TurnOutcome.ABORTED)
    turn = pipeline.follow_up("Say what you changed.")
    assert allowed_actions(pipeline.fresh()) == ["stop", "reopen"]
    pipeline.act("reopen")
    turn.refresh_from_db()
    assert turn.abort_reason == "stopped"


def test_follow_up__is_told_to_the_page_when_it_begins_and_ends(
    pipeline, requested_jobs, django_capture_on_commit_callbacks
):
    pipeline.to_review()
    with django_capture_on_commit_callbacks(execute=True):
        turn = pipeline.follow_up()
    assert (Names.REFRESH_CARD, (str(turn.pk),)) in requested_jobs
    news = FeedEvent.objects.filter(topic=f"task:{pipeline.task.pk}", kind="task.updated")
    for number, change in enumerate([refresh_card, lambda _: pipeline.act("stop"), advance_turn], start=1):
        if change is advance_turn:
            settle_turn(turn, TurnOutcome.ABORTED)
        change(turn.pk)
        told = [(event.payload["changed"], event.payload["key"]) for event in news.all()]
        assert told == [(["actions"], pipeline.task.key)] * number  # by its key the board reads the card again


def test_follow_up__waits_for_a_merge_that_is_on_its_way(pipeline):
    pipeline.to_review()
    pipeline.act("complete", how="merge")
    session = AgentSession.objects.get(role=AgentRole.IMPLEMENTER)
    inbox.post(session=session, text="Also rename it.", delivery=Delivery.QUEUE)
    assert open_next(session.pk) is None
    run_merge(pipeline.task.workspace.merges.get().pk)
    assert open_next(session.pk) is not None
