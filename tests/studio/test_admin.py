"""The admin's frame: the front page, every list and form, the operator's actions, and what must not be shown."""

from __future__ import annotations

import json
import re

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import transaction
from django.urls import reverse
from knox.models import AuthToken

from agents.backend import LogEntry
from agents.models import ServerState
from sessions_app import log
from sessions_app.models import Turn, TurnOutcome, TurnState
from studio import operations
from studio.kernel.clock import later, now
from studio.login_links import create_link, digest
from studio.outbox import publish
from tasks.choices import Needs, RunState, Status
from tests.factories import (
    make_finding,
    make_plan,
    make_profiles,
    make_project,
    make_review,
    make_run,
    make_server,
    make_session,
    make_task,
    make_turn,
    make_workspace,
    settle_turn,
)
from workspaces.models import MergeAttempt

admin.autodiscover()  # as the routing table does
MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)


@pytest.fixture
def operator(client, owner):
    """A signed-in superuser's browser."""
    client.force_login(owner)
    return client


@pytest.fixture
def rows(owner, requested_jobs):
    """A row of everything."""
    workspace = make_workspace(make_project())
    session = make_session(workspace, title="Planning DEMO-1")
    turn = make_turn(session)
    log.append(session.pk, [LogEntry("text", "text:1", {"text": "Hello", "part": "1"}, now())])
    task = make_task(workspace.project, status=Status.PLANNING, run_state=RunState.RUNNING, workspace=workspace)
    make_run(task, session=session, turn=turn)
    make_plan(task)
    make_finding(task, review=make_review(task))
    make_profiles()
    MergeAttempt.objects.create(
        workspace=workspace,
        how="merge",
        target_branch="main",
        message="m",
        author_name="a",
        author_email="a@example.invalid",
    )
    AuthToken.objects.create(owner)
    create_link(owner)
    return session, turn


def page(client, url: str) -> str:
    """A page's text."""
    response = client.get(url)
    assert response.status_code == 200, (url, response.status_code)
    return response.content.decode()


# ---- the frame


def test_front_page__names_the_studio_and_counts_what_matters(operator, rows):
    make_task(status=Status.PLANNING, run_state=RunState.FAILED, needs=Needs.FAILURE)
    make_server("broken", state=ServerState.DOWN, error="Connection refused")
    html = page(operator, "/admin/")
    assert "OpenCode Studio administration" in html
    for name, figures in operations.figures():
        assert f"<caption>{name}</caption>" in html
        for figure in figures:
            assert figure.label in html
            assert page(operator, figure.url)
    assert "broken: Connection refused" in html


def test_front_page__raises_the_alarm_only_where_somebody_should_look(rows):
    alarms = lambda: {figure.label for _, figures in operations.figures() for figure in figures if figure.alarm}  # noqa: E731
    make_server()
    assert alarms() == set()
    make_task(status=Status.PLANNING, run_state=RunState.FAILED, needs=Needs.FAILURE)
    Turn.objects.update(created_at=later(-300))
    make_server("broken", state=ServerState.DOWN)
    make_run(failures=2, next_try_at=now())
    assert alarms() == {"Tasks failed", "Overdue", "Down", "Runs in trouble"}


def test_sign_in__is_the_studios_own(client, member):
    response = client.get("/admin/tasks/task/")
    assert response.status_code == 302
    assert response["Location"].startswith("/login/?next=")
    assert client.get("/admin/login/?next=/admin/tasks/task/")["Location"] == "/login/?next=/admin/tasks/task/"
    client.force_login(member)
    assert client.get("/admin/login/").status_code == 403


