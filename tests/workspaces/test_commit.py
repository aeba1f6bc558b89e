"""What an agent leaves is committed once, on the workspace's branch, whatever state it left the checkout in."""

from __future__ import annotations

import os
import time

import pytest

from studio.kernel.errors import Upstream
from studio.queue import Names
from tests.repositories import git
from workspaces.services import commit_left, diff_for, has_change, preview_merge

pytestmark = pytest.mark.django_db


def keep(workspace, message="Left by the agent"):
    return commit_left(workspace, message=message, author_name="studio-implementer")


def files_of(folder, commit="HEAD"):
    return set(git(folder, "ls-tree", "-r", "--name-only", "-z", commit).split("\0")) - {""}


def test_commit_left__takes_everything_once(workspace, checkout):
    (checkout / "app.py").write_text("changed\n")
    (checkout / "README.md").unlink()
    (checkout / "ein neuer Ordner").mkdir()
    (checkout / "ein neuer Ordner" / "näu.txt").write_text("new\n")
    (checkout / "staged.txt").write_text("staged\n")
    git(checkout, "add", "staged.txt")
    head = keep(workspace)
    assert files_of(checkout) >= {"ein neuer Ordner/näu.txt", "staged.txt"}
    assert "README.md" not in files_of(checkout)
    assert git(checkout, "status", "--porcelain") == ""
    assert keep(workspace) == head
    assert git(checkout, "rev-list", "--count", "trunk..HEAD") == "1\n"
    workspace.refresh_from_db()
    assert workspace.head_commit == head


def test_commit_left__says_who_and_what(workspace, checkout):
    (checkout / "app.py").write_text("changed\n")
    keep(workspace, "Title\n\n# not a comment\n\nTask: DEMO-1")
    assert git(checkout, "log", "-1", "--format=%an|%cn|%B") == (
        "studio-implementer via OpenCode Studio|studio-implementer via OpenCode Studio|"
        "Title\n\n# not a comment\n\nTask: DEMO-1\n\n"
    )


def test_commit_left__nothing_left(workspace, checkout):
    assert keep(workspace) == workspace.base_commit
    assert not has_change(workspace)


def test_commit_left__an_empty_message(workspace, checkout):
    (checkout / "app.py").write_text("changed\n")
    keep(workspace, "  \n ")
    assert git(checkout, "log", "-1", "--format=%s") == "Work in progress\n"


def test_commit_left__runs_no_hook_and_signs_nothing(workspace, checkout, repository, tmp_path):
    hooks = repository / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "commit-msg", "prepare-commit-msg", "post-commit", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/{name}-ran'\nexit 1\n")
        (hooks / name).chmod(0o755)
    git(repository, "config", "commit.gpgSign", "true")
    git(repository, "config", "gpg.program", "/bin/false")
    git(repository, "config", "core.fsmonitor", f"touch {tmp_path}/fsmonitor-ran")
    (checkout / "app.py").write_text("changed\n")
    keep(workspace)
    assert not list(tmp_path.glob("*-ran"))
    assert git(checkout, "log", "-1", "--format=%s") == "Left by the agent\n"


def test_commit_left__needs_no_identity(workspace, checkout, repository):
    git(repository, "config", "--unset", "user.name")
    git(repository, "config", "--unset", "user.email")
    git(repository, "config", "user.useConfigOnly", "true")
    (checkout / "app.py").write_text("changed\n")
    assert keep(workspace) != workspace.base_commit


def test_commit_left__respects_what_is_ignored(workspace, checkout):
    (checkout / ".gitignore").write_text("build/\n")
    (checkout / "build").mkdir()
    (checkout / "build" / "out").write_text("x")
    keep(workspace)
    assert "build/out" not in files_of(checkout)


def test_commit_left__odd_names(workspace, checkout):
    names = [
        b"new\nline",
        b"tab\there",
        b'quote"',
        b"bad\xff\xfe",
        b" space ",
        b"-dash",
        b":(top)magic",
        "日本".encode(),
    ]
    for name in names:
        (checkout / os.fsdecode(name)).write_text("x\n")
    keep(workspace)
    assert git(checkout, "status", "--porcelain") == ""
    assert len(files_of_bytes(checkout) & set(names)) == len(names)


