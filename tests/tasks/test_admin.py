from __future__ import annotations

import pytest
from django.contrib import admin
from django.urls import reverse

from sessions_app.models import TurnOutcome
from tasks.choices import Needs, Phase, RunPhaseState, RunState, Status
from tasks.models import Finding, PhaseRun, Plan, Review, Task, TaskHistory
from tasks.services.schedule import schedule
from tests.factories import make_finding, make_plan, make_task, settle_turn

pytestmark = pytest.mark.django_db

MODELS = [Task, PhaseRun, Plan, Review, Finding, TaskHistory]


@pytest.fixture
def operator(client, owner):
    client.force_login(owner)
    return client


def url(model, page="changelist", *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def do(operator, model, action, *rows):
    answer = operator.post(url(model), {"action": action, "_selected_action": [row.pk for row in rows]}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize("model", MODELS)
def test_lists_and_forms__open(operator, pipeline, model):
    pipeline.to(Phase.FIX)
    make_plan(pipeline.task)
    assert operator.get(url(model), {"q": "x"}).status_code == 200
    assert operator.get(url(model)).status_code == 200
    assert operator.get(url(model, "change", model.objects.first().pk)).status_code == 200


@pytest.mark.parametrize("model", [model for model in MODELS if model is not Task])
def test_history__cannot_be_changed(operator, pipeline, model):
    pipeline.to(Phase.FIX)
    row = model.objects.first()
    for page in ("change", "delete"):
        assert operator.post(url(model, page, row.pk), {"post": "yes"}).status_code == 403
    assert operator.get(url(model, "add")).status_code == 403
    assert model.objects.filter(pk=row.pk).exists()


def test_every_model__has_an_admin():
    assert all(model in admin.site._registry for model in MODELS)


def test_list__carries_its_topics(operator, pipeline):
    page = operator.get(url(Task)).content.decode()
    assert f'"project:{pipeline.task.project_id}": 1' in page
    assert "admin-live.js" in page
    pipeline.act("start")
    assert f'"project:{pipeline.task.project_id}": 3' in operator.get(url(PhaseRun)).content.decode()


def form(task, **fields):
    inlines = {f"{prefix}-{name}": 0 for prefix in ("runs", "history") for name in ("TOTAL_FORMS", "INITIAL_FORMS")}
    return {"title": task.title, "description": task.description, "priority": 0, "labels": "[]", **inlines, **fields}


def test_edit__goes_through_the_service(operator, pipeline):
    task = pipeline.task
    operator.post(url(Task, "change", task.pk), form(task, title="New  title"))
    task.refresh_from_db()
    assert (task.title, task.version) == ("New title", 2)


def test_edit__cannot_set_the_column(operator, pipeline):
    task = pipeline.task
    operator.post(url(Task, "change", task.pk), form(task, status="done", run_state="running", title="Other"))
    task.refresh_from_db()
    assert (task.status, task.run_state, task.title) == (Status.TODO, RunState.IDLE, "Other")


def test_edit__a_refusal_is_told(operator, pipeline):
    task = pipeline.task
    answer = operator.post(url(Task, "change", task.pk), form(task, priority=5000), follow=True)
    text = answer.content.decode()
    assert "whole number" in text
    assert "was changed successfully" not in text


def test_delete__only_through_the_service(operator, pipeline):
    assert operator.post(url(Task, "delete", pipeline.task.pk), {"post": "yes"}).status_code == 403
    assert "was deleted" in do(operator, Task, "delete_tasks", pipeline.task)
    assert not Task.objects.exists()


def test_stop_resume_retry_cancel(operator, pipeline):
    pipeline.act("start")
    assert "is being stopped" in do(operator, Task, "stop", pipeline.task)
    assert pipeline.shown[1] == RunState.STOPPED
    assert "queued again" in do(operator, Task, "resume", pipeline.task)
    pipeline.begin()
    pipeline.settle(TurnOutcome.FAILED, error_code="stalled")
    assert "queued again" in do(operator, Task, "retry", pipeline.task)
    assert pipeline.task.history.last().actor_name == "owner"
    assert "is cancelled" in do(operator, Task, "cancel", pipeline.task)
    assert pipeline.shown[0] == Status.CANCELLED


def test_action__a_refusal_is_told(operator):
    task = make_task()
    assert "is not possible while" in do(operator, Task, "retry", task)


def test_requeue(operator, pipeline):
    pipeline.act("start")
    schedule()
    assert "is queued" in do(operator, PhaseRun, "requeue", pipeline.run())
    assert pipeline.run().state == RunPhaseState.QUEUED
    run = pipeline.begin()
    assert "not waiting" in do(operator, PhaseRun, "requeue", run)


def test_advance_now(operator, pipeline):
    run = pipeline.to(Phase.PLANNING)
    assert "is running" in do(operator, PhaseRun, "advance_now", run)
    settle_turn(run.turn, result_text="# Plan")
    PhaseRun.objects.update(next_try_at="2999-01-01T00:00:00Z")
    assert "is succeeded" in do(operator, PhaseRun, "advance_now", run)
    assert pipeline.shown[2] == Needs.PLAN_APPROVAL


def test_stop_of_runs(operator, pipeline):
    pipeline.act("start")
    assert "is being stopped" in do(operator, PhaseRun, "stop", pipeline.run())
    assert pipeline.shown[1] == RunState.STOPPED


def test_findings_of_a_review(operator):
    finding = make_finding(make_task(status=Status.AI_REVIEW), title="It says hello")
    assert "It says hello" in operator.get(url(Review, "change", finding.review_id)).content.decode()