def test_accounts_without_staff_rights__do_not_come_in(client, member, rows):
    client.force_login(member)
    for model in MODELS:
        response = client.get(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
        assert response.status_code in (302, 403)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_every_model__has_a_list_a_search_and_a_form(operator, rows, model):
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    assert page(operator, reverse(f"{name}_changelist"))
    if admin.site._registry[model].search_fields:
        assert page(operator, reverse(f"{name}_changelist") + "?q=x")
    row = model._default_manager.first()
    if row is not None:
        assert page(operator, reverse(f"{name}_change", args=[row.pk]))


def test_every_model_of_ours__is_registered():
    ours = {
        model
        for app in ("studio", "agents", "workspaces", "sessions_app", "tasks")
        for model in apps.get_app_config(app).get_models()
    }
    inline = {one.model for registered in admin.site._registry.values() for one in registered.inlines}
    assert ours <= set(MODELS) | inline


@pytest.mark.parametrize(
    "label", ["studio.FeedEvent", "studio.LoginLink", "sessions_app.SessionEvent", "sessions_app.Turn"]
)
def test_history__can_be_neither_made_nor_changed_nor_deleted(operator, rows, label):
    model = next(model for model in MODELS if model._meta.label == label)
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    row = model._default_manager.first()
    if row is None:
        return
    assert operator.get(reverse(f"{name}_add")).status_code == 403
    assert operator.post(reverse(f"{name}_change", args=[row.pk]), {}).status_code == 403
    assert operator.post(reverse(f"{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    assert model._default_manager.filter(pk=row.pk).exists()


# ---- secrets


def test_login_links__are_listed_without_what_would_use_them(operator, owner):
    token = create_link(owner)
    link = owner.login_links.get()
    for url in ("changelist", "change"):
        args = [link.pk] if url == "change" else []
        html = page(operator, reverse(f"admin:studio_loginlink_{url}", args=args))
        assert token not in html
        assert digest(token) not in html


def test_tokens__are_not_made_or_shown_here_and_can_be_revoked(operator, owner):
    row, token = AuthToken.objects.create(owner)
    html = page(operator, reverse("admin:knox_authtoken_changelist"))
    assert token not in html
    assert operator.get(reverse("admin:knox_authtoken_add")).status_code == 403
    operator.post(reverse("admin:knox_authtoken_delete", args=[row.pk]), {"post": "yes"})
    assert not AuthToken.objects.exists()


# ---- live lists


def live_topics(html: str) -> dict[str, int]:
    """The topics of a list, with their cursors."""
    found = re.search(r'<script id="live-topics" type="application/json">(.*?)</script>', html)
    assert found, "This list does not follow its topics."
    assert "admin-live" in html
    return json.loads(found.group(1))


@pytest.mark.parametrize("name", ["sessions_app_agentsession", "sessions_app_turn"])
def test_session_lists__follow_the_sessions_that_they_show(operator, rows, name):
    session, _ = rows
    topics = live_topics(page(operator, reverse(f"admin:{name}_changelist")))
    assert topics[f"session:{session.pk}"] == 1
    assert f"project:{session.project_id}" in topics


@pytest.mark.parametrize("name", ["tasks_task", "tasks_phaserun"])
def test_task_lists__follow_the_projects_that_they_show(operator, rows, name):
    session, _ = rows
    assert set(live_topics(page(operator, reverse(f"admin:{name}_changelist")))) == {f"project:{session.project_id}"}


def test_lists__follow_projects_of_which_they_show_nothing_yet(operator):
    project = make_project()
    with transaction.atomic():
        publish(project.pk, f"project:{project.pk}", "task.created", {})
    for name in ("tasks_task", "tasks_phaserun", "sessions_app_agentsession", "sessions_app_turn"):
        assert live_topics(page(operator, reverse(f"admin:{name}_changelist"))) == {f"project:{project.pk}": 1}


def test_session_list__shows_the_state_of_the_newest_turn(operator, rows):
    _, turn = rows
    url = reverse("admin:sessions_app_agentsession_changelist")
    assert "admitted" in page(operator, url)
    settle_turn(turn, TurnOutcome.FAILED, error_code="rate_limited")
    html = page(operator, url)
    assert "failed" in html
    assert "rate_limited" in html


def test_lists__ask_the_database_equally_often_for_many(operator, rows, django_assert_max_num_queries):
    session, _ = rows
    for _ in range(20):
        make_turn(make_session(session.workspace, server=session.server), state=TurnState.SETTLED)
    for name in ("sessions_app_agentsession", "sessions_app_turn", "sessions_app_sessionevent", "studio_feedevent"):
        with django_assert_max_num_queries(20):
            page(operator, reverse(f"admin:{name}_changelist"))


# ---- the operator's actions


def act(client, name: str, action: str, pk) -> str:
    """Run an action on one row; the page that follows."""
    url = reverse(f"admin:{name}_changelist")
    response = client.post(url, {"action": action, "_selected_action": [str(pk)]}, follow=True)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize(
    ("action", "job"),
    [
        ("reconcile_now", "sessions.reconcile_turn"),
        ("requeue", "sessions.dispatch_turn"),
        ("stop", "sessions.abort_turn"),
    ],
)
@pytest.mark.parametrize("name", ["sessions_app_agentsession", "sessions_app_turn"])
def test_action__asks_for_its_job(
    operator, rows, requested_jobs, django_capture_on_commit_callbacks, name, action, job
):
    session, turn = rows
    requested_jobs.clear()
    with django_capture_on_commit_callbacks(execute=True):
        html = act(operator, name, action, turn.pk if name.endswith("turn") else session.pk)
    assert (job, (str(turn.pk),)) in requested_jobs
    assert f"{turn} is "[1:] in html  # the admin writes messages with a capital
    if action == "stop":
        turn.refresh_from_db()
        assert turn.abort_reason == "operator"


@pytest.mark.parametrize("action", ["reconcile_now", "requeue", "stop"])
def test_action__on_what_is_over_does_nothing_and_says_so(
    operator, rows, requested_jobs, django_capture_on_commit_callbacks, action
):
    _, turn = rows
    settle_turn(turn)
    requested_jobs.clear()
    with django_capture_on_commit_callbacks(execute=True):
        html = act(operator, "sessions_app_turn", action, turn.pk)
    assert requested_jobs == []
    assert "Nothing to do" in html
