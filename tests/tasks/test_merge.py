from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.kernel.errors import Conflict
from studio.queue import Names
from tasks.choices import Needs, Phase, RunState, Status
from tasks.models import PhaseRun, Task
from tasks.services import prepare
from tasks.services.advance import advance_merge
from tasks.services.lifecycle import act
from tests.factories import settle_turn
from tests.repositories import git
from workspaces.models import MergeAttempt, MergeState
from workspaces.services import remove_project, remove_workspace, run_merge
from workspaces.signals import merge_settled

pytestmark = pytest.mark.django_db


@pytest.fixture
def merging(pipeline, owner):
    """A task whose merge was asked for by the owner."""
    pipeline.to_review()
    act(actor=owner, task_ref=pipeline.task, action="complete", how="squash")
    return pipeline


def settled(state: str, **fields: Any) -> MergeAttempt:
    attempt = MergeAttempt.objects.latest("created_at")
    MergeAttempt.objects.filter(pk=attempt.pk).update(state=state, **fields)
    attempt.refresh_from_db()
    return attempt


def test_complete__asks_for_a_merge(merging):
    attempt = MergeAttempt.objects.get()
    assert (attempt.how, attempt.target_branch) == ("squash", "main")
    assert attempt.message == f"Add a farewell\n\nTask: {merging.task.key}"
    assert merging.shown == (Status.REVIEW, RunState.RUNNING, "", "")
    assert merging.history()[-1] == ("complete", "review", "review")


def test_merged__is_done_with_its_commit(merging, owner):
    advance_merge(settled(MergeState.MERGED, result_commit="abc", checkout_note="Your checkout follows.").pk)
    task = merging.fresh()
    assert merging.shown == (Status.DONE, RunState.IDLE, "", "")
    assert (task.completed_how, task.completed_commit, task.reason) == ("squash", "abc", "Your checkout follows.")
    row = task.history.last()
    assert (row.action, row.from_status, row.to_status, row.actor) == ("complete", "review", "done", owner)
    assert (task.workspace.state, task.workspace.finished_at is not None) == ("ready", True)  # its days begin


@pytest.mark.parametrize("times", [2, 3])
def test_merged__twice_is_once(merging, times):
    attempt = settled(MergeState.MERGED, result_commit="abc")
    for _ in range(times):
        advance_merge(str(attempt.pk))
    assert merging.history().count(("complete", "review", "done")) == 1


def test_conflicted__stays_in_review_with_the_files(merging):
    advance_merge(settled(MergeState.CONFLICTED, conflicts=["a.py", "ü b.txt"]).pk)
    assert merging.shown == (Status.REVIEW, RunState.WAITING, Needs.CONFLICT, "merge_conflict")
    assert "a.py, ü b.txt" in merging.task.reason


def test_conflicted__the_fix_round_is_told(merging):
    advance_merge(settled(MergeState.CONFLICTED, conflicts=["a.py"]).pk)
    merging.act("request_changes")
    prompt = merging.begin().turn.prompt
    assert merging.run().phase == Phase.FIX
    assert "main" in prompt
    assert "a.py" in prompt


@pytest.mark.parametrize("state", [MergeState.REFUSED, MergeState.FAILED])
def test_refused__stays_in_review_with_the_reason(merging, state):
    advance_merge(settled(state, error="README.md has changes that are not committed.", error_code="dirty").pk)
    assert merging.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "merge_refused")
    assert "README.md has changes" in merging.task.reason


def test_refused__can_be_tried_again(merging):
    advance_merge(settled(MergeState.REFUSED, error="dirty").pk)
    merging.act("complete", how="merge")
    assert merging.shown == (Status.REVIEW, RunState.RUNNING, "", "")
    old = MergeAttempt.objects.order_by("created_at").first()
    advance_merge(old.pk)  # delivered late
    assert merging.shown[1] == RunState.RUNNING
    advance_merge(settled(MergeState.MERGED, result_commit="abc").pk)
    assert merging.shown[0] == Status.DONE


@pytest.mark.parametrize("state", [MergeState.QUEUED, MergeState.COMPUTED])
def test_unsettled__nothing_happens(merging, state):
    advance_merge(settled(state).pk)
    advance_merge("00000000-0000-0000-0000-000000000000")
    assert merging.shown[1] == RunState.RUNNING


