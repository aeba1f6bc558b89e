"""Previews, other targets, conflicts that are resolved or given up, and reverts, as services with their rows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from studio.kernel.errors import Conflict, Invalid
from tests.repositories import GIT_ENV, git
from workspaces.models import MergeAttempt, MergeKind
from workspaces.services import (
    bring_up_to_date,
    check_target,
    commit_left,
    conflicted_files,
    instructions,
    left_markers,
    preview_merge,
    remove_workspace,
    request_merge,
    request_restore,
    request_revert,
    revert_instructions,
    run_merge,
)
from workspaces.services.merges.conflicts import places_in

pytestmark = pytest.mark.django_db


def work(workspace, files):
    for name, text in files.items():
        (Path(workspace.path) / name).write_text(text)
    return commit_left(workspace, message="Work", author_name="agent")


def finish(attempt):
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    return attempt


def merge(workspace, **given):
    return finish(request_merge(workspace=workspace, **{"how": "merge", "message": "Add it", **given}))


def everything(repository):
    """What must not change by looking."""
    refs, status = git(repository, "for-each-ref"), git(repository, "status", "--porcelain")
    return refs, status, (repository / ".git" / "index").read_bytes()


def test_preview__counts_and_touches_nothing(workspace, repository, commit):
    work(workspace, {"new.txt": "1\n2\n", "app.py": "print('bye')\n"})
    (repository / "lib" / "two.txt").write_text("zwei\n")
    commit(repository)
    (Path(workspace.path) / "late.txt").write_text("not committed\n")
    before = everything(repository), git(workspace.path, "status", "--porcelain")
    found = preview_merge(workspace)
    assert (found.target, found.ahead, found.behind, found.uncommitted) == ("trunk", 1, 1, 1)
    assert (found.files, found.additions, found.deletions) == (2, 3, 1)
    assert (found.possible, found.nothing, found.branches) == (True, False, ["trunk"])
    assert [(one.path, one.is_clean) for one in found.checkouts] == [(str(repository), True)]
    assert (everything(repository), git(workspace.path, "status", "--porcelain")) == before


def test_preview__conflicts_dirty_checkouts_and_no_branch(workspace, repository, commit, tmp_path):
    work(workspace, {"app.py": "mine\n"})
    (repository / "app.py").write_text("theirs\n")
    commit(repository)
    for number in (1, 2):  # the default branch is checked out three times
        git(repository, "worktree", "add", "-q", "--force", str(tmp_path / f"extra{number}"), "trunk")
    (tmp_path / "extra1" / "app.py").write_text("unsaved\n")
    found = preview_merge(workspace)
    assert (found.conflicts, found.possible) == (["app.py"], False)
    assert len(found.checkouts) == 3
    assert [(one.path, one.files) for one in found.blocked] == [(str(tmp_path / "extra1"), ["app.py"])]
    with pytest.raises(Invalid, match="no branch"):
        preview_merge(workspace, target="no\nsuch")
    git(repository, "checkout", "-q", "--detach")
    for number in (1, 2):
        git(repository, "worktree", "remove", "--force", str(tmp_path / f"extra{number}"))
    git(repository, "branch", "-D", "trunk")
    assert "no branch “trunk” any more" in preview_merge(workspace).refusal


@pytest.mark.parametrize("name", ["", "nope", "--force", "studio/demo-1", "a\nb", "x" * 260, "HEAD"])
def test_target__that_cannot_be(project, workspace, name):
    with pytest.raises(Invalid) as refusal:
        check_target(project, name)
    assert refusal.value.detail == {"field": "target"}


def test_target__another_branch_with_a_message_of_its_own(workspace, repository):
    odd = 're\'lease "1" ü'.replace(" ", "-")
    git(repository, "branch", odd)
    work(workspace, {"a.txt": "1\n"})
    check_target(workspace.project, odd)
    before = git(repository, "rev-parse", "trunk")
    attempt = merge(workspace, how="squash", target=odd, message="My own words\n\nand more")
    assert attempt.state == "merged", attempt.error
    assert git(repository, "log", "-1", "--format=%B", odd).strip() == "My own words\n\nand more"
    assert git(repository, "rev-parse", "trunk") == before
    with pytest.raises(Invalid):
        request_merge(workspace=workspace, how="merge", message="x" * 20_001)


CLASH = "<<<<<<< one\n1\n=======\n2\n>>>>>>> two\n"


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_markers__of_kept_work_or_an_agent_are_refused_and_said_before(workspace, repository, how):
    work(workspace, {"a.txt": CLASH, "b.md": f"Like this:\n\n{CLASH}", "plain.txt": "=======\n"})
    before = git(repository, "rev-parse", "trunk")
    found = preview_merge(workspace, how=how)
    assert (found.marked, found.possible, found.files) == (["a.txt", "b.md"], False, 3)
    refused = merge(workspace, how=how)
    assert (refused.state, refused.error_code) == ("refused", "merge_marked")
    assert refused.error == "Lines of an unresolved conflict are left in a.txt, b.md."
    half = merge(workspace, how=how, meant=["b.md", "c.md"])
    assert (half.state, half.error) == ("refused", "Lines of an unresolved conflict are left in a.txt.")
    assert git(repository, "rev-parse", "trunk") == before
    work(workspace, {"a.txt": "1 and 2\n"})
    assert preview_merge(workspace, how=how).marked == ["b.md"]
    assert merge(workspace, how=how, meant=["b.md"]).state == "merged"
    assert CLASH in (repository / "b.md").read_text()


def test_markers__that_the_target_has_already_are_its_own(workspace, repository, commit):
    (repository / "docs.md").write_text(f"Like this:\n\n{CLASH}")
    commit(repository)
    bring_up_to_date(workspace, "trunk")
    work(workspace, {"docs.md": f"Like that:\n\n{CLASH}", "new.txt": "new\n"})
    assert preview_merge(workspace).marked == []
    assert merge(workspace).state == "merged"


def test_markers__the_preview_knows_what_is_not_committed_yet(workspace):
    path = Path(workspace.path)
    work(workspace, {"a.txt": CLASH})
    (path / "a.txt").write_text("resolved\n")
    assert preview_merge(workspace).possible
    (path / "late.txt").write_text(CLASH)
    assert preview_merge(workspace).marked == ["late.txt"]


def test_markers__many_files_are_counted(workspace):
    work(workspace, {f"{number:02}.txt": CLASH for number in range(25)})
    assert merge(workspace).error.endswith(", 18.txt, 19.txt and 5 more.")


@pytest.fixture
def conflict(workspace, repository, commit):
    """A merge that conflicts in app.py."""
    work(workspace, {"app.py": "mine\n", "other.txt": "other\n"})
    (repository / "app.py").write_text("theirs\n")
    commit(repository)
    attempt = merge(workspace)
    assert attempt.state == "conflicted"
    return attempt


def test_conflicts__sides_as_they_are_shown(workspace, conflict):
    (found,) = conflicted_files(workspace, target="trunk", how="merge")
    assert (found.path, found.base, found.target, found.source) == ("app.py", "print('hello')\n", "theirs\n", "mine\n")
    assert found.merged == "<<<<<<< trunk\ntheirs\n=======\nmine\n>>>>>>> DEMO-1\n"
    assert conflicted_files(workspace, target="trunk", how="merge", file="other.txt") == []
    with pytest.raises(Conflict, match="no branch"):
        conflicted_files(workspace, target="gone", how="merge")


def test_conflicts__an_update_leaves_them_and_forgotten_ones_are_found(workspace, repository, conflict):
    done = bring_up_to_date(workspace, "trunk")
    assert done.files == ("app.py",)
    assert "mine\n" in done.places["app.py"]
    assert bring_up_to_date(workspace, "trunk").files == ("app.py",)  # after a crash
    commit_left(workspace, message="Forgot", author_name="agent")
    assert left_markers(workspace, ["app.py", "other.txt"]) == ["app.py"]
    assert left_markers(workspace, ["other.txt"]) == []
    refused = merge(workspace)
    assert (refused.state, "unresolved conflict are left in app.py" in refused.error) == ("refused", True)
    work(workspace, {"app.py": "both\n"})
    assert left_markers(workspace, ["app.py"]) == []
    assert merge(workspace).state == "merged"
    assert (repository / "app.py").read_text() == "both\n"


def test_conflicts__resolved_by_hand_with_the_commands(workspace, repository, conflict):
    commands = instructions(workspace, "trunk").splitlines()
    assert commands[0].startswith("cd ")
    assert commands[1] == "git merge trunk"
    with pytest.raises(Exception, match="merge"):
        git(workspace.path, "merge", "trunk")
    (Path(workspace.path) / "app.py").write_text("by hand\n")
    git(workspace.path, "add", "--all")
    git(workspace.path, "commit", "--no-edit")
    assert merge(workspace).state == "merged"
    assert (repository / "app.py").read_text() == "by hand\n"


def test_restore__the_workspace_as_it_was(workspace, repository, conflict):
    bring_up_to_date(workspace, "trunk")
    attempt = finish(request_restore(workspace=workspace, commit=conflict.source_commit))
    assert (attempt.state, attempt.kind) == ("merged", MergeKind.RESTORE)
    workspace.refresh_from_db()
    assert workspace.head_commit == conflict.source_commit
    assert (Path(workspace.path) / "app.py").read_text() == "mine\n"
    assert git(workspace.path, "status", "--porcelain") == ""
    remove_workspace(workspace.pk)
    workspace.refresh_from_db()
    assert Path(workspace.kept_patch).exists()  # a return is no merge: what is not merged is kept


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_revert__of_a_merge_whose_workspace_is_gone(owner, workspace, repository, commit, how):
    work(workspace, {"app.py": "mine\n", "new.txt": "new\n"})
    merged = merge(workspace, how=how)
    (repository / "later.txt").write_text("later\n")
    commit(repository)
    remove_workspace(workspace.pk)
    attempt = finish(request_revert(merge=merged, message="Revert it", actor=owner))
    assert attempt.state == "merged", attempt.error
    assert git(repository, "diff", "--name-only", merged.target_before, "trunk") == "later.txt\n"
    assert not (repository / "new.txt").exists()
    assert git(repository, "status", "--porcelain") == ""
    again = finish(request_revert(merge=merged, message="Revert it", actor=owner))
    assert (again.state, "nothing of it any more" in again.checkout_note) == ("merged", True)


def test_revert__conflicts_and_refusals_move_nothing(workspace, repository, commit):
    work(workspace, {"app.py": "mine\n"})
    merged = merge(workspace)
    (repository / "app.py").write_text("later\n")
    after = commit(repository)
    attempt = finish(request_revert(merge=merged, message="m"))
    assert (attempt.state, attempt.conflicts) == ("conflicted", ["app.py"])
    git(repository, "reset", "-q", "--hard", after)
    (repository / "app.py").write_text("unsaved\n")
    git(repository, "update-ref", "refs/heads/trunk", merged.result_commit)
    attempt = finish(request_revert(merge=merged, message="m"))
    assert (attempt.state, "app.py" in attempt.error) == ("refused", True)
    assert (repository / "app.py").read_text() == "unsaved\n"
    with pytest.raises(Conflict):
        request_revert(merge=MergeAttempt(workspace=workspace, state="refused"), message="m")


def test_places__only_what_is_in_conflict():
    rows = [f"line {number}" for number in range(30)]
    rows[10:10] = ["<<<<<<< HEAD", "a", "||||||| x", "b", "=======", "c", ">>>>>>> y"]
    found = places_in("\n".join(rows).encode()).splitlines()
    assert found == rows[7:20]


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_revert__that_conflicts_by_hand_with_the_commands(workspace, repository, commit, how):
    work(workspace, {"app.py": "mine\n"})
    work(workspace, {"second.txt": "2\n"})
    done = merge(workspace, how=how)
    (repository / "app.py").write_text("later\n")
    commit(repository)
    git(repository, "checkout", "-q", "-b", "elsewhere")
    failed = finish(request_revert(merge=done, message="Back"))
    assert failed.state == "conflicted"
    *before, add, go_on = (line for line in revert_instructions(failed).splitlines() if not line.startswith("#"))
    assert bash(before) == 1
    (repository / "app.py").write_text("by hand\n")
    assert bash([before[0], add, go_on]) == 0
    assert not (repository / "second.txt").exists()
    assert git(repository, "log", "-1", "--format=%s", "trunk").startswith("Revert")
    assert git(repository, "status", "--porcelain") == ""
    assert revert_instructions(done) == ""


def bash(lines):
    """The exit status of commands, as a person would run them."""
    return subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)], env=GIT_ENV, capture_output=True, timeout=60
    ).returncode
