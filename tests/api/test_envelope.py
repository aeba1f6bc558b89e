"""Every error has one form, whoever raised it."""

from __future__ import annotations

import json

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.test import RequestFactory
from rest_framework import exceptions

from studio.api.document import failed
from studio.kernel.api_errors import handle
from studio.kernel.errors import Conflict, Forbidden, Invalid, NotFound, Upstream
from tests.api.conftest import error_of, token_client
from tests.factories import make_task

TASKS = "/api/v1/tasks"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Invalid("No.", detail={"field": "title"}), 400, "invalid"),
        (Forbidden("No."), 403, "forbidden"),
        (NotFound("No."), 404, "not_found"),
        (Conflict("No.", allowed=["start"]), 409, "conflict"),
        (Upstream("No.", code="server_unreachable"), 502, "server_unreachable"),
        (Http404(), 404, "not_found"),
        (PermissionDenied(), 403, "forbidden"),
        (exceptions.NotAcceptable(), 406, "not_acceptable"),
        (exceptions.UnsupportedMediaType("text/plain"), 415, "unsupported_media_type"),
        (exceptions.Throttled(wait=7), 429, "throttled"),
    ],
)
def test_handle__gives_each_error_its_status_and_code(error, status, code):
    response = handle(error, {})
    assert response is not None
    assert response.status_code == status
    assert response.data["error"]["code"] == code


def test_handle__keeps_detail_and_allowed():
    body = handle(Conflict("Not now.", allowed=["stop"], detail={"version": 3}), {}).data["error"]
    assert body == {"code": "conflict", "message": "Not now.", "detail": {"version": 3}, "allowed": ["stop"]}
    assert "allowed" not in handle(Conflict("Not now."), {}).data["error"]
    assert handle(Conflict("Not now.", allowed=[]), {}).data["error"]["allowed"] == []


def test_handle__leaves_the_unforeseen_to_django():
    assert handle(RuntimeError("unforeseen"), {}) is None


def test_handle__says_how_long_to_wait():
    response = handle(exceptions.Throttled(wait=6.6), {})
    assert response["Retry-After"] == "7"
    assert response.data["error"]["detail"] == {"wait": 7}


def test_handle__names_the_first_field_and_lists_all():
    error = exceptions.ValidationError({"title": ["Too long."], "labels": {"3": ["Not a string."]}})
    body = handle(error, {}).data["error"]
    assert body["message"] == "“title”: Too long."
    assert body["detail"] == {
        "field": "title",
        "fields": {"title": ["Too long."], "labels.3": ["Not a string."]},
    }


def test_handle__cleans_what_it_repeats():
    body = handle(Invalid("There is no \ud800\x00 here.", detail={"\udfff": ["a\x1b[31mb"]}), {}).data
    assert json.dumps(body, ensure_ascii=False).encode()
    assert "\x00" not in body["error"]["message"]


def test_unforeseen_errors__are_json_below_api_and_a_page_elsewhere():
    response = failed(RequestFactory().get("/api/v1/tasks"))
    assert (response.status_code, json.loads(response.content)["error"]["code"]) == (500, "internal_error")
    page = failed(RequestFactory().get("/projects/"))
    assert page.status_code == 500
    assert page["Content-Type"].startswith("text/html")


def test_unforeseen_errors__reach_the_handler(owner, monkeypatch):
    client = token_client(owner)
    client.raise_request_exception = False
    monkeypatch.setattr("tasks.selectors.list_tasks", lambda *_, **__: 1 / 0)
    error_of(client.get(TASKS), 500, "internal_error")


@pytest.mark.parametrize(
    "path", ["/api/nothing", "/api/", "/api/v1/", "/api/v1/tasks/", "/api/v1/tasks/DEMO-1/plans/x"]
)
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_unknown_address__is_404(client, db, path, method):
    error_of(getattr(client, method)(path), 404, "not_found")


def test_wrong_method__is_405(maintainer, project):
    task = make_task(project)
    error_of(maintainer.put(TASKS, {}), 405, "method_not_allowed")
    error_of(maintainer.delete(TASKS), 405, "method_not_allowed")
    error_of(maintainer.options(TASKS), 405, "method_not_allowed")
    error_of(maintainer.get(f"{TASKS}/{task.key}/start"), 405, "method_not_allowed")
    assert maintainer.put(TASKS, {})["Allow"] == "GET, POST, HEAD, OPTIONS"


def test_wrong_media__is_415_and_406(maintainer):
    error_of(maintainer.post(TASKS, "title=x", content_type="text/plain"), 415, "unsupported_media_type")
    error_of(maintainer.get(TASKS, HTTP_ACCEPT="text/html"), 406, "not_acceptable")
