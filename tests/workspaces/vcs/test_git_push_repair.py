"""Pushing with a lease, a token that stays secret, and repairs after damage from outside."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.repositories import git
from tests.workspaces.vcs.conftest import ADA, VCS, mine, tip, work, write
from workspaces.vcs import git_checkout
from workspaces.vcs.base import Raced, VcsError


@pytest.fixture
def remote(repository, tmp_path):
    bare = tmp_path / "remote.git"
    git(repository, "clone", "-q", "--bare", str(repository), str(bare))
    git(repository, "remote", "add", "origin", str(bare))
    return bare


def push(repository, commit, branch="feature", expected=None, **options):
    VCS.push(repository, "origin", commit, branch, expected=expected, header="", **options)


def test_push__forward_only_or_with_a_lease(repository, checkout, remote):
    first = work(checkout, {"a.txt": "1\n"})
    push(repository, first, expected="")
    assert tip(remote, "feature") == first
    push(repository, first, expected="")  # again, after a crash: it is there
    other = mine(repository, {"b.txt": "1\n"})
    with pytest.raises(Raced):
        push(repository, other)
    with pytest.raises(Raced):
        push(repository, other, expected=tip(repository))
    assert tip(remote, "feature") == first
    push(repository, other, expected=first)
    assert tip(remote, "feature") == other
    with pytest.raises(Raced):
        push(repository, first, expected="")


def test_push__refusals_say_why(repository, checkout, remote):
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho no pushes on Fridays >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(VcsError, match="no pushes on Fridays"):
        push(repository, tip(repository))
    with pytest.raises(VcsError, match="cannot be the name"):
        push(repository, tip(repository), "--upload-pack=x..")
    with pytest.raises(VcsError, match="no commit"):
        push(repository, "f" * 40)


def test_push__the_pre_push_hook_only_when_asked(repository, checkout, remote, tmp_path):
    hook = repository / ".git" / "hooks" / "pre-push"
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\nexit 1\n")
    hook.chmod(0o755)
    push(repository, tip(repository))
    assert not (tmp_path / "ran").exists()
    with pytest.raises(VcsError):
        push(repository, mine(repository, {"b.txt": "1\n"}), hooks=True)
    assert (tmp_path / "ran").exists()


def test_branches_and_remotes__without_credentials_and_ours(repository, checkout):
    git(repository, "branch", "-f", "other")
    git(repository, "remote", "add", "one", "https://user:token@example.invalid/x.git")
    git(repository, "remote", "add", "two", "git@example.invalid:x.git")
    git(repository, "remote", "add", "three", "ssh://me:pw@example.invalid/x.git")
    assert sorted(VCS.branches(repository)) == ["other", "trunk"]
    assert VCS.remotes(repository) == {
        "one": "https://example.invalid/x.git",
        "two": "git@example.invalid:x.git",
        "three": "ssh://me@example.invalid/x.git",
    }


def repaired(repository: Path, checkout: Path, head: str) -> list[str]:
    done = VCS.repair(repository, checkout, "studio/x", head)
    assert VCS.owns_checkout(repository, checkout)
    assert VCS.repair(repository, checkout, "studio/x", head) == []
    VCS.commit_all(checkout, "studio/x", "After the repair", ADA)
    return done


def test_repair__nothing_is_wrong(repository, checkout):
    assert VCS.repair(repository, checkout, "studio/x", work(checkout, {"a.txt": "1\n"})) == []


def test_repair__folder_and_branch_deleted(repository, checkout):
    head = work(checkout, {"a.txt": "1\n"})
    shutil.rmtree(checkout)
    git(repository, "worktree", "prune")
    git(repository, "branch", "-D", "studio/x")
    assert len(repaired(repository, checkout, head)) == 2
    assert (checkout / "a.txt").exists()


def test_repair__branch_deleted_under_work(repository, checkout):
    head = work(checkout, {"a.txt": "1\n"})
    git(repository, "update-ref", "-d", "refs/heads/studio/x")
    write(checkout, {"b.txt": "not committed\n"})
    assert "was gone" in repaired(repository, checkout, head)[0]
    assert git(checkout, "log", "--format=%s", "-2") == "After the repair\nWork\n"


def test_repair__branch_moved(repository, checkout):
    head = work(checkout, {"a.txt": "1\n"})
    other = mine(repository, {"b.txt": "1\n"})
    git(repository, "update-ref", "refs/heads/studio/x", other)
    assert "put back" in repaired(repository, checkout, head)[0]
    assert tip(checkout, "HEAD") == head
    assert other in git(repository, "for-each-ref", "refs/studio/kept")
    further = git(repository, "commit-tree", f"{other}^{{tree}}", "-p", head, "-m", "Forward").strip()
    git(repository, "update-ref", "refs/heads/studio/x", further)
    assert "forward" in repaired(repository, checkout, head)[0]
    assert tip(checkout, "HEAD") == further
    assert not (checkout / "a.txt").exists()


def test_repair__repository_moved(repository, checkout):
    head = work(checkout, {"a.txt": "1\n"})
    moved = repository.with_name("moved")
    repository.rename(moved)
    assert "mended" in repaired(moved, checkout, head)[0]


@pytest.mark.parametrize("lie", ["elsewhere", "nowhere", "link", "a repository of its own"])
def test_repair__a_link_that_lies(repository, checkout, tmp_path, lie):
    head = work(checkout, {"a.txt": "1\n"})
    write(checkout, {"b.txt": "not committed\n"})
    link = checkout / ".git"
    link.unlink()
    if lie == "elsewhere":
        link.write_text(f"gitdir: {repository}/.git\n")
    elif lie == "nowhere":
        link.write_text("gitdir: /no/such\n")
    elif lie == "link":
        link.symlink_to(repository / ".git")
    else:
        git(checkout, "init", "-q")
        git(checkout, "commit", "-q", "--allow-empty", "-m", "Its own")
    repaired(repository, checkout, head)
    assert git(checkout, "show", "--format=", "--name-only", "HEAD") == "b.txt\n"
    assert tip(checkout, "HEAD~1") == head
    if lie == "a repository of its own":
        aside = next(path for path in checkout.parent.iterdir() if ".git-" in path.name)
        assert (aside / "HEAD").exists()


def test_repair__forgotten_by_the_repository_locked_and_without_index(repository, checkout, monkeypatch):
    head = work(checkout, {"a.txt": "1\n"})
    write(checkout, {"b.txt": "not committed\n"})
    shutil.rmtree(repository / ".git" / "worktrees")
    assert "taken in again" in repaired(repository, checkout, head)[0]
    folder = Path(git(checkout, "rev-parse", "--absolute-git-dir").strip())
    (folder / "index").write_bytes(b"broken")
    (folder / "index.lock").touch()
    monkeypatch.setattr(git_checkout, "LOCK_PATIENCE", 0.0)
    assert len(repaired(repository, checkout, head)) == 2
    assert git(checkout, "show", "--format=", "--name-only", "HEAD") == "b.txt\n"
