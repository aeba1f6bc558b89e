"""The sides of conflicts, updates that leave them in the files, and reverts."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.repositories import git
from tests.workspaces.vcs.conftest import ADA, VCS, merging, mine, reverting, tip, work, write
from workspaces.vcs import git_update
from workspaces.vcs.base import VcsError
from workspaces.vcs.merging import SIDE_LIMIT


def sides(repository, source, how="merge"):
    return {file.path: file for file in VCS.conflicts(repository, merging(repository, source, how))}


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_conflicts__three_sides_of_each_file(repository, checkout, how):
    odd = 'new\nline "q" ü.txt'
    source = work(checkout, {"app.py": "one\nTHEIRS\nthree\n", odd: "theirs\n", "fine.txt": "fine\n"})
    mine(repository, {"app.py": "one\nMINE\nthree\n", odd: "mine\n"})
    before = git(repository, "for-each-ref"), git(repository, "status", "--porcelain")
    found = sides(repository, source, how)
    assert set(found) == {"app.py", odd}
    app = found["app.py"]
    assert (app.base, app.target, app.source) == (b"one\ntwo\nthree\n", b"one\nMINE\nthree\n", b"one\nTHEIRS\nthree\n")
    assert app.merged is not None
    assert b"<<<<<<<" in app.merged
    assert b"=======\nTHEIRS\n>>>>>>>" in app.merged
    assert (found[odd].base, found[odd].target, found[odd].source) == (None, b"mine\n", b"theirs\n")
    assert (git(repository, "for-each-ref"), git(repository, "status", "--porcelain")) == before


def test_conflicts__none(repository, checkout):
    assert VCS.conflicts(repository, merging(repository, work(checkout, {"a.txt": "1\n"}))) == []


def test_conflicts__deleted_binary_huge_and_no_text_names(repository, checkout):
    raw = os.fsdecode(b"n\xf6n-utf8 -x")
    long = "n" * 250
    write(repository, {"gone.txt": "x\n", "pic": b"\0one", "big": "b\n" * SIDE_LIMIT, raw: "r\n", long: "l\n"})
    mine(repository, {})
    VCS.update_checkout(checkout, "studio/x", tip(repository), "merge", ADA)
    (checkout / "gone.txt").unlink()
    source = work(checkout, {"pic": b"\0two", "big": "s\n" * SIDE_LIMIT, raw: "source\n", long: "source\n"})
    mine(repository, {"gone.txt": "y\n", "pic": b"\0three", "big": "t\n" * SIDE_LIMIT, raw: "t\n", long: "t\n"})
    found = sides(repository, source)
    assert set(found) == {"gone.txt", "pic", "big", raw, long}
    assert (found["gone.txt"].target, found["gone.txt"].source) == (b"y\n", None)
    assert (found["pic"].source, found["pic"].merged) == (b"\0two", None)
    assert (len(found["big"].target or b""), found["big"].cut) == (SIDE_LIMIT, True)
    assert not found[raw].cut


def test_conflicts__submodule_pointers(repository, checkout):
    for folder, commit in ((repository, "1" * 40), (checkout, "2" * 40)):
        git(folder, "update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
        git(folder, "commit", "-q", "-m", "A submodule")
    found = sides(repository, tip(checkout, "HEAD"))
    assert found["sub"].target == b"Subproject commit " + b"1" * 40 + b"\n"


@pytest.mark.parametrize("how", ["merge", "rebase"])
def test_update__without_conflict(repository, checkout, how):
    work(checkout, {"a.txt": "1\n"})
    write(checkout, {"late.txt": "not committed\n"})
    target = mine(repository, {"lib/two.txt": "zwei\n"})
    done = VCS.update_checkout(checkout, "studio/x", target, how, ADA)
    assert done.conflicts == ()
    assert VCS.contains(repository, done.head, target)
    assert git(checkout, "status", "--porcelain", "-b").splitlines() == ["## studio/x"]
    assert (checkout / "lib/two.txt").read_text() == "zwei\n"
    assert (checkout / "late.txt").exists()
    assert bool(git(checkout, "rev-list", "--merges", f"{target}..HEAD")) == (how == "merge")
    assert VCS.update_checkout(checkout, "studio/x", target, how, ADA).head == done.head


@pytest.mark.parametrize("how", ["merge", "rebase"])
def test_update__conflicts_stay_in_the_files_until_they_are_resolved(repository, checkout, how):
    work(checkout, {"app.py": "one\nTHEIRS\nthree\n"}, "First")
    former = work(checkout, {"other.txt": "kept\n"}, "Second")
    target = mine(repository, {"app.py": "one\nMINE\nthree\n"})
    done = VCS.update_checkout(checkout, "studio/x", target, how, ADA)
    assert done.conflicts == ("app.py",)
    assert "<<<<<<<" in (checkout / "app.py").read_text()
    assert VCS.status(checkout, "trunk").conflicted == ["app.py"]
    write(checkout, {"app.py": "one\nhalf of it\nthree\n"})
    assert VCS.update_checkout(checkout, "studio/x", target, how, ADA).conflicts == ("app.py",)
    assert (checkout / "app.py").read_text() == "one\nhalf of it\nthree\n"  # somebody is at work
    head = work(checkout, {"app.py": "one\nBOTH\nthree\n"}, "Resolve")
    assert git(checkout, "status", "--porcelain") == ""
    assert (checkout / "other.txt").exists()
    result = VCS.compute_merge(repository, merging(repository, head))
    assert git(repository, "show", f"{result.commit}:app.py") == "one\nBOTH\nthree\n"
    if how == "rebase":
        assert git(checkout, "log", "--format=%s", f"{target}..HEAD") == "Resolve\n"
        assert former in kept(repository)


def kept(repository):
    """The commits that the studio keeps beside the branches."""
    return git(repository, "for-each-ref", "--format=%(objectname)", "refs/studio/kept").split()


@pytest.fixture
def killed(repository, checkout, monkeypatch):
    """An update that was killed in the middle of its merge; the target."""
    work(checkout, {"app.py": "one\nTHEIRS\nthree\n"})
    target = mine(repository, {"app.py": "one\nMINE\nthree\n", "new.txt": "new\n"})

    def half(*_arguments):
        write(checkout, {"app.py": "half writ", "new.txt": "ne"})
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(git_update, "_merge", half)
        with pytest.raises(KeyboardInterrupt):
            VCS.update_checkout(checkout, "studio/x", target, "merge", ADA)
    return target


@pytest.mark.parametrize("step", ["", "update-ref", "reset"])
def test_update__a_crash_in_the_middle_is_made_anew(repository, checkout, killed, monkeypatch, step):
    """Also when what puts it back is killed in its turn, right after what it held was committed or kept."""
    real = git_update.git

    def die(cwd, *arguments, **options):
        if step in arguments:
            raise KeyboardInterrupt
        return real(cwd, *arguments, **options)

    with monkeypatch.context() as broken:
        broken.setattr(git_update, "git", die)
        if step:
            with pytest.raises(KeyboardInterrupt):
                VCS.update_checkout(checkout, "studio/x", killed, "merge", ADA)
    before = tip(repository, "trunk~1")
    assert VCS.update_checkout(checkout, "studio/x", killed, "merge", ADA).conflicts == ("app.py",)
    assert "<<<<<<<" in (checkout / "app.py").read_text()
    assert git(checkout, "log", "--format=%s", f"{before}..HEAD") == "Work\n"  # nothing half written is part of it
    assert "half writ" in [git(repository, "show", f"{one}:app.py") for one in kept(repository)]


def test_update__what_was_committed_after_a_crash_counts(repository, checkout, killed):
    """A person merges by hand in the checkout that the crash left, before anybody puts it back."""
    git(checkout, "reset", "-q", "--hard")
    git(checkout, "clean", "-fdq")
    with pytest.raises(subprocess.CalledProcessError):
        git(checkout, "merge", "trunk")
    write(checkout, {"app.py": "one\nBOTH\nthree\n"})
    git(checkout, "add", "--all")
    git(checkout, "commit", "-q", "--no-edit")
    resolved = tip(checkout, "HEAD")
    assert VCS.update_checkout(checkout, "studio/x", killed, "merge", ADA).head == resolved
    VCS.take_back_update(checkout, "studio/x", ADA)
    assert (tip(repository, "studio/x"), (checkout / "app.py").read_text()) == (resolved, "one\nBOTH\nthree\n")


def test_update__that_fails_leaves_the_checkout_as_it_was(repository, checkout):
    """The target brings a file for whose filter there is no program: git stops in the middle of its files."""
    head = work(checkout, {"first.txt": "1\n"})
    target = mine(repository, {"a.txt": "a\n", "big.bin": "pointer\n", ".gitattributes": "*.bin filter=lfs\n"})
    git(repository, "config", "filter.lfs.required", "true")
    git(repository, "config", "filter.lfs.clean", "cat")
    git(repository, "config", "filter.lfs.smudge", "no-such-program")
    with pytest.raises(VcsError):
        VCS.update_checkout(checkout, "studio/x", target, "merge", ADA)
    assert git(checkout, "status", "--porcelain", "-b") == "## studio/x\n"
    assert (tip(repository, "studio/x"), (checkout / "a.txt").exists()) == (head, False)
    git(repository, "config", "filter.lfs.smudge", "cat")
    later = work(checkout, {"second.txt": "a week of work\n"})
    assert VCS.contains(repository, VCS.update_checkout(checkout, "studio/x", target, "merge", ADA).head, later)
    assert (checkout / "second.txt").read_text() == "a week of work\n"


def test_restore__the_checkout_is_as_it_was_and_the_rest_is_kept(repository, checkout):
    head = work(checkout, {"app.py": "one\nTHEIRS\nthree\n"})
    target = mine(repository, {"app.py": "one\nMINE\nthree\n"})
    VCS.update_checkout(checkout, "studio/x", target, "merge", ADA)
    write(checkout, {"app.py": "half of it\n"})
    assert VCS.restore_checkout(checkout, "studio/x", head, ADA) == head
    assert (checkout / "app.py").read_text() == "one\nTHEIRS\nthree\n"
    assert git(checkout, "status", "--porcelain", "-b") == "## studio/x\n"
    assert git(repository, "show", f"{kept(repository)[0]}:app.py") == "half of it\n"


def merged(repository, source, how):
    before = tip(repository)
    result = VCS.compute_merge(repository, merging(repository, source, how))
    VCS.advance_branch(repository, "trunk", before, result.commit, reason="test", resuming=False)
    return before, result.commit


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_revert__takes_the_whole_merge_back_and_nothing_else(repository, checkout, how):
    work(checkout, {"app.py": "one\nTHEIRS\nthree\n"})
    source = work(checkout, {"new.txt": "new\n"})
    mine(repository, {"lib/two.txt": "zwei\n"})
    before, after = merged(repository, source, how)
    mine(repository, {"later.txt": "later\n"})
    request = reverting(repository, before, after)
    result = VCS.compute_revert(repository, request)
    assert VCS.compute_revert(repository, request) == result
    assert git(repository, "log", "-1", "--format=%P|%s", result.commit) == f"{tip(repository)}|Take it back\n"
    assert git(repository, "diff", "--name-only", before, result.commit) == "later.txt\n"


def test_revert__conflicts_are_named_and_nothing_left_is_said(repository, checkout):
    before, after = merged(repository, work(checkout, {"app.py": "one\nTHEIRS\nthree\n"}), "merge")
    again = mine(repository, {"app.py": "one\ntwo\nthree\n"})
    assert VCS.compute_revert(repository, reverting(repository, before, after)).commit == again
    mine(repository, {"app.py": "one\nsomething else\nthree\n"})
    assert VCS.compute_revert(repository, reverting(repository, before, after)).conflicts == ("app.py",)
    git(repository, "reset", "-q", "--hard", before)
    assert "does not contain" in VCS.compute_revert(repository, reverting(repository, before, after)).refusal
