"""Who is let in, and what each role may do."""

from __future__ import annotations

import pytest
from django.test import Client
from knox.models import AuthToken
from rest_framework.test import APIClient

from studio.kernel.clock import later
from tasks.models import Task
from tests.api.conftest import error_of, token_client
from tests.factories import make_member, make_project, make_session, make_task, make_workspace

TASKS = "/api/v1/tasks"


def everything(task, session) -> list[str]:
    """Every address that can be read."""
    one = f"{TASKS}/{task.key}"
    parts = ["plans", "runs", "reviews", "findings", "sessions", "history", "diff"]
    return [
        one,
        f"{TASKS}/{task.pk}",
        *(f"{one}/{part}" for part in parts),
        f"/api/v1/sessions/{session.pk}",
        f"/api/v1/sessions/{session.pk}/events",
        f"/api/v1/sessions/{session.pk}/transcript",
        f"/api/v1/feed?project={task.project.key}",
        f"/api/v1/tasks?project={task.project_id}",
    ]


@pytest.fixture
def rows(project):
    workspace = make_workspace(project)
    return make_task(project, workspace=workspace), make_session(workspace)


def test_nobody__gets_401_and_no_redirect(client, rows):
    for path in [*everything(*rows), TASKS, "/api/v1/health", "/api/schema"]:
        response = client.get(path)
        error = error_of(response, 401, "not_authenticated")
        assert "Bearer" in error["message"]
        assert response["WWW-Authenticate"] == "Bearer"
    error_of(client.post(TASKS, {}, content_type="application/json"), 401)
    error_of(client.delete(f"{TASKS}/{rows[0].key}"), 401)


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer", "Bearer a b", f"Bearer {'x' * 64}", "Bearer \xff\xfe"])
def test_wrong_token__is_401(db, header):
    client = APIClient()
    error_of(client.get(TASKS, HTTP_AUTHORIZATION=header), 401, "authentication_failed")


def test_other_schemes__count_as_nobody(db):
    error_of(APIClient().get(TASKS, HTTP_AUTHORIZATION="Basic b3duZXI6eA=="), 401, "not_authenticated")


def test_token__ends_with_its_expiry_its_account_and_its_row(owner, member):
    _, expired = AuthToken.objects.create(owner, expiry=None)
    AuthToken.objects.update(expiry=later(-1))
    error_of(APIClient().get(TASKS, HTTP_AUTHORIZATION=f"Bearer {expired}"), 401)
    client = token_client(member)
    assert client.get(TASKS).status_code == 200
    member.is_active = False
    member.save()
    error_of(client.get(TASKS), 401)


def test_session__reads_and_needs_the_csrf_token_to_write(owner, project):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(owner)
    assert browser.get(TASKS).status_code == 200
    body = {"project": "DEMO", "title": "From a browser"}
    error = error_of(browser.post(TASKS, body, content_type="application/json"), 403, "csrf_failed")
    assert "X-CSRFToken" in error["message"]
    token = browser.get("/admin/").wsgi_request.META["CSRF_COOKIE"]
    response = browser.post(TASKS, body, content_type="application/json", headers={"X-CSRFToken": token})
    assert response.status_code == 201


def test_token__needs_no_csrf(owner, project):
    _, token = AuthToken.objects.create(owner)
    client = Client(enforce_csrf_checks=True)
    response = client.post(
        TASKS,
        {"project": "DEMO", "title": "From a program"},
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert response.status_code == 201


def test_stranger__sees_nothing(outsider, rows):
    for path in everything(*rows):
        error_of(outsider.get(path), 404, "not_found" if "diff" not in path else "")
    assert outsider.get(TASKS).json()["results"] == []
    key = rows[0].key
    error_of(outsider.post(TASKS, {"project": "DEMO", "title": "Mine"}), 404)
    error_of(outsider.patch(f"{TASKS}/{key}", {"title": "Mine"}), 404)
    error_of(outsider.delete(f"{TASKS}/{key}"), 404)
    error_of(outsider.post(f"{TASKS}/{key}/start", {}), 404)


def test_viewer__reads_everything_and_changes_nothing(viewer, rows):
    task, session = rows
    for path in everything(task, session):
        assert viewer.get(path).status_code == 200, path
    error_of(viewer.post(TASKS, {"project": "DEMO", "title": "Mine"}), 403, "forbidden")
    error_of(viewer.patch(f"{TASKS}/{task.key}", {"title": "Mine"}), 403, "forbidden")
    error_of(viewer.delete(f"{TASKS}/{task.key}"), 403, "forbidden")
    error_of(viewer.post(f"{TASKS}/{task.key}/start", {}), 403, "forbidden")
    assert Task.objects.get().title == task.title


def test_reviewer__creates_and_may_not_start(reviewer, project):
    assert reviewer.post(TASKS, {"project": "DEMO", "title": "One"}).status_code == 201
    error_of(reviewer.post(TASKS, {"project": "DEMO", "title": "Two", "start": True}), 403, "forbidden")
    assert list(Task.objects.values_list("title", flat=True)) == ["One"]  # the refused one was not half made
    error_of(reviewer.post(f"{TASKS}/DEMO-1/start", {}), 403, "forbidden")
    error_of(reviewer.delete(f"{TASKS}/DEMO-1"), 403, "forbidden")


def test_list__shows_only_the_projects_of_the_account(project):
    other = make_project()
    make_task(project, title="Mine")
    make_task(other, title="Theirs")
    client = token_client(make_member(project))
    assert [task["title"] for task in client.get(TASKS).json()["results"]] == ["Mine"]
