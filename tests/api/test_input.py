"""What programs send by mistake or on purpose: a clear 400, never a 500, and nothing half done."""

from __future__ import annotations

import json

import pytest
from django.test import override_settings

from tasks.models import Task
from tests.api.conftest import error_of
from tests.factories import make_task

TASKS = "/api/v1/tasks"


def post_raw(client, raw: bytes, content_type: str = "application/json"):
    """Post bytes as they are."""
    return client.generic("POST", TASKS, raw, content_type=content_type)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe\x00",
        b'{"title": "\xff"}',
        b'{"title": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"priority": ' + b"9" * 5_000 + b"}",
    ],
)
def test_body__that_is_no_json_is_400(reviewer, project, raw):
    error = error_of(post_raw(reviewer, raw), 400)
    assert error["code"] in ("malformed", "invalid")
    assert not Task.objects.exists()


@pytest.mark.parametrize("raw", [b"[]", b"3", b'"text"', b"null", b"true", b'[{"title": "x"}]'])
def test_body__that_is_no_object_is_400(reviewer, project, raw):
    error_of(post_raw(reviewer, raw), 400, "invalid")


def test_body__in_another_charset_is_refused_or_read(reviewer, project):
    error_of(post_raw(reviewer, b"{}", "application/json; charset=rubbish"), 400)
    error_of(post_raw(reviewer, b"{}", "application/json; charset=bz2"), 400)
    body = json.dumps({"project": "DEMO", "title": "Ä"}).encode("utf-16")
    assert post_raw(reviewer, body, "application/json; charset=utf-16").status_code == 201


def test_body__beyond_the_limit_is_413(reviewer, project):
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1_000):
        body = json.dumps({"project": "DEMO", "title": "x", "description": "y" * 2_000}).encode()
        error_of(post_raw(reviewer, body), 413, "too_large")
    assert not Task.objects.exists()


def test_description__of_one_megabyte_is_refused_with_the_limit(reviewer, project):
    body = {"project": "DEMO", "title": "Long", "description": "y" * 1_000_000}
    error = error_of(reviewer.post(TASKS, body), 400, "invalid")
    assert error["detail"]["field"] == "description"
    assert "200,000" in error["message"]
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", ""),
        ("title", "  \n "),
        ("title", "x" * 201),
        ("title", "a\x00b"),
        ("title", "a\ud800b"),
        ("title", None),
        ("title", []),
        ("title", {"a": 1}),
        ("title", True),
        ("description", None),
        ("description", ["x"]),
        ("description", "a\udfffb"),
        ("description", "a\x00b"),
        ("priority", "high"),
        ("priority", 101),
        ("priority", 1e400),
        ("priority", None),
        ("priority", 10**30),
        ("labels", "one"),
        ("labels", {"a": "b"}),
        ("labels", [""]),
        ("labels", ["x" * 41]),
        ("labels", [str(number) for number in range(21)]),
        ("labels", [["nested"]]),
        ("start", "perhaps"),
        ("start", None),
        ("project", None),
        ("project", {}),
        ("project", "x" * 65),
    ],
)
def test_create__bad_value_is_400_and_names_the_field(maintainer, project, field, value):
    body = {"project": "DEMO", "title": "Good", field: value}
    error = error_of(post_raw(maintainer, json.dumps(body).encode()), 400)
    if value != 1e400:  # json writes Infinity, which is no JSON
        assert error["detail"]["field"].split(".")[0] == field
    assert not Task.objects.exists()


def test_edit__bad_value_is_400_and_changes_nothing(maintainer, project):
    make_task(project, title="Kept", description="Kept.")
    for body in (
        {"title": ""},
        {"description": "y" * 1_000_000},
        {"priority": "x"},
        {"version": -1},
        {"version": 2**40},
    ):
        error_of(maintainer.patch(f"{TASKS}/DEMO-1", {"labels": ["new"], **body}), 400)
    task = Task.objects.get()
    assert (task.title, task.description, task.labels, task.version) == ("Kept", "Kept.", [], 1)


def test_unknown_field_with_hostile_name__is_repeated_safely(maintainer, project):
    body = json.dumps({"project": "DEMO", "title": "x", "\ud800\x00<script>" + "n" * 500: 1}).encode()
    error = error_of(post_raw(maintainer, body), 400, "invalid")
    assert len(error["detail"]["field"]) <= 80


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "Ünï¢ødé 🦜 \u202e", "a\u2028b", "'; DROP TABLE tasks_task; --"]
)
def test_text__comes_back_as_it_was(maintainer, project, text):
    body = maintainer.post(TASKS, {"project": "DEMO", "title": "x", "description": text}).json()
    assert body["description"] == text
    assert maintainer.get(f"{TASKS}/DEMO-1").json()["description"] == text
