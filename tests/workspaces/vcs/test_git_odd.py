"""Odd content and odd repositories: a merge, an update and a revert are what plain git gives, and nothing outside is touched."""

from __future__ import annotations

import os
import shutil
import stat

import pytest

from studio.kernel.errors import Invalid
from tests.repositories import git
from tests.workspaces.vcs.conftest import ADA, VCS, merging, mine, reverting, tip, work, write
from workspaces.vcs import git_command
from workspaces.vcs.base import VcsError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 12345\n"
RAW = os.fsdecode(b"caf\xe9")


@pytest.fixture
def odd(repository, checkout, tmp_path):
    """A workspace with everything that is easily damaged; its commit."""
    (tmp_path / "outside").write_text("precious\n")
    mine(repository, {"README.md": "big letters\n", "win.txt": "a\r\nb\r\n", ".gitattributes": "*.bin filter=lfs\n"})
    VCS.update_checkout(checkout, "studio/x", tip(repository), "merge", ADA)
    write(checkout, {"big.bin": POINTER, "win.txt": "a\r\nb\r\nc\r\n", "mixed.txt": "a\r\nb\n", RAW: "é\n"})
    write(checkout, {"-x": "dash\n", 'a "quoted"\nname': "q\n", "n" * 250: "long\n", "run.sh": "#!/bin/sh\n"})
    (checkout / "run.sh").chmod(0o755)
    (checkout / "link").symlink_to(tmp_path / "outside")
    git(checkout, "mv", "README.md", "readme.md")
    git(checkout, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    git(checkout, "commit", "-q", "-m", "A submodule's pointer")
    (checkout / "sub").mkdir(exist_ok=True)
    return VCS.commit_all(checkout, "studio/x", "Odd things", ADA)


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_merge__gives_what_git_gives_in_a_scratch_clone(repository, checkout, odd, tmp_path, how):
    mine(repository, {"lib/two.txt": "zwei\n"})
    result = VCS.compute_merge(repository, merging(repository, odd, how))
    clone = tmp_path / "clone"
    git(repository, "clone", "-q", "--no-local", str(repository), str(clone))
    git(clone, "fetch", "-q", "origin", odd)
    git(clone, "merge", "-q", "--no-edit", "FETCH_HEAD")
    expected = git(clone, "rev-parse", "HEAD^{tree}")
    assert git(repository, "rev-parse", f"{result.commit}^{{tree}}") == expected
    before = tip(repository)
    VCS.advance_branch(repository, "trunk", before, result.commit, reason="test", resuming=False)
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "write-tree") == expected
    assert (repository / "win.txt").read_bytes() == b"a\r\nb\r\nc\r\n"
    assert (repository / "big.bin").read_text() == POINTER
    assert stat.S_IMODE((repository / "run.sh").stat().st_mode) & 0o100
    assert (repository / "link").is_symlink()
    assert (tmp_path / "outside").read_text() == "precious\n"
    assert sorted(path.name for path in repository.iterdir() if path.name.lower() == "readme.md") == ["readme.md"]
    reverted = VCS.compute_revert(repository, reverting(repository, before, result.commit))
    assert git(repository, "diff", "--name-only", before, reverted.commit) == ""


def test_update__keeps_odd_things_whole(repository, checkout, odd):
    target = mine(repository, {"lib/two.txt": "zwei\n"})
    before = git(checkout, "ls-tree", "-r", odd)
    done = VCS.update_checkout(checkout, "studio/x", target, "merge", ADA)
    after = git(checkout, "ls-tree", "-r", done.head)
    assert set(before.splitlines()) - set(after.splitlines()) == {
        row for row in before.splitlines() if row.endswith("lib/two.txt")
    }


def test_merge__into_a_sparse_checkout_leaves_it_sparse(repository, checkout):
    mine(repository, {"docs/one.md": "one\n", "src/one.py": "one\n"})
    git(repository, "sparse-checkout", "set", "docs")
    VCS.update_checkout(checkout, "studio/x", tip(repository), "merge", ADA)
    source = work(checkout, {"docs/two.md": "two\n", "src/two.py": "two\n"})
    result = VCS.compute_merge(repository, merging(repository, source))
    VCS.advance_branch(repository, "trunk", tip(repository), result.commit, reason="test", resuming=False)
    assert git(repository, "status", "--porcelain") == ""
    assert (repository / "docs/two.md").exists()
    assert not (repository / "src").exists()


def test_odd_repositories__are_named_not_guessed(repository, checkout, tmp_path):
    git(repository, "checkout", "-q", "--detach")
    with pytest.raises(Invalid, match="not on a branch"):
        VCS.find(repository)
    unborn = tmp_path / "unborn"
    unborn.mkdir()
    git(unborn, "init", "-q")
    with pytest.raises(Invalid, match="no commit yet"):
        VCS.find(unborn)
    assert VCS.tip(unborn, "main") is None
    assert VCS.branches(unborn) == []
    assert VCS.checkouts_on(repository, "trunk") == []


def test_hanging_git__is_ended_and_moves_nothing(repository, checkout, monkeypatch, tmp_path):
    source = work(checkout, {"a.txt": "1\n"})
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\ncase "$*" in *merge-tree*) sleep 60;; esac\nexec {shutil.which("git")} "$@"\n')
    slow.chmod(0o755)
    before = tip(repository)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("workspaces.vcs.git_merge.LONG_TIMEOUT", 0.5)
    with pytest.raises(VcsError, match="did not end within") as failure:
        VCS.compute_merge(repository, merging(repository, source))
    assert failure.value.transient
    assert tip(repository) == before
    assert git_command.git(repository, "status", "--porcelain").stdout == b""
