"""A pull request that the forge has merged or closed, and merges of the studio beside it: done once, with nothing left out unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.kernel.clock import later, now
from studio.kernel.errors import Conflict
from studio.queue import Names
from tasks.choices import Needs, RunPhaseState, RunState, Status
from tasks.models import Task
from tasks.services import pull_requests
from tasks.services.advance import advance_merge
from tasks.services.lifecycle import act
from tasks.services.sweep import sweep
from tests.repositories import git
from tests.tasks.pull_requests.syncing import both_forges, sync
from workspaces.models import MergeAttempt, MergeState, PullRequest, PullRequestState
from workspaces.services import run_merge, sync_pull_request
from workspaces.services import sweep as workspaces_sweep

pytestmark = pytest.mark.django_db


@both_forges
def test_merged__the_task_is_done_by_itself(proposed, forge):
    commit = forge.merge(1)
    row = sync()
    assert (row.state, row.merge_commit, row.next_sync_at) == (PullRequestState.MERGED, commit, None)
    assert proposed.shown[0] == Status.DONE
    assert (proposed.task.completed_how, proposed.task.completed_commit) == ("pull_request", commit)
    assert "#1 was merged" in proposed.task.reason
    history = len(proposed.history())
    pull_requests.advance_pull_request(row.pk)
    assert len(proposed.history()) == history


@both_forges
def test_merged__during_a_fix_round_does_not_finish_what_came_after(proposed, forge, bells):
    proposed.act("request_changes", feedback="More.")
    proposed.begin()
    forge.merge(1)
    row = sync()
    proposed.write("later.py", "print('later')\n")
    proposed.settle(result_text="Added.")
    proposed.review()
    assert proposed.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "")
    assert (Names.ADVANCE_PULL_REQUEST, (str(row.pk),)) in bells(sweep)
    pull_requests.advance_pull_request(row.pk)
    assert proposed.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "merged_early")
    assert "#1 lacks 1 commit of" in proposed.task.reason
    assert bells(sweep) == []
    # What came after goes its own way.
    proposed.act("complete", how="pull_request")
    row = sync()
    assert (row.number, len(forge.pulls)) == (2, 2)
    assert proposed.shown == (Status.REVIEW, RunState.WAITING, Needs.PULL_REQUEST, "")
    assert bells(sweep) == []
    forge.merge(2)
    sync()
    assert (proposed.shown[0], proposed.task.completed_how) == (Status.DONE, "pull_request")


@both_forges
def test_merged__just_before_a_push_gets_no_further_commit(proposed, forge):
    proposed.act("request_changes", feedback="More.")
    proposed.implement("later.py")
    proposed.review()
    assert proposed.shown[1] == RunState.RUNNING
    merged = forge.merge(1)
    row = sync()
    assert git(forge.remote, "rev-parse", row.head_branch).strip() == merged
    assert proposed.shown[3] == "merged_early"


@both_forges
@pytest.mark.parametrize("theirs", [False, True], ids=["as it was", "with a commit made there, its branch deleted"])
def test_merged__between_our_look_and_our_push_lacks_what_was_pushed(proposed, forge, theirs):
    """And the forge that has the branch again names its new commit as the pull request's."""
    proposed.act("request_changes", feedback="More.")
    proposed.implement("later.py")
    proposed.review()
    row = PullRequest.objects.get()
    first = row.head_commit

    def merge_meanwhile(handler):
        if theirs:
            made = git(forge.remote, "commit-tree", "-p", first, "-m", "A suggestion", f"{first}^{{tree}}").strip()
            git(forge.remote, "update-ref", f"refs/heads/{row.head_branch}", made)
        forge.merge(1)
        if theirs:
            forge.delete_branch(row.head_branch)
        handler._git("/info/refs", "service=git-receive-pack", b"")

    forge.fault("/info/refs", merge_meanwhile)
    row = sync()
    later = git(forge.remote, "rev-parse", row.head_branch).strip()
    assert (row.state, row.head_commit, later != first) == (PullRequestState.MERGED, first, True)
    assert proposed.shown[3] == "merged_early"
    assert "#1 lacks 1 commit of" in proposed.task.reason


def test_merged__with_a_commit_that_was_made_there_is_done(proposed, forge):
    branch = PullRequest.objects.get().head_branch
    ours = git(forge.remote, "rev-parse", branch).strip()
    theirs = git(forge.remote, "commit-tree", "-p", ours, "-m", "A suggestion", f"{ours}^{{tree}}").strip()
    git(forge.remote, "update-ref", f"refs/heads/{branch}", theirs)
    forge.merge(1)
    forge.pulls[0]["merge_commit"] = "f" * 40  # squashed
    forge.delete_branch(branch)
    assert sync().head_commit == ours
    assert proposed.shown[0] == Status.DONE


