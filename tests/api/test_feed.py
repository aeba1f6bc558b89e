"""The feed over HTTP, read by a cursor."""

from __future__ import annotations

import pytest
from django.db import transaction

from studio.outbox import publish
from tests.api.conftest import error_of

FEED = "/api/v1/feed"


def happen(project, count: int) -> None:
    """Let `count` things happen in a project."""
    with transaction.atomic():
        for number in range(count):
            publish(project.pk, f"task:{project.pk}", "task.updated", {"number": number})


def test_feed__is_read_by_cursor_without_gap_or_double(viewer, project):
    happen(project, 5)
    page = viewer.get(FEED, {"project": "DEMO", "limit": 3}).json()
    assert [event["seq"] for event in page["results"]] == [1, 2, 3]
    assert page["results"][0]["kind"] == "task.updated"
    assert page["results"][0]["topic"] == f"task:{project.pk}"
    assert page["results"][0]["data"] == {"number": 0}
    assert page["head"] == 5
    rest = viewer.get(page["next"]).json()
    assert [event["seq"] for event in rest["results"]] == [4, 5]
    assert rest["next"] is None
    assert viewer.get(FEED, {"project": str(project.pk), "after": 5}).json()["results"] == []


def test_feed__of_a_project_where_nothing_happened(viewer, project):
    assert viewer.get(FEED, {"project": "DEMO"}).json() == {"results": [], "next": None, "previous": None, "head": 0}


def test_feed__needs_a_project(viewer):
    assert error_of(viewer.get(FEED), 400, "invalid")["detail"]["field"] == "project"
    error_of(viewer.get(FEED, {"project": "NONE"}), 404, "not_found")


@pytest.mark.parametrize(
    "query", [{"after": "-1"}, {"after": "x"}, {"after": str(2**63)}, {"limit": "0"}, {"limit": "501"}]
)
def test_feed__refuses_bad_cursors(viewer, query):
    error = error_of(viewer.get(FEED, {"project": "DEMO", **query}), 400, "invalid")
    assert error["detail"]["field"] == next(iter(query))


def test_feed__tells_what_the_api_did(maintainer, project):
    maintainer.post("/api/v1/tasks", {"project": "DEMO", "title": "One"})
    maintainer.post("/api/v1/tasks/DEMO-1/start", {})
    events = maintainer.get(FEED, {"project": "DEMO"}).json()["results"]
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "task.created"
    assert "task.moved" in kinds
    moved = next(event for event in events if event["kind"] == "task.moved")
    assert (moved["data"]["from"], moved["data"]["to"], moved["data"]["action"]) == ("todo", "planning", "start")