def files_of_bytes(folder):
    from workspaces.process import run

    listing = run(["git", "ls-tree", "-r", "--name-only", "-z", "HEAD"], cwd=folder, timeout=20).stdout
    return set(listing.split(b"\0"))


def test_commit_left__a_repository_inside_stays_out(workspace, checkout):
    """git would record a link to a commit that nobody else has, or refuse when there is none."""
    for name, first in (("empty", False), ("used", True)):
        inner = checkout / "inner [1]" / name
        inner.mkdir(parents=True)
        git(inner, "init", "-q")
        (inner / "file").write_text("x\n")
        if first:
            git(inner, "add", "-A")
            git(inner, "commit", "-q", "-m", "Inner")
    assert not has_change(workspace)
    (checkout / "inner [1]" / "mine.txt").write_text("x\n")
    keep(workspace)
    assert files_of(checkout) & {"inner [1]/mine.txt", "inner [1]/used", "inner [1]/empty"} == {"inner [1]/mine.txt"}
    notes = diff_for(workspace).notes
    assert len(notes) == 2
    assert "inner [1]/used/" in notes[1]


def test_commit_left__a_detached_head_comes_back_to_the_branch(workspace, checkout):
    git(checkout, "checkout", "-q", "--detach")
    (checkout / "app.py").write_text("changed\n")
    git(checkout, "commit", "-q", "-am", "By the agent, detached")
    (checkout / "more.txt").write_text("more\n")
    head = keep(workspace)
    assert git(checkout, "rev-parse", "studio/demo-1").strip() == head
    assert git(checkout, "branch", "--show-current") == "studio/demo-1\n"
    assert git(checkout, "status", "--porcelain") == ""
    assert git(checkout, "rev-list", "--count", "trunk..HEAD") == "2\n"


def test_commit_left__another_branch_is_not_committed_to(workspace, checkout, repository):
    """A person's own branch, checked out nowhere, was switched to by the agent."""
    git(repository, "checkout", "-q", "--detach")
    before = git(repository, "rev-parse", "trunk")
    git(checkout, "checkout", "-q", "trunk")
    (checkout / "app.py").write_text("sneaked in\n")
    head = keep(workspace)
    assert git(repository, "rev-parse", "trunk") == before
    assert git(checkout, "rev-parse", "studio/demo-1").strip() == head
    assert git(checkout, "branch", "--show-current") == "studio/demo-1\n"


def test_commit_left__the_checkout_counts_and_the_former_tip_is_kept(workspace, checkout, repository):
    (checkout / "first.txt").write_text("first\n")
    first = keep(workspace)
    git(checkout, "checkout", "-q", "--detach", "trunk")
    (checkout / "second.txt").write_text("second\n")
    keep(workspace)
    assert files_of(checkout) & {"first.txt", "second.txt"} == {"second.txt"}
    refs = git(repository, "for-each-ref", "--format=%(objectname)", "refs/studio/kept/studio/demo-1").split()
    assert refs == [first]


def test_commit_left__an_orphan_branch(workspace, checkout):
    git(checkout, "checkout", "-q", "--orphan", "fresh")
    head = keep(workspace)
    assert git(checkout, "rev-parse", "studio/demo-1").strip() == head
    assert git(checkout, "rev-list", "--count", "HEAD") == "1\n"


def test_commit_left__in_the_middle_of_a_merge(workspace, checkout, repository, commit):
    (repository / "app.py").write_text("theirs\n")
    commit(repository)
    (checkout / "app.py").write_text("mine\n")
    commit(checkout)
    with pytest.raises(Exception, match="merge"):
        git(checkout, "merge", "-q", "trunk")
    keep(workspace)
    assert git(checkout, "status", "--porcelain") == ""
    assert len(git(checkout, "log", "-1", "--format=%P").split()) == 2
    assert "<<<<<<<" in (checkout / "app.py").read_text()