def test_merged__without_what_is_not_committed_can_be_finished_so(proposed, forge):
    Path(proposed.task.workspace.path, "later.py").write_text("print('later')\n")
    forge.merge(1)
    Task.objects.update(error_code="merge_refused", needs=Needs.REVIEW, reason="Dirty.")
    row = sync()
    assert (proposed.shown[0], proposed.task.reason) == (Status.REVIEW, "Dirty.")
    Task.objects.update(error_code="")
    pull_requests.advance_pull_request(row.pk)
    assert proposed.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "merged_early")
    assert "#1 lacks 1 uncommitted file of" in proposed.task.reason
    proposed.act("complete", how="none")
    assert proposed.shown[0] == Status.DONE
    assert "#1 lacks" in proposed.task.reason


def test_merged__while_the_repository_is_away_waits_for_it(proposed, forge, bells):
    forge.merge(1)
    place = Path(proposed.task.project.path)
    place.rename(place.with_name("elsewhere"))
    row = sync()
    assert proposed.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "")
    assert "#1 was merged" in proposed.task.reason
    assert "Bring it back" in proposed.task.reason
    place.with_name("elsewhere").rename(place)
    assert (Names.ADVANCE_PULL_REQUEST, (str(row.pk),)) in bells(sweep)
    pull_requests.advance_pull_request(row.pk)
    assert proposed.shown[0] == Status.DONE


def test_closed__says_so_and_can_be_opened_again(proposed, forge, owner):
    forge.close(1)
    assert sync().state == PullRequestState.CLOSED
    assert proposed.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "pull_request_closed")
    with pytest.raises(Conflict):
        pull_requests.refresh(actor=owner, task_ref=proposed.task)
    forge.pulls[0]["state"] = "open"
    proposed.act("complete", how="pull_request")
    sync()
    assert len(forge.pulls) == 1  # it was found again
    assert proposed.shown[2] == Needs.PULL_REQUEST
    forge.close(1)
    sync()
    proposed.act("complete", how="pull_request")
    assert sync().number == 2


def test_merge_by_the_studio__decides_before_the_forge(proposed, forge, owner):
    act(actor=owner, task_ref=proposed.task, action="complete", how="squash")
    forge.merge(1)
    sync()
    assert proposed.shown[:2] == (Status.REVIEW, RunState.RUNNING)


def test_merge_by_the_studio__decides_also_when_its_own_job_comes_later(proposed, forge, owner):
    act(actor=owner, task_ref=proposed.task, action="complete", how="squash")
    attempt = MergeAttempt.objects.get()
    run_merge(attempt.pk)
    sync()
    assert proposed.shown == (Status.REVIEW, RunState.RUNNING, "", "")
    advance_merge(attempt.pk)
    assert (proposed.shown[0], proposed.task.completed_how) == (Status.DONE, "squash")


def test_refused_merge__that_was_told_is_not_told_again_over_a_pull_request(proposed, forge, owner):
    act(actor=owner, task_ref=proposed.task, action="complete", how="squash")
    attempt = MergeAttempt.objects.get()
    MergeAttempt.objects.update(state=MergeState.REFUSED, error="dirty", settled_at=now())
    advance_merge(attempt.pk)
    assert proposed.shown[3] == "merge_refused"
    proposed.act("complete", how="pull_request")
    advance_merge(attempt.pk)  # delivered late, or rung for by the sweep
    assert proposed.shown == (Status.REVIEW, RunState.RUNNING, "", "")
    sync()
    assert proposed.shown[2] == Needs.PULL_REQUEST


def test_sweepers__find_what_doorbells_lost(ready, forge, bells):
    ready.act("complete", how="pull_request")
    row = PullRequest.objects.get()
    assert (Names.SYNC_PULL_REQUEST, (str(row.pk),)) in bells(workspaces_sweep)
    sync_pull_request(row.pk)
    assert (Names.ADVANCE_PULL_REQUEST, (str(row.pk),)) in bells(sweep)
    pull_requests.advance_pull_request(row.pk)
    assert not any(name == Names.ADVANCE_PULL_REQUEST for name, _ in bells(sweep))
    forge.merge(1)
    PullRequest.objects.update(next_sync_at=later(-1))
    sync_pull_request(row.pk)
    assert (Names.ADVANCE_PULL_REQUEST, (str(row.pk),)) in bells(sweep)
    pull_requests.advance_pull_request(row.pk)
    assert ready.shown[0] == Status.DONE
    assert not any(name == Names.ADVANCE_PULL_REQUEST for name, _ in bells(sweep))


def test_approval__without_the_connection_stands_and_says_what_is_missing(proposed, owner):
    act(actor=owner, task_ref=proposed.task, action="request_changes", feedback="More.")
    proposed.task.project.forge.delete()
    proposed.fresh()
    proposed.implement(text="print('more')\n")
    assert proposed.review().state == RunPhaseState.SUCCEEDED
    assert proposed.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "")
    assert proposed.task.reason.startswith("Approved, but not completed by itself.")
    assert "connect" in proposed.task.reason
