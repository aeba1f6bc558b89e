"""Tasks over REST: reading, making, editing, deleting."""

from __future__ import annotations

import pytest

from tasks.choices import Needs, RunState, Status
from tasks.models import Task
from tests.api.conftest import error_of, token_client
from tests.factories import (
    make_finding,
    make_plan,
    make_project,
    make_review,
    make_run,
    make_session,
    make_task,
    make_turn,
    make_user,
    make_workspace,
)

TASKS = "/api/v1/tasks"


def titles(response) -> list[str]:
    """The titles of a page of tasks."""
    assert response.status_code == 200, response.content
    return [task["title"] for task in response.json()["results"]]


# ---- reading


def test_retrieve__by_key_in_any_case_and_by_id(viewer, project):
    task = make_task(project, title="A task", description="Do **it**.", labels=["a", "b"], priority=3)
    for ref in (task.key, task.key.lower(), str(task.pk), str(task.pk).upper()):
        body = viewer.get(f"{TASKS}/{ref}").json()
        assert body["id"] == str(task.pk)
    assert body["key"] == "DEMO-1"
    assert body["project"] == str(project.pk)
    assert body["project_key"] == "DEMO"
    assert (body["title"], body["description"], body["labels"], body["priority"]) == (
        "A task",
        "Do **it**.",
        ["a", "b"],
        3,
    )
    assert (body["status"], body["run_state"], body["needs"], body["version"]) == ("todo", "idle", "", 1)
    assert body["actions"] == ["start", "cancel"]
    assert (body["workspace"], body["branch"]) == (None, "")


@pytest.mark.parametrize("ref", ["DEMO-99", "nothing", "%00", "%ED%A0%80", "a" * 300, "DEMO-999999999", "-1", "1"])
def test_retrieve__unknown_is_404(viewer, ref):
    error_of(viewer.get(f"{TASKS}/{ref}"), 404, "not_found")


def test_retrieve__says_why_it_failed_and_what_to_do(viewer, project):
    make_task(
        project, status=Status.PLANNING, run_state=RunState.FAILED, needs=Needs.FAILURE, error_code="provider_auth",
        reason="The model provider refused the credentials.",
    )  # fmt: skip
    body = viewer.get(f"{TASKS}/DEMO-1").json()
    assert body["error_code"] == "provider_auth"
    assert "Retry" in body["next_step"]
    assert body["actions"] == ["retry", "cancel"]


def test_retrieve__names_the_branch_of_the_workspace(viewer, project):
    workspace = make_workspace(project)
    make_task(project, workspace=workspace)
    body = viewer.get(f"{TASKS}/DEMO-1").json()
    assert (body["workspace"], body["branch"]) == (str(workspace.pk), workspace.branch)


def test_list__is_narrowed_down(owner, project):
    other = make_project()
    make_task(project, title="First", description="about parrots")
    make_task(project, title="Second", status=Status.REVIEW)
    make_task(other, title="Elsewhere", status=Status.PLANNING, run_state=RunState.QUEUED)
    client = token_client(owner)
    assert titles(client.get(TASKS)) == ["Elsewhere", "Second", "First"]
    for ref in (project.key, project.key.lower(), str(project.pk)):
        assert titles(client.get(TASKS, {"project": ref})) == ["Second", "First"]
    assert titles(client.get(TASKS, {"status": "review"})) == ["Second"]
    assert titles(client.get(TASKS, {"run_state": "queued"})) == ["Elsewhere"]
    assert titles(client.get(TASKS, {"needs": "review"})) == ["Second"]
    assert titles(client.get(TASKS, {"q": "PARROTS"})) == ["First"]
    assert titles(client.get(TASKS, {"q": "demo-2"})) == ["Second"]
    assert titles(client.get(TASKS, {"q": "first parrots"})) == ["First"]
    assert titles(client.get(TASKS, {"q": "first", "status": "review"})) == []
    assert titles(client.get(TASKS, {"q": ""})) == ["Elsewhere", "Second", "First"]


