"""A merge that conflicts, resolved by an agent or given up, and a merge that is taken back: what the task shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.kernel.errors import Conflict, Invalid
from tasks.choices import Needs, Phase, RunState, Status
from tasks.services.advance import advance_merge
from tests.repositories import git
from workspaces.models import MergeAttempt, MergeKind
from workspaces.services import bring_up_to_date, run_merge
from workspaces.vcs import git_update

pytestmark = pytest.mark.django_db


def settle(kind=MergeKind.MERGE):
    """The newest attempt is carried out, and the task hears of it."""
    attempt = MergeAttempt.objects.order_by("-created_at").first()
    assert attempt.kind == kind
    run_merge(attempt.pk)
    advance_merge(attempt.pk)
    attempt.refresh_from_db()
    return attempt


def commit(folder, name, text):
    (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", f"Change {name}")


@pytest.fixture
def folder(pipeline):
    return Path(pipeline.task.project.path)


@pytest.fixture
def conflicted(pipeline, folder):
    """A reviewed task whose merge conflicts in goodbye.py."""
    pipeline.to_review()
    commit(folder, "goodbye.py", "mine\n")
    pipeline.act("complete")
    settle()
    assert pipeline.shown == (Status.REVIEW, RunState.WAITING, Needs.CONFLICT, "merge_conflict")
    return pipeline


def test_resolve__the_agent_finds_the_conflict_and_is_reviewed_again(conflicted, folder):
    conflicted.act("resolve", feedback="Keep both.")
    assert conflicted.history()[-1] == ("resolve", "review", "in_progress")
    run = conflicted.begin()
    prompt = run.turn.prompt
    assert (run.phase, run.update_from, run.conflicts) == (Phase.FIX, "main", ["goodbye.py"])
    assert all(words in prompt for words in ("Keep both.", "<conflicts>", "print('bye')", "mine", "Do not abort"))
    conflicted.write("goodbye.py", "both\n")
    conflicted.settle()
    assert conflicted.fresh().resolving == ""
    conflicted.review()
    conflicted.act("complete", how="merge")
    settle()
    assert conflicted.shown[0] == Status.DONE
    assert (folder / "goodbye.py").read_text() == "both\n"


def test_resolve__what_is_left_unresolved_fails_the_run_and_is_asked_for_again(conflicted):
    conflicted.act("resolve")
    conflicted.begin()
    conflicted.settle()
    assert conflicted.shown == (Status.IN_PROGRESS, RunState.FAILED, Needs.FAILURE, "conflict_markers")
    assert "goodbye.py" in conflicted.task.reason
    conflicted.act("retry")
    run = conflicted.begin()
    assert run.conflicts == ["goodbye.py"]
    assert "<conflicts>\ngoodbye.py" in run.turn.prompt
    conflicted.write("goodbye.py", "both\n")
    conflicted.settle()
    assert conflicted.shown[:2] == (Status.AI_REVIEW, RunState.QUEUED)


def test_resolve__the_target_that_moved_on_is_the_one_that_is_brought_in(conflicted, folder):
    commit(folder, "goodbye.py", "print('bye')\n")  # what the task has: no conflict is left
    conflicted.act("resolve")
    prompt = conflicted.begin().turn.prompt
    assert "no line is in conflict any more" in prompt
    conflicted.settle()
    assert conflicted.shown[:2] == (Status.IN_PROGRESS, RunState.FAILED)  # it changes nothing any more
    assert conflicted.task.error_code == "empty_change"


def test_replan__after_a_merge_into_the_checkout_was_killed(conflicted, monkeypatch):
    """The next agent works on what was committed, not on what the merge left half written."""
    workspace = conflicted.task.workspace
    place = Path(workspace.path)

    def half(*_arguments):
        (place / "goodbye.py").write_text("half writ")
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(git_update, "_merge", half)
        with pytest.raises(KeyboardInterrupt):
            bring_up_to_date(workspace, "main")
    conflicted.act("resolve")
    conflicted.act("replan", feedback="Differently.")
    conflicted.begin()
    assert (git(place, "status", "--porcelain"), (place / "goodbye.py").read_text()) == ("", "print('bye')\n")


@pytest.mark.parametrize("when", ["at once", "after a round that failed"])
def test_abort__back_to_the_review_with_the_workspace_as_it_was(conflicted, when):
    workspace = Path(conflicted.task.workspace.path)
    before = git(workspace, "rev-parse", "HEAD")
    if when != "at once":
        conflicted.act("resolve")
        conflicted.begin()
        conflicted.settle()
    conflicted.act("abort")
    assert conflicted.shown[:2] == (Status.REVIEW, RunState.RUNNING)
    with pytest.raises(Conflict):
        conflicted.act("complete")
    settle(MergeKind.RESTORE)
    assert conflicted.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "")
    assert (git(workspace, "rev-parse", "HEAD"), git(workspace, "status", "--porcelain")) == (before, "")
    assert ("abort", "review", "review") in conflicted.history() or (
        "abort",
        "in_progress",
        "review",
    ) in conflicted.history()


def test_resolve_and_abort__only_of_a_conflict(pipeline):
    pipeline.to_review()
    for action in ("resolve", "abort", "revert"):
        with pytest.raises(Conflict):
            pipeline.act(action)


def test_complete__another_target_and_message(pipeline, folder):
    pipeline.to_review()
    with pytest.raises(Invalid) as refusal:
        pipeline.act("complete", target="nowhere")
    assert refusal.value.detail == {"field": "target"}
    git(folder, "branch", "release")
    pipeline.act("complete", target="release", message="In my words")
    settle()
    assert pipeline.shown[0] == Status.DONE
    assert git(folder, "log", "-1", "--format=%s", "release") == "In my words\n"


def test_revert__stays_done_with_a_mark(pipeline, folder, owner):
    pipeline.to_review()
    pipeline.act("complete")
    settle()
    pipeline.act("revert", reason="Too polite.")
    assert pipeline.shown[:2] == (Status.DONE, RunState.RUNNING)
    attempt = settle(MergeKind.REVERT)
    task = pipeline.fresh()
    assert (task.status, task.run_state, task.reverted_commit) == ("done", "idle", attempt.result_commit)
    assert not (folder / "goodbye.py").exists()
    assert task.history.filter(action="revert").first().reason == "Too polite."
    assert git(folder, "log", "-1", "--format=%s", "main") == "Revert “Add a farewell”\n"
    with pytest.raises(Conflict):
        pipeline.act("revert")
    pipeline.act("reopen")
    assert pipeline.fresh().reverted_commit == ""


def test_revert__that_conflicts_says_so_and_can_be_tried_again(pipeline, folder):
    pipeline.to_review()
    pipeline.act("complete")
    settle()
    commit(folder, "goodbye.py", "later\n")
    pipeline.act("revert")
    settle(MergeKind.REVERT)
    assert pipeline.shown == (Status.DONE, RunState.IDLE, "", "revert_conflict")
    assert "goodbye.py" in pipeline.task.reason
    assert (folder / "goodbye.py").read_text() == "later\n"
    pipeline.act("revert")
    assert pipeline.shown[1] == RunState.RUNNING
