"""Forges, pull requests and issues over REST."""

from __future__ import annotations

import pytest

from studio.kernel.permissions import Role
from tasks.choices import Needs, Status
from tasks.models import Task
from tests.api.conftest import error_of, token_client
from tests.factories import make_member, make_task, make_workspace
from tests.real.forge_server import REPOSITORY, TOKEN, forge_server
from workspaces.models import ForgeConnection, PullRequest, PullRequestState, ReviewComment

pytestmark = pytest.mark.django_db

FORGE = "/api/v1/projects/DEMO/forge"


@pytest.fixture
def boss(project):
    return token_client(make_member(project, Role.OWNER))


@pytest.fixture
def forge():
    with forge_server("gitea") as running:
        running.issue(12, "It crashes", "", "bug")
        yield running


@pytest.fixture
def connected(boss, forge):
    given = {"kind": "gitea", "base_url": forge.url, "repository": REPOSITORY, "token": TOKEN}
    return boss.put(FORGE, given, format="json")


def test_connection__is_set_read_checked_and_removed(boss, maintainer, outsider, connected, forge):
    assert connected.status_code == 200, connected.content
    assert connected.json()["has_token"] is True
    assert TOKEN not in maintainer.get(FORGE).content.decode()
    error_of(maintainer.put(FORGE, {"draft": True}, format="json"), 403)
    error_of(outsider.get(FORGE), 404)
    error_of(boss.put(FORGE, {"base_url": "http://x.example"}, format="json"), 400)
    error_of(boss.put(FORGE, {"colour": "red"}, format="json"), 400)
    checked = boss.post(f"{FORGE}/check").json()
    assert checked["repository"] == REPOSITORY
    assert "no remote" in checked["problems"][0]
    error_of(maintainer.post(f"{FORGE}/check"), 403)
    assert boss.delete(FORGE).status_code == 204
    assert not ForgeConnection.objects.exists()
    error_of(boss.get(FORGE), 404, "no_forge")
    error_of(boss.post(f"{FORGE}/check"), 409, "no_forge")


def test_issues__are_imported(reviewer, viewer, connected):
    path = "/api/v1/projects/DEMO/issues/import"
    [first] = reviewer.post(path, {"issue": "12"}, format="json").json()
    assert (first["number"], first["created"]) == (12, True)
    assert reviewer.post(path, {"label": "bug"}, format="json").json()[0]["created"] is False
    error_of(viewer.post(path, {"issue": "12"}, format="json"), 403)
    error_of(reviewer.post(path, {}, format="json"), 400)
    error_of(reviewer.post(path, {"issue": "99"}, format="json"), 502, "forge_not_found")
    assert viewer.get(f"/api/v1/tasks/{first['key']}/issue").json()["number"] == 12
    error_of(viewer.get(f"/api/v1/tasks/{make_task(Task.objects.get().project).key}/issue"), 404, "no_issue")


def test_pull_request__is_read_and_acted_on(project, maintainer, reviewer, viewer, connected):
    task = make_task(project, status=Status.REVIEW, needs=Needs.PULL_REQUEST)
    path = f"/api/v1/tasks/{task.key}/pull_request"
    error_of(viewer.get(path), 404, "no_pull_request")
    Task.objects.filter(pk=task.pk).update(workspace=make_workspace(project))
    row = PullRequest.objects.create(
        workspace=Task.objects.get(pk=task.pk).workspace, state=PullRequestState.OPEN, repository=REPOSITORY, number=1,
        title="T", head_branch="studio/x", base_branch="main",
        checks=[{"id": "status-1", "name": "tests", "state": "failed", "url": "", "summary": "1 failed"}],
    )  # fmt: skip
    ReviewComment.objects.create(pull_request=row, upstream_id="comment-1", author="ada", body="Hm.")
    shown = viewer.get(path).json()
    assert (shown["state"], shown["number"], shown["comments"][0]["body"]) == ("open", 1, "Hm.")
    assert viewer.get(f"/api/v1/tasks/{task.key}").json()["needs"] == "pull_request"
    error_of(viewer.post(f"{path}/refresh"), 403)
    assert reviewer.post(f"{path}/refresh").status_code == 200
    error_of(reviewer.post(f"{path}/fix_check", {"check_id": "9"}, format="json"), 404)
    error_of(reviewer.post(f"{path}/comment", {"body": "x"}, format="json"), 403)
    assert maintainer.post(f"{path}/comment", {"body": "Thanks."}, format="json").status_code == 204
    answer = reviewer.post(f"{path}/answer_comments")
    assert answer.json()["status"] == "in_progress"
    error_of(reviewer.post(f"{path}/answer_comments"), 409)
    error_of(reviewer.post(f"{path}/fix_check", {"check_id": "status-1"}, format="json"), 409)


def test_complete__by_pull_request_over_rest(project, maintainer, connected):
    task = make_task(project, status=Status.REVIEW)
    Task.objects.filter(pk=task.pk).update(workspace=make_workspace(project))
    path = f"/api/v1/tasks/{task.key}/complete"
    shown = maintainer.post(path, {"how": "pull_request", "title": "T", "body": "B"}, format="json").json()
    assert (shown["status"], shown["run_state"]) == ("review", "running")
    assert PullRequest.objects.get().title == "T"
    error_of(maintainer.post(path, {"how": "pull_request"}, format="json"), 409)