def test_complete__twice_is_a_conflict(merging):
    with pytest.raises(Conflict):
        merging.act("complete", how="merge")
    assert MergeAttempt.objects.count() == 1


def test_settling__requests_the_job(merging, requested_jobs, django_capture_on_commit_callbacks):
    attempt = MergeAttempt.objects.get()
    with django_capture_on_commit_callbacks(execute=True):
        merge_settled.send(sender=MergeAttempt, attempt_id=attempt.pk)
    assert (Names.ADVANCE_MERGE, (str(attempt.pk),)) in requested_jobs


def test_story__the_repository_has_the_commit(merging):
    run_merge(MergeAttempt.objects.get().pk)
    advance_merge(MergeAttempt.objects.get().pk)
    task = merging.fresh()
    folder = Path(task.project.path)
    assert task.status == Status.DONE
    assert git(folder, "rev-parse", "main").strip() == task.completed_commit
    assert (folder / "goodbye.py").read_text() == "print('bye')\n"
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "log", "-1", "--format=%s").strip() == "Add a farewell"
    remove_workspace(task.workspace_id)
    assert git(folder, "worktree", "list").count("\n") == 1
    assert not Path(task.workspace.path).exists()


def make_conflict(merging):
    """A person's commit that changes the same lines; the folder."""
    folder = Path(merging.task.project.path)
    (folder / "goodbye.py").write_text("mine\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Mine first")
    run_merge(MergeAttempt.objects.get().pk)
    advance_merge(MergeAttempt.objects.get().pk)
    return folder


def test_crash__after_the_update_the_agent_is_given_the_same_conflicts(merging, monkeypatch):
    class Killed(BaseException):
        pass

    def die(name):
        if name == "prepare.updated":
            raise Killed

    make_conflict(merging)
    merging.act("request_changes", feedback="Keep both.")
    monkeypatch.setattr(prepare, "reach", die)
    with pytest.raises(Killed):
        merging.begin()
    monkeypatch.setattr(prepare, "reach", lambda _: None)
    PhaseRun.objects.update(lease_until=None)
    prepare.prepare_run(merging.run().pk)
    run = merging.run()
    assert run.turn.prompt.count("<conflicts>") == 1
    assert "goodbye.py" in run.turn.prompt
    assert "<<<<<<<" in (Path(run.session.workspace.path) / "goodbye.py").read_text()


def test_story__a_conflict_is_solved_by_a_fix_round(merging):
    folder = make_conflict(merging)
    assert merging.shown == (Status.REVIEW, RunState.WAITING, Needs.CONFLICT, "merge_conflict")
    assert "goodbye.py" in merging.task.reason
    merging.act("request_changes", feedback="Keep both.")
    run = merging.begin()
    workspace = Path(run.session.workspace.path)
    assert "<<<<<<<" in (workspace / "goodbye.py").read_text()
    assert "goodbye.py" in run.turn.prompt
    assert "mine" in run.turn.prompt
    merging.write("goodbye.py", "print('bye')\n")
    merging.settle()
    merging.review()
    merging.act("complete", how="merge")
    attempt = MergeAttempt.objects.order_by("-created_at").first()
    run_merge(attempt.pk)
    advance_merge(attempt.pk)
    assert merging.shown[0] == Status.DONE
    assert (folder / "goodbye.py").read_text() == "print('bye')\n"


def test_removing_a_project__not_under_an_agent_or_a_merge(merging, owner):
    with pytest.raises(Conflict):
        remove_project(actor=owner, project=merging.task.project)
    advance_merge(settled(MergeState.REFUSED, error="dirty").pk)
    merging.act("request_changes", feedback="More.")
    with pytest.raises(Conflict):
        remove_project(actor=owner, project=merging.task.project)
    merging.act("cancel")
    turn = merging.follow_up()
    with pytest.raises(Conflict):
        remove_project(actor=owner, project=merging.task.project)
    settle_turn(turn)
    remove_project(actor=owner, project=merging.task.project)
    assert not Task.objects.exists()
