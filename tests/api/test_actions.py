"""Actions over REST: the whole way of a task by its own means, and every refusal with what is possible instead."""

from __future__ import annotations

import pytest

from tasks.actions import ROLES, possible
from tasks.choices import RunState, Status
from tasks.models import Plan, Task
from tests.api.conftest import error_of
from tests.factories import make_plan, make_run, make_session, make_task, make_turn, make_workspace

TASKS = "/api/v1/tasks"
BODIES = {"skip_ai_review": {"reason": "Looks fine."}, "complete": {"how": "none"}}


def do(client, action: str, ref: str = "DEMO-1", **body):
    """Do an action."""
    return client.post(f"{TASKS}/{ref}/{action}", body)


def test_start__opens_planning(maintainer, project):
    make_task(project)
    response = do(maintainer, "start")
    assert response.status_code == 200
    body = response.json()
    assert (body["status"], body["run_state"]) == ("planning", "queued")
    (entry,) = maintainer.get(f"{TASKS}/DEMO-1/history").json()["results"]
    assert (entry["action"], entry["from_status"], entry["to_status"]) == ("start", "todo", "planning")


def test_start__twice_is_409_with_what_is_allowed(maintainer, project):
    make_task(project)
    assert do(maintainer, "start").status_code == 200
    error = error_of(do(maintainer, "start"), 409, "conflict")
    assert error["allowed"] == ["stop", "cancel"]
    assert "DEMO-1" in error["message"]


def test_plan__is_approved_as_it_is_or_as_edited(maintainer, project):
    for number, edited in ((1, ""), (2, "1. Something else.")):
        make_plan(make_task(project, status=Status.PLANNING_REVIEW))
        response = do(maintainer, "approve_plan", f"DEMO-{number}", plan=edited)
        assert response.json()["status"] == "in_progress"
    assert [(plan.version, plan.text) for plan in Plan.objects.filter(task__key="DEMO-2").order_by("version")] == [
        (1, "1. Do it.\n2. Test it."),
        (2, "1. Something else."),
    ]


def test_plan__is_rejected_only_with_feedback(reviewer, project):
    make_plan(make_task(project, status=Status.PLANNING_REVIEW))
    error = error_of(do(reviewer, "reject_plan"), 400, "invalid")
    assert error["detail"]["field"] == "feedback"
    assert do(reviewer, "reject_plan", feedback="Smaller steps.").json()["status"] == "planning"


def test_review__is_skipped_only_with_a_reason(reviewer, project):
    make_task(project, status=Status.AI_REVIEW, run_state=RunState.FAILED)
    assert error_of(do(reviewer, "skip_ai_review"), 400)["detail"]["field"] == "reason"
    assert do(reviewer, "skip_ai_review", reason="I read it.").json()["status"] == "review"


def test_complete__without_a_merge(maintainer, project):
    make_task(project, status=Status.REVIEW)
    assert error_of(do(maintainer, "complete", how="by_hand"), 400)["detail"]["field"] == "how"
    body = do(maintainer, "complete", how="none").json()
    assert (body["status"], body["completed_how"]) == ("done", "none")


def test_stop__asks_the_run_to_end(maintainer, project):
    task = make_task(project, status=Status.PLANNING, run_state=RunState.QUEUED)
    make_run(task, state="queued")
    body = do(maintainer, "stop").json()
    assert (body["status"], body["run_state"]) == ("planning", "stopped")
    assert body["actions"] == ["resume", "cancel"]


def test_complete__under_an_agent_that_answers_a_message_names_the_way_on(maintainer, project):
    task = make_task(project, status=Status.REVIEW)
    task.workspace = make_workspace(project)
    task.save()
    turn = make_turn(make_session(task.workspace))
    refusal = error_of(do(maintainer, "complete", how="none"), 409, "agent_at_work")
    assert refusal["allowed"] == ["stop", "request_changes", "cancel"]
    [listed] = maintainer.get("/api/v1/tasks").json()["results"]
    assert listed["actions"] == refusal["allowed"]
    assert do(maintainer, "stop").json()["actions"] == ["request_changes", "cancel"]
    turn.refresh_from_db()
    assert turn.abort_reason == "stopped"


@pytest.mark.parametrize("action", ["", "fly", "delete", "plan_ready", "ai_approve", "__class__", "start%00"])
def test_unknown_action__is_404(maintainer, project, action):
    make_task(project)
    error_of(do(maintainer, action), 404)
    assert Task.objects.get().status == "todo"


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("action", list(ROLES))
def test_every_action_in_every_column__is_done_or_refused_with_the_allowed_ones(maintainer, project, status, action):
    task = make_task(project, status=status)
    allowed = possible(task.status, task.run_state)
    if action in allowed:
        return  # tests/tasks/test_lifecycle.py does these
    error = error_of(do(maintainer, action, feedback="Words.", **BODIES.get(action, {})), 409, "conflict")
    assert error["allowed"] == allowed
    task.refresh_from_db()
    assert task.status == status


def test_action__takes_an_empty_body_and_refuses_unknown_words(maintainer, project):
    make_task(project)
    error = error_of(do(maintainer, "start", force=True), 400, "invalid")
    assert error["detail"]["field"] == "force"
    response = maintainer.post(f"{TASKS}/DEMO-1/start")
    assert response.status_code == 200


@pytest.mark.parametrize("body", [{"feedback": ["a"]}, {"feedback": "x" * 60_000}, {"reason": {}}, {"how": None}])
def test_action__bad_words_are_400_and_change_nothing(maintainer, project, body):
    make_task(project, status=Status.REVIEW)
    error = error_of(maintainer.post(f"{TASKS}/DEMO-1/request_changes", body), 400, "invalid")
    assert error["detail"]["field"] == next(iter(body))
    assert Task.objects.get().status == "review"
