"""The page of a project's forge, and the pull request on a task's page."""

from __future__ import annotations

import pytest

from studio.kernel.clock import now
from studio.kernel.permissions import Role
from tasks.choices import Needs, Status
from tasks.models import ImportedIssue, Task
from tests.factories import make_member, make_task, make_workspace
from tests.pages.conftest import body, signed_in
from tests.real.forge_server import REPOSITORY, TOKEN, forge_server
from tests.repositories import git
from workspaces.forge.connections import save_connection
from workspaces.models import ForgeConnection, PullRequest, PullRequestState, ReviewComment

PAGE = "/projects/DEMO/settings/forge/"


@pytest.fixture
def forge():
    with forge_server("github") as running:
        running.issue(12, "It crashes", "", "bug")
        yield running


@pytest.fixture
def connected(project, owner, forge):
    git(project.path, "remote", "add", "origin", f"{forge.url}/octo/app.git")
    return save_connection(actor=owner, project=project, base_url=forge.url, token=TOKEN)


@pytest.fixture
def pull_request(project, connected):
    """An open pull request of a task in review."""
    task = make_task(project, status=Status.REVIEW, needs=Needs.PULL_REQUEST, reason="Pull request #1 is open.")
    Task.objects.filter(pk=task.pk).update(workspace=make_workspace(project))
    checks = [
        {"id": "1", "name": "<b>build</b>", "state": "passed", "url": "", "summary": ""},
        {"id": "2", "name": "tests", "state": "failed", "url": "javascript:alert(1)", "summary": "1 failed"},
    ]
    row = PullRequest.objects.create(
        workspace=Task.objects.get(pk=task.pk).workspace, state=PullRequestState.OPEN, repository=REPOSITORY, number=1,
        url=f"{connected.base_url}/octo/app/pull/1", title="Say goodbye", head_branch="studio/x", base_branch="main",
        checks=[{**one, "url": ""} for one in checks], checks_state="failed", synced_at=now(),
    )  # fmt: skip
    ReviewComment.objects.create(
        pull_request=row, upstream_id="comment-1", author="ada", path="app.py", line=3, body="<script>x</script> **Hm**"
    )
    row.task = task
    return row


def test_page__begins_with_what_the_remotes_say(project, as_owner, as_viewer, as_stranger):
    git(project.path, "remote", "add", "origin", "git@github.com:octo/app.git")
    shown = body(as_owner.get(PAGE))
    assert 'value="octo/app"' in shown
    assert 'value="https://api.github.com"' in shown
    seen = body(as_viewer.get(PAGE))
    assert "Not connected" in seen
    assert "<form class=" not in seen
    assert as_stranger.get(PAGE).status_code == 404


def test_page__saves_and_checks_and_never_shows_the_token(project, forge, as_owner, as_viewer):
    given = {"kind": "github", "base_url": forge.url, "repository": REPOSITORY, "remote": "origin", "token": TOKEN}
    assert as_viewer.post(PAGE, given).status_code == 403
    wrong = as_owner.post(PAGE, {**given, "base_url": "http://example.com"})
    assert wrong.status_code == 400
    assert "https only" in body(wrong)
    assert TOKEN not in body(wrong)
    assert as_owner.post(PAGE, {**given, "reviewers": "ada, grace", "draft": "1"}).status_code == 302
    row = ForgeConnection.objects.get()
    assert (row.reviewers, row.draft) == (["ada", "grace"], True)
    assert TOKEN not in body(as_owner.get(PAGE))
    assert as_owner.post(PAGE, {**given, "token": ""}).status_code == 302
    assert ForgeConnection.objects.get().sealed_token  # an empty field keeps it
    assert "no remote called" in body(as_owner.post(f"{PAGE}check/"))
    git(project.path, "remote", "add", "origin", f"{forge.url}/octo/app.git")
    assert "The connection works" in body(as_owner.post(f"{PAGE}check/"))
    assert as_viewer.post(f"{PAGE}check/").status_code == 403
    assert as_owner.post(f"{PAGE}remove/").status_code == 302
    assert not ForgeConnection.objects.exists()


def test_issues__are_imported_from_the_page(project, connected, as_reviewer, as_viewer):
    assert "Import issues" in body(as_reviewer.get(PAGE))
    assert "Import issues" not in body(as_viewer.get(PAGE))
    answer = as_reviewer.post(f"{PAGE}import/", {"label": "bug"}, follow=True)
    assert "1 imported: DEMO-1" in body(answer)
    answer = as_reviewer.post(f"{PAGE}import/", {"issue": "99"}, follow=True)
    assert answer.redirect_chain[-1][0] == PAGE
    assert "no such thing" in body(answer)
    task = Task.objects.get()
    assert ImportedIssue.objects.get().url in body(as_viewer.get(f"/tasks/{task.key}/?tab=task"))


def test_task__shows_the_pull_request(pull_request, as_owner, as_viewer):
    url = f"/tasks/{pull_request.task.key}/?tab=pull_request"
    shown = body(as_owner.get(url))
    for words in (
        "The pull request is open", "Say goodbye #1", "&lt;b&gt;build&lt;/b&gt;", "Send its log to the agent",
        "Import 1 comment as finding", "app.py:3", "<strong>Hm</strong>", "Refresh",
    ):  # fmt: skip
        assert words in shown, words
    assert "<script>x" not in shown
    seen = body(as_viewer.get(url))
    assert "Say goodbye #1" in seen
    for words in ("Send its log", "Import 1 comment", ">Refresh<"):
        assert words not in seen, words
    assert "Pull request open" in body(as_viewer.get("/projects/DEMO/board/"))


def test_task__offers_a_pull_request_with_words_to_edit(project, connected, as_owner):
    task = make_task(project, status=Status.REVIEW, title="Say <goodbye>")
    Task.objects.filter(pk=task.pk).update(workspace=make_workspace(project))
    shown = body(as_owner.get(f"/tasks/{task.key}/"))
    assert "Open a pull request" in shown
    assert 'value="Say &lt;goodbye&gt;"' in shown
    kept = {"how": "pull_request", "title": "T" * 300, "body": "My own words"}
    wrong = body(as_owner.post(f"/tasks/{task.key}/act/complete/", kept))
    assert "My own words" in wrong
    assert "250 are possible" in wrong
    answer = as_owner.post(
        f"/tasks/{task.key}/act/complete/", {"how": "pull_request", "title": "T", "body": "B", "draft": "1"}
    )
    assert answer.status_code == 302
    row = PullRequest.objects.get()
    assert (row.title, row.body, row.draft) == ("T", "B", True)


def test_actions__say_how_it_went(pull_request, as_owner, project):
    base = f"/tasks/{pull_request.task.key}/pull-request"
    assert "read again now" in body(as_owner.post(f"{base}/refresh/", follow=True))
    assert as_owner.post(f"{base}/fix-check/", {"check": "9"}).status_code == 404
    assert as_owner.post(f"{base}/dance/").status_code == 404
    assert "1 to 20,000 characters" in body(as_owner.post(f"{base}/comment/", {"body": " "}, follow=True))
    viewer = signed_in(make_member(project, Role.VIEWER))
    assert "needs the role reviewer" in body(viewer.post(f"{base}/refresh/", follow=True))
    assert "Sent to an agent" in body(as_owner.post(f"{base}/answer-comments/", follow=True))
    assert Task.objects.get(pk=pull_request.task.pk).status == Status.IN_PROGRESS