def test_list__is_ordered(owner, project):
    for title, priority in (("B", 1), ("A", 5), ("C", 3)):
        make_task(project, title=title, priority=priority)
    client = token_client(owner)
    assert titles(client.get(TASKS, {"ordering": "title"})) == ["A", "B", "C"]
    assert titles(client.get(TASKS, {"ordering": "-priority"})) == ["A", "C", "B"]
    assert titles(client.get(TASKS, {"ordering": "number"})) == ["B", "A", "C"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "finished"}, "status"),
        ({"run_state": "x"}, "run_state"),
        ({"needs": "x"}, "needs"),
        ({"ordering": "description"}, "ordering"),
        ({"q": "x" * 300}, "q"),
        ({"q": "a\x00b"}, "q"),
        ({"limit": "0"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"offset": "-1"}, "offset"),
        ({"offset": "9" * 40}, "offset"),
        ({"offset": "1e3"}, "offset"),
    ],
)
def test_list__refuses_what_it_cannot_mean(viewer, query, field):
    assert error_of(viewer.get(TASKS, query), 400, "invalid")["detail"]["field"] == field


def test_list__of_an_unknown_project_is_404(viewer):
    for ref in ("NONE", "00000000-0000-4000-8000-000000000000", "?"):
        error_of(viewer.get(TASKS, {"project": ref}), 404, "not_found")


def test_pages__follow_one_another_without_gap_or_double(viewer, project):
    for number in range(7):
        make_task(project, title=f"T{number}")
    seen, url = [], f"{TASKS}?limit=3&q=T"
    while url:
        page = viewer.get(url).json()
        assert set(page) == {"results", "next", "previous"}
        seen += [task["title"] for task in page["results"]]
        back, url = page["previous"], page["next"]
    assert seen == [f"T{number}" for number in reversed(range(7))]
    assert titles(viewer.get(back)) == ["T3", "T2", "T1"]
    assert viewer.get(TASKS, {"offset": 100}).json() == {
        "results": [], "next": None, "previous": "http://testserver/api/v1/tasks?limit=50&offset=50",
    }  # fmt: skip


def test_list__asks_the_database_equally_often_for_many(owner, project, django_assert_num_queries):
    client = token_client(owner)
    for _ in range(2):
        make_task(project, workspace=make_workspace(project))
    # Token, the account's other tokens (expired ones go), tasks: whatever the page holds.
    with django_assert_num_queries(3):
        client.get(TASKS)
    for _ in range(60):
        make_task(project)
    with django_assert_num_queries(3):
        assert len(client.get(TASKS).json()["results"]) == 50


# ---- what belongs to a task


def test_parts__of_a_new_task_are_empty_pages(viewer, project):
    make_task(project)
    for part in ("plans", "runs", "reviews", "findings", "sessions", "history"):
        assert viewer.get(f"{TASKS}/DEMO-1/{part}").json() == {"results": [], "next": None, "previous": None}
    error_of(viewer.get(f"{TASKS}/DEMO-1/diff"), 404, "no_workspace")


@pytest.mark.parametrize("part", ["plans", "runs", "reviews", "findings", "sessions", "history", "diff"])
def test_parts__of_an_unknown_task_are_404(viewer, part):
    error_of(viewer.get(f"{TASKS}/DEMO-99/{part}"), 404, "not_found")


def test_plans__in_order_with_their_decisions(viewer, project):
    task = make_task(project)
    person = make_user("anna")
    make_plan(task, text="# One", feedback="Not like this.")
    make_plan(task, text="# Two", approved_by=person)
    first, second = viewer.get(f"{TASKS}/DEMO-1/plans").json()["results"]
    assert (first["version"], first["text"], first["feedback"], first["approved_by"]) == (
        1,
        "# One",
        "Not like this.",
        None,
    )
    assert (second["version"], second["approved_by"]) == (2, "anna")


