"""The OpenAPI document, its page, and what both must say of every operation."""

from __future__ import annotations

import json

import pytest
from django.core.management import call_command
from django.template.loader import render_to_string

from studio.api.document import document, groups
from tasks.actions import ROLES
from tests.api.conftest import error_of

OPERATIONS = [
    (path, method, operation)
    for path, item in document()["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
]


def test_document__is_valid_and_free_of_warnings(tmp_path):
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "schema.yml"))


def test_document__is_served_as_json(viewer):
    response = viewer.get("/api/schema")
    assert response.status_code == 200
    assert json.loads(response.content)["openapi"].startswith("3.")


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=[one[2]["operationId"] for one in OPERATIONS])
def test_operation__says_what_it_is_and_how_it_fails(path, method, operation):
    assert operation["summary"]
    assert operation["security"]
    responses = operation["responses"]
    assert any(status.startswith("2") for status in responses)
    errors = {status for status in responses if status >= "400"}
    assert {"401", "406", "429"} <= errors
    if "{" in path:
        assert "404" in errors
    if "requestBody" in operation:
        assert {"400", "413", "415"} <= errors
    if method != "get":
        assert {"403", "409"} <= errors
    for status in errors:
        assert responses[status]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
        assert responses[status]["description"]


def test_document__names_the_permission_to_register():
    refused = document()["paths"]["/api/v1/projects"]["post"]["responses"]["403"]
    assert "`workspaces.add_project`" in refused["description"]


def test_document__has_the_contract_of_the_design():
    known = {(method.upper(), path) for path, method, _ in OPERATIONS}
    parts = ("plans", "runs", "reviews", "findings", "sessions", "history", "diff")
    wanted = {
        ("GET", "/api/v1/health"),
        ("GET", "/api/v1/feed"),
        ("GET", "/api/v1/tasks"),
        ("POST", "/api/v1/tasks"),
        ("GET", "/api/v1/tasks/{ref}"),
        ("PATCH", "/api/v1/tasks/{ref}"),
        ("DELETE", "/api/v1/tasks/{ref}"),
        ("POST", "/api/v1/tasks/{ref}/{action}"),
        ("GET", "/api/v1/sessions/{session_id}"),
        ("GET", "/api/v1/sessions/{session_id}/events"),
        ("GET", "/api/v1/sessions/{session_id}/transcript"),
        ("GET", "/api/v1/projects"),
        ("POST", "/api/v1/projects"),
        *(("GET", f"/api/v1/tasks/{{ref}}/{part}") for part in parts),
    }
    assert wanted <= known


def test_document__names_the_actions_and_no_status_to_set():
    act = document()["paths"]["/api/v1/tasks/{ref}/{action}"]["post"]
    (action,) = [parameter for parameter in act["parameters"] if parameter["name"] == "action"]
    assert sorted(action["schema"]["enum"]) == sorted(ROLES)
    edit = document()["components"]["schemas"]["TaskEditRequest"]
    assert "status" not in edit["properties"]
    assert edit["additionalProperties"] is False


def test_page__lists_every_operation_without_script(client, owner):
    client.force_login(owner)
    response = client.get("/api/docs")
    assert response.status_code == 200
    page = response.content.decode()
    for path, method, operation in OPERATIONS:
        assert f'id="{operation["operationId"]}"' in page
        assert path in page
        assert method.upper() in page
    assert "script-src 'self'" in response["Content-Security-Policy"]
    assert "style=" not in page
    assert "https://" not in page.replace("https://json-schema", "")


def test_page__needs_a_login(client, db):
    response = client.get("/api/docs")
    assert response.status_code == 302
    assert "/login/" in response["Location"]


def test_page__shows_the_fields_of_bodies_and_answers():
    html = render_to_string("studio/api_docs.html", {"info": document()["info"], "groups": groups()})
    assert "run_state" in html
    assert "approve_plan" in html


def test_nothing__is_documented_that_does_not_exist(client, db):
    error_of(client.get("/api/v1/questions"), 404)
    error_of(client.get("/api/v1/inbox"), 404)