def test_commit_left__in_the_middle_of_a_rebase(workspace, checkout, repository, commit):
    (repository / "app.py").write_text("theirs\n")
    commit(repository)
    (checkout / "app.py").write_text("mine\n")
    mine = commit(checkout)
    with pytest.raises(Exception, match="rebase"):
        git(checkout, "rebase", "-q", "trunk")
    (checkout / "app.py").write_text("both\n")
    keep(workspace)
    assert git(checkout, "branch", "--show-current") == "studio/demo-1\n"
    assert "rebase" not in git(checkout, "status")
    assert git(checkout, "show", "HEAD:app.py") == "both\n"
    assert mine in git(repository, "for-each-ref", "--format=%(objectname)", "refs/studio/kept").split()


def test_commit_left__a_lock_of_a_killed_git(workspace, checkout, repository):
    lock = repository / ".git" / "worktrees" / checkout.name / "index.lock"
    lock.write_text("")
    os.utime(lock, (time.time() - 60, time.time() - 60))
    (checkout / "app.py").write_text("changed\n")
    assert keep(workspace) != workspace.base_commit
    assert not lock.exists()


def test_commit_left__a_lock_that_is_in_use(workspace, checkout, repository, monkeypatch):
    monkeypatch.setattr("workspaces.vcs.git_checkout.LOCK_PATIENCE", 0.2)
    lock = repository / ".git" / "worktrees" / checkout.name / "index.lock"
    lock.write_text("")
    os.utime(lock, (time.time() + 60, time.time() + 60))
    with pytest.raises(Upstream) as caught:
        keep(workspace)
    assert caught.value.transient


def test_commit_left__the_base_follows_when_the_target_was_brought_in(workspace, checkout, repository, commit):
    (checkout / "mine.txt").write_text("mine\n")
    commit(checkout)
    (repository / "theirs.txt").write_text("theirs\n")
    tip = commit(repository)
    git(checkout, "merge", "-q", "--no-edit", "trunk")
    assert [file.path for file in diff_for(workspace).files] == ["mine.txt"]
    keep(workspace)
    workspace.refresh_from_db()
    assert workspace.base_commit == tip
    assert [file.path for file in diff_for(workspace).files] == ["mine.txt"]


def test_commit_left__a_branch_that_somebody_deleted_is_put_back_with_its_history(workspace, checkout, repository):
    (checkout / "app.py").write_text("first\n")
    first = keep(workspace)
    (checkout / "app.py").write_text("second\n")
    git(repository, "update-ref", "-d", f"refs/heads/{workspace.branch}")
    head = keep(workspace)
    assert git(checkout, "rev-parse", f"{workspace.branch}^").strip() == first
    assert git(repository, "show", f"{head}:app.py") == "second\n"


def test_branch_that_somebody_deleted__is_said_and_looked_at_before_anything_is_read(
    workspace, checkout, repository, requested_jobs, django_capture_on_commit_callbacks
):
    (checkout / "app.py").write_text("first\n")
    keep(workspace)
    git(repository, "update-ref", "-d", f"refs/heads/{workspace.branch}")
    for read in (diff_for, lambda one: preview_merge(one, how="merge")):
        with pytest.raises(Upstream, match=r"is gone.*Repair it"), django_capture_on_commit_callbacks(execute=True):
            read(workspace)
        assert (Names.LOOK_AT_WORKSPACE, (str(workspace.pk),)) in requested_jobs
        requested_jobs.clear()


def test_diff__of_a_change_that_the_target_has_already_is_still_shown(workspace, checkout, repository):
    (checkout / "app.py").write_text("changed\n")
    head = keep(workspace)
    git(repository, "merge", "-q", "--ff-only", head)
    assert [file.new_path for file in diff_for(workspace).files] == ["app.py"]


def test_has_change__committed_or_not_and_back(workspace, checkout):
    (checkout / "new.txt").write_text("x\n")
    assert has_change(workspace)
    keep(workspace)
    assert has_change(workspace)
    (checkout / "new.txt").unlink()
    assert not has_change(workspace)