def test_runs_and_sessions__of_a_task(viewer, project):
    workspace = make_workspace(project)
    task = make_task(project, status=Status.PLANNING, workspace=workspace)
    session = make_session(workspace, title="Planning")
    turn = make_turn(session)
    make_run(task, session=session, turn=turn, server=session.server, note="Waits.")
    (run,) = viewer.get(f"{TASKS}/DEMO-1/runs").json()["results"]
    assert (run["phase"], run["round"], run["state"], run["note"]) == ("planning", 1, "running", "Waits.")
    assert (run["session"], run["turn"], run["server"]) == (str(session.pk), str(turn.pk), session.server.name)
    (found,) = viewer.get(f"{TASKS}/DEMO-1/sessions").json()["results"]
    assert (found["id"], found["title"], found["busy"]) == (str(session.pk), "Planning", True)
    assert [one["number"] for one in found["turns"]] == [1]


def test_reviews_and_findings__of_a_task(viewer, project):
    task = make_task(project)
    review = make_review(task, verdict="changes_requested", summary="Not yet.")
    make_finding(task, review=review, title="A bug", file="src/a b.py", line=3)
    (shown,) = viewer.get(f"{TASKS}/DEMO-1/reviews").json()["results"]
    assert (shown["verdict"], shown["summary"]) == ("changes_requested", "Not yet.")
    assert [finding["title"] for finding in shown["findings"]] == ["A bug"]
    (finding,) = viewer.get(f"{TASKS}/DEMO-1/findings").json()["results"]
    assert (finding["number"], finding["severity"], finding["state"]) == (1, "error", "open")
    assert (finding["file"], finding["line"], finding["review"]) == ("src/a b.py", 3, str(review.pk))


@pytest.mark.parametrize("part", ["plans", "runs", "reviews", "findings", "sessions", "history"])
def test_parts__ask_the_database_equally_often_for_many(maintainer, project, part, django_assert_max_num_queries):
    task = make_task(project)
    workspace = make_workspace(project)
    for _ in range(4):
        make_plan(task)
        review = make_review(task)
        make_finding(task, review=review)
        session = make_session(workspace)
        make_run(task, state="succeeded", session=session, turn=make_turn(session))
    for number in range(4):
        maintainer.patch(f"{TASKS}/DEMO-1", {"title": f"Title {number}"})
    with django_assert_max_num_queries(6):
        assert maintainer.get(f"{TASKS}/DEMO-1/{part}").status_code == 200


# ---- making


def test_create__answers_the_task_and_its_address(reviewer, project):
    body = {"project": "demo", "title": "  A   new task ", "description": "Why.\n", "priority": 2, "labels": ["x", "x"]}
    response = reviewer.post(TASKS, body)
    assert response.status_code == 201
    task = response.json()
    assert response["Location"] == "http://testserver/api/v1/tasks/DEMO-1"
    assert (task["key"], task["title"], task["status"]) == ("DEMO-1", "A new task", "todo")
    assert (task["description"], task["priority"], task["labels"]) == ("Why.", 2, ["x"])
    assert Task.objects.get().created_by is not None


def test_create__by_project_id(reviewer, project):
    assert reviewer.post(TASKS, {"project": str(project.pk), "title": "One"}).status_code == 201


