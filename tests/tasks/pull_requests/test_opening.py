"""Completing by pull request: opened once, pushed, refused, given up."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from django.db import IntegrityError
from structlog.testing import capture_logs

from agents.models import AgentRole
from sessions_app.models import AgentSession, Delivery
from sessions_app.services import inbox
from sessions_app.services.follow_up import open_next
from studio.kernel.clock import later
from studio.kernel.errors import Conflict, Forbidden
from studio.kernel.permissions import Role
from studio.models import FeedEvent
from tasks.choices import Needs, Phase, RunState, Status
from tasks.models import PhaseRun
from tasks.services import proposal, pull_requests
from tasks.services.lifecycle import act
from tests.factories import make_member
from tests.real.forge_faults import limited, status
from tests.real.forge_server import GIT, TOKEN
from tests.real.git_http import REALM
from tests.repositories import git
from tests.tasks.pull_requests.syncing import both_forges, sync
from workspaces.models import PullRequest, PullRequestState
from workspaces.services import pull_requests as service
from workspaces.services import sync_pull_request

pytestmark = pytest.mark.django_db


def test_complete__a_message_waits_until_the_branch_was_pushed(ready):
    """The push commits what lies in the checkout, so nobody writes there meanwhile."""
    session = AgentSession.objects.get(workspace=ready.task.workspace, role=AgentRole.IMPLEMENTER)
    ready.act("complete", how="pull_request")
    inbox.post(session=session, text="Also rename it.", delivery=Delivery.QUEUE)
    assert open_next(session.pk) is None
    assert sync().state == PullRequestState.OPEN
    assert open_next(session.pk).prompt == "Also rename it."


CLASH = "<<<<<<< one\n1\n=======\n2\n>>>>>>> two\n"


def test_complete__lines_of_a_conflict_are_refused_unless_they_are_meant(ready, forge):
    ready.write("docs.md", CLASH)
    ready.act("complete", how="pull_request")
    row = sync()
    assert (row.state, row.error_code, forge.pulls) == (PullRequestState.FAILED, "merge_marked", [])
    assert ready.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "pull_request_marked")
    assert "Lines of an unresolved conflict are left in docs.md." in ready.task.reason
    assert git(forge.remote, "branch", "--list", "studio/*") == ""
    ready.act("complete", how="pull_request", markers_meant=["docs.md"])
    assert ready.task.history.last().reason.endswith("Lines of a conflict are meant in docs.md.")
    row = sync()
    assert (row.state, row.meant) == (PullRequestState.OPEN, ["docs.md"])
    # What is meant stays meant while it is open; what comes new is refused.
    ready.write("more.md", CLASH)
    ready.act("complete", how="pull_request")
    row = sync()
    assert (row.state, row.meant) == (PullRequestState.OPEN, ["docs.md"])
    assert "are left in more.md." in ready.fresh().reason
    assert "more.md" not in git(forge.remote, "ls-tree", "--name-only", row.head_branch)


@both_forges
def test_complete__opens_one_pull_request_with_what_the_task_says(ready, forge, requested_jobs):
    PhaseRun.objects.filter(phase=Phase.IMPLEMENTATION).update(summary="It says goodbye now.")
    ready.act("complete", how="pull_request")
    assert ready.shown == (Status.REVIEW, RunState.RUNNING, "", "")
    row = PullRequest.objects.get()
    assert (row.state, row.number) == (PullRequestState.INTENDED, None)
    row = sync()
    assert (row.state, row.number, row.head_branch) == (PullRequestState.OPEN, 1, ready.task.workspace.branch)
    [pull] = forge.pulls
    assert pull["title"] == "Add a farewell"
    assert "It says goodbye now." in pull["body"]
    assert "1. Write goodbye()." in pull["body"]
    assert ready.task.key in pull["body"]
    assert (pull["reviewers"], pull["labels"]) == (["ada"], ["bug"])
    assert git(forge.remote, "show", f"{row.head_branch}:goodbye.py") == "print('bye')\n"
    assert ready.shown == (Status.REVIEW, RunState.WAITING, Needs.PULL_REQUEST, "")
    assert "#1 is open" in ready.task.reason
    assert FeedEvent.objects.filter(kind="pull_request.updated", topic=f"task:{ready.task.pk}").exists()


@both_forges
def test_complete__with_words_of_a_person_and_as_a_draft(ready, forge):
    ready.act("complete", how="pull_request", title="  Say   goodbye ", body="Because.\r\n", draft=True)
    sync()
    [pull] = forge.pulls
    assert pull["title"].removeprefix("WIP: ") == "Say goodbye"
    assert (pull["body"], pull["draft"]) == ("Because.", True)
    assert "#1 is a draft" in ready.fresh().reason


def test_complete__uses_the_repositorys_template_but_no_link_out_of_it(ready, tmp_path):
    folder = Path(ready.task.workspace.path)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "PULL_REQUEST_TEMPLATE.md").write_text("a secret")
    (folder / ".github").symlink_to(tmp_path / "secret")
    (folder / "docs").mkdir()
    (folder / "docs" / "PULL_REQUEST_TEMPLATE.md").write_text("- [ ] Tested\n")
    PhaseRun.objects.filter(phase=Phase.IMPLEMENTATION).update(summary="I used api_key=abcdef123456.")
    body = proposal.made_body(ready.task)
    assert body.endswith("---\n\n- [ ] Tested")
    assert "a secret" not in body
    assert "abcdef123456" not in body


def test_complete__without_a_forge_says_what_to_do(ready):
    ready.task.project.forge.delete()
    with pytest.raises(Conflict) as caught:
        ready.act("complete", how="pull_request")
    assert caught.value.code == "no_forge"
    assert "complete" in caught.value.allowed
    assert ready.shown[1] == RunState.WAITING


@pytest.mark.parametrize("point", ["pull_request.pushed", "pull_request.before_create", "pull_request.created"])
def test_crash__never_opens_a_second_one(ready, forge, monkeypatch, point):
    class Killed(BaseException):
        pass

    def die(name):
        if name == point:
            raise Killed

    ready.act("complete", how="pull_request")
    monkeypatch.setattr(service, "reach", die)
    with pytest.raises(Killed):
        sync()
    monkeypatch.setattr(service, "reach", lambda _: None)
    PullRequest.objects.update(lease_until=None)
    assert sync().state == PullRequestState.OPEN
    sync()
    assert len(forge.pulls) == 1
    with pytest.raises(IntegrityError):
        PullRequest.objects.create(workspace=ready.task.workspace, title="x", head_branch="x", base_branch="x")


def test_roles__hold(proposed, forge):
    viewer = make_member(proposed.task.project, Role.VIEWER)
    reviewer = make_member(proposed.task.project, Role.REVIEWER)
    for do in (pull_requests.refresh, pull_requests.answer_comments):
        with pytest.raises(Forbidden):
            do(actor=viewer, task_ref=proposed.task)
    with pytest.raises(Forbidden):
        pull_requests.comment(actor=reviewer, task_ref=proposed.task, body="Hello")
    with pytest.raises(Forbidden):
        act(actor=reviewer, task_ref=proposed.task, action="complete", how="pull_request")
    pull_requests.comment(actor=make_member(proposed.task.project), task_ref=proposed.task, body=" Hello ")
    assert forge.written == [(1, "Hello")]


def test_refused__is_said_with_the_forges_words_and_can_be_tried_again(ready, forge):
    forge.fault("/pulls", status(422, {"message": f"base is invalid ({TOKEN})"}), method="POST")
    ready.act("complete", how="pull_request")
    row = sync()
    assert (row.state, row.error_code) == (PullRequestState.FAILED, "forge_refused")
    assert ready.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "pull_request_failed")
    assert "base is invalid" in ready.task.reason
    assert TOKEN not in ready.task.reason
    ready.act("complete", how="pull_request")
    assert sync().state == PullRequestState.OPEN


def test_push__with_a_token_that_has_expired_says_so_and_tells_nobody_the_token(ready, forge):
    said = f"{{}} of {TOKEN}"  # git asks twice
    forge.fault(GIT, lambda one: one.send_text(401, said.format(one.headers["Authorization"]), REALM), times=2)
    ready.act("complete", how="pull_request")
    with capture_logs() as logs:
        row = sync()
    assert (row.state, row.error_code) == (PullRequestState.FAILED, "git_failed")
    assert "Enter a new one in the project's settings" in ready.fresh().reason
    told = f"{logs} {row.error} {ready.task.reason} {list(FeedEvent.objects.values('payload'))}"
    assert "pull_request_failed" in told
    assert TOKEN not in told
    assert base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode() not in told
    ready.act("complete", how="pull_request")
    assert sync().state == PullRequestState.OPEN


def test_push__to_a_server_that_is_away_is_tried_again(ready, forge):
    forge.fault(GIT, status(503), times=2)
    ready.act("complete", how="pull_request")
    row = sync()
    assert (row.state, row.number) == (PullRequestState.INTENDED, None)
    assert "may work again later" in row.error
    sync()
    assert sync().state == PullRequestState.OPEN


def test_rate_limit__waits_until_its_end_and_does_not_lock_the_task(ready, forge):
    forge.fault("/pulls", limited)
    ready.act("complete", how="pull_request")
    row = sync()
    assert row.state == PullRequestState.INTENDED
    assert row.next_sync_at > later(500)
    assert ready.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "pull_request_failed")
    assert "tried again at" in ready.task.reason
    sync_pull_request(row.pk)  # not due: nothing is asked
    assert forge.asked("POST", "/pulls") == 0
    sync()
    assert ready.shown == (Status.REVIEW, RunState.WAITING, Needs.PULL_REQUEST, "")


def test_forge_down__is_given_up_after_some_tries(ready, forge):
    forge.fault("", status(503), times=-1)
    ready.act("complete", how="pull_request")
    for _ in range(6):
        assert PullRequest.objects.get().state == PullRequestState.INTENDED
        sync()
    assert PullRequest.objects.get().state == PullRequestState.FAILED
    assert ready.shown[3] == "pull_request_failed"


def test_push__over_somebody_elses_commits_is_refused(proposed, forge, owner, tmp_path):
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", "-b", proposed.task.workspace.branch, str(forge.remote), str(other))
    (other / "theirs.txt").write_text("theirs\n")
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "Theirs")
    git(other, "push", "-q")
    proposed.act("request_changes", feedback="More.")
    proposed.begin()
    proposed.write("goodbye.py", "print('more')\n")
    proposed.settle()
    proposed.review()
    row = sync()
    assert (row.state, row.error_code) == (PullRequestState.OPEN, "branch_moved")
    assert proposed.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "pull_request_failed")
    assert "theirs.txt" in git(forge.remote, "ls-tree", "--name-only", row.head_branch)


def test_cancel__what_was_not_opened_is_not_opened(ready, forge):
    ready.act("complete", how="pull_request")
    forge.fault("/pulls", status(503))
    sync()
    ready.act("cancel")
    row = sync()
    assert row.state == PullRequestState.FAILED
    assert forge.pulls == []


def test_cancel__while_a_worker_is_about_to_open_it(ready, forge, monkeypatch):
    ready.act("complete", how="pull_request")
    forge.fault("/pulls", status(503))
    sync()
    monkeypatch.setattr(service, "reach", lambda name: name == "pull_request.before_create" and ready.act("cancel"))
    row = sync()
    assert (ready.shown[0], row.state, row.number) == (Status.CANCELLED, PullRequestState.FAILED, None)
    assert forge.pulls == []


def test_cancel__while_the_forge_opens_it_says_that_it_is_open(ready, forge, owner, client, monkeypatch):
    ready.act("complete", how="pull_request")
    forge.fault("/pulls", status(503))
    sync()
    monkeypatch.setattr(service, "reach", lambda name: name == "pull_request.created" and ready.act("cancel"))
    row = sync()
    [pull] = forge.pulls
    assert (ready.shown[0], row.state, row.number, pull["reviewers"]) == (Status.CANCELLED, "failed", 1, [])
    assert "still open on the forge: close it there" in row.error
    client.force_login(owner)
    page = client.get(f"/tasks/{ready.task.key}/").content.decode()
    assert (row.url in page, row.error in page) == (True, True)


def test_removed_connection__is_said(proposed):
    proposed.task.project.forge.delete()
    assert sync().error_code == "no_forge"
    assert proposed.shown[2] == Needs.PULL_REQUEST
    proposed.act("complete", how="squash")  # it can still be merged here
    assert proposed.shown[1] == RunState.RUNNING