def test_create__and_start(maintainer, project, requested_jobs, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        response = maintainer.post(TASKS, {"project": "DEMO", "title": "One", "start": True})
    assert response.status_code == 201
    task = response.json()
    assert (task["status"], task["run_state"]) == ("planning", "queued")
    assert "tasks.schedule" in [name for name, _ in requested_jobs]
    (run,) = maintainer.get(f"{TASKS}/DEMO-1/runs").json()["results"]
    assert (run["phase"], run["state"]) == ("planning", "queued")


def test_create__unknown_project_is_404(reviewer):
    error_of(reviewer.post(TASKS, {"project": "NONE", "title": "One"}), 404, "not_found")


def test_create__a_misspelt_field_is_not_lost_silently(reviewer, project):
    error = error_of(reviewer.post(TASKS, {"project": "DEMO", "title": "One", "descripton": "x"}), 400, "invalid")
    assert error["detail"]["field"] == "descripton"
    assert "description" in error["message"]
    error = error_of(reviewer.post(TASKS, {"project": "DEMO", "title": "One", "status": "done"}), 400, "invalid")
    assert "start" in error["message"]
    assert not Task.objects.exists()


# ---- editing


def test_edit__changes_what_is_named_and_counts_the_version(reviewer, project):
    make_task(project, title="Old", description="Kept.")
    response = reviewer.patch(f"{TASKS}/DEMO-1", {"title": "New", "labels": ["b"], "priority": -5})
    assert response.status_code == 200
    body = response.json()
    assert (body["title"], body["description"], body["labels"], body["priority"]) == ("New", "Kept.", ["b"], -5)
    assert body["version"] == 2
    assert reviewer.patch(f"{TASKS}/DEMO-1", {}).json()["version"] == 2


@pytest.mark.parametrize("status", ["done", "planning", "todo", None, 3, ["done"]])
def test_edit__refuses_the_status_and_points_at_the_actions(maintainer, project, status):
    make_task(project, title="Old")
    error = error_of(maintainer.patch(f"{TASKS}/DEMO-1", {"title": "New", "status": status}), 400, "invalid")
    assert error["detail"]["field"] == "status"
    assert "/api/v1/tasks/{ref}/{action}" in error["message"]
    task = Task.objects.get()
    assert (task.title, task.status) == ("Old", "todo")


@pytest.mark.parametrize("field", ["run_state", "position", "project", "key", "id", "version_", "workspace"])
def test_edit__refuses_what_is_not_its_own(maintainer, project, field):
    make_task(project)
    assert error_of(maintainer.patch(f"{TASKS}/DEMO-1", {field: "x"}), 400)["detail"]["field"] == field


def test_edit__of_an_old_version_is_409_and_changes_nothing(reviewer, project):
    make_task(project, title="Old")
    assert reviewer.patch(f"{TASKS}/DEMO-1", {"title": "First", "version": 1}).status_code == 200
    error = error_of(reviewer.patch(f"{TASKS}/DEMO-1", {"title": "Second", "version": 1}), 409, "version_conflict")
    assert error["detail"]["version"] == 2
    assert Task.objects.get().title == "First"


def test_edit__places_a_task_beside_another(reviewer, project):
    for title in "ABC":
        make_task(project, title=title)
    board = lambda: titles(reviewer.get(TASKS, {"ordering": "position"}))  # noqa: E731
    assert board() == ["A", "B", "C"]
    assert reviewer.patch(f"{TASKS}/DEMO-3", {"before": "DEMO-1"}).status_code == 200
    assert board() == ["C", "A", "B"]
    assert reviewer.patch(f"{TASKS}/DEMO-3", {"after": "DEMO-1", "title": "D"}).status_code == 200
    assert board() == ["A", "D", "B"]
    error_of(reviewer.patch(f"{TASKS}/DEMO-3", {"after": "DEMO-1", "before": "DEMO-2"}), 400)
    error_of(reviewer.patch(f"{TASKS}/DEMO-3", {"after": "DEMO-99"}), 404)


def test_edit__and_place_happen_together_or_not_at_all(reviewer, project):
    make_task(project, title="A")
    make_task(project, title="B", status=Status.REVIEW)
    error_of(reviewer.patch(f"{TASKS}/DEMO-1", {"title": "Changed", "after": "DEMO-2"}), 400, "invalid")
    assert Task.objects.get(key="DEMO-1").title == "A"


def test_delete__and_it_is_gone(maintainer, project):
    make_task(project)
    response = maintainer.delete(f"{TASKS}/DEMO-1")
    assert (response.status_code, response.content) == (204, b"")
    error_of(maintainer.get(f"{TASKS}/DEMO-1"), 404)
    error_of(maintainer.delete(f"{TASKS}/DEMO-1"), 404)


def test_delete__of_a_task_at_work_is_409(maintainer, project):
    task = make_task(project, status=Status.PLANNING, run_state=RunState.RUNNING)
    make_run(task)
    assert error_of(maintainer.delete(f"{TASKS}/DEMO-1"), 409)["allowed"] == ["stop"]
