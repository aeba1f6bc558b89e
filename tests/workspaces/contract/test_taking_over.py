"""Taking over what a person has in a checkout of their own, the same in every system: all of it, and nothing of theirs touched."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from studio.kernel.errors import Invalid
from tests.repositories import GIT_ENV, git, jj
from tests.workspaces.contract.world import BRANCH, PERSON, TARGET, contents, write
from workspaces.vcs import git_adopt

BYTES = bytes(range(256)) * 40


def theirs(world) -> tuple[str, ...]:
    """What must be the same afterwards, to the byte: files, position, index, and jj's operations."""
    index = world.repository / ".git" / "index"
    operations = (
        jj(world.repository, "--ignore-working-copy", "op", "log", "--no-graph", "-T", "id") if world.is_jj else ""
    )
    branches = git(world.store, "for-each-ref", "refs/heads", "refs/tags")
    return world.print(), index.read_bytes().hex() if index.exists() else "", operations, branches


def half_done(world) -> None:
    """Work of a person at every stage at once."""
    world.person_commits({"committed.txt": "committed\n", "gone.txt": "soon gone\n"})
    write(
        world.repository,
        {"app.py": "staged\n", "new ü.txt": "new\n", "build/ignored.o": "ignored\n", "x.log": "ignored\n"},
    )
    (world.repository / "data.bin").write_bytes(BYTES)
    (world.repository / "link").symlink_to("/etc/hostname")
    if world.kind == "git":
        git(world.repository, "add", "-A")
        git(world.repository, "rm", "-q", "--cached", "new ü.txt")
    write(world.repository, {"app.py": "staged, then changed again\n"})
    (world.repository / "gone.txt").unlink()
    (world.repository / "lib" / "two.txt").chmod(0o755)
    subprocess.run(["git", "init", "-q", str(world.repository / "inner")], env=GIT_ENV, check=True, timeout=60)
    write(world.repository, {"inner/own.txt": "of another repository\n"})


def test_take_over__all_that_is_there_and_nothing_is_touched(world):
    half_done(world)
    before = theirs(world)
    taken = world.vcs.take_over(world.repository, "What was there", PERSON)
    assert theirs(world) == before
    world.vcs.put_branch(world.repository, BRANCH, taken.commit)
    checkout = world.checkout()
    wanted = {
        name: found
        for name, found in contents(world.repository).items()
        if not name.startswith(("build/", "inner/")) and name != "x.log"
    }
    assert contents(checkout) == wanted
    assert wanted["link"] == (2, b"/etc/hostname")
    assert (wanted["data.bin"][1], wanted["lib/two.txt"][0], "gone.txt" in wanted) == (BYTES, 1, False)
    assert (taken.left_out, taken.outside) == (("inner/",), ("link",))
    assert world.show(taken.commit, "committed.txt") == "committed\n"
    assert world.print() == before[0]


def test_take_over__leaves_what_the_setup_places_unless_it_is_committed(world):
    world.person_commits({".env.shared": "committed\n", "conf/known": "committed\n", "conf/gone": "1\n"})
    write(world.repository, {".env.shared": "changed\n", ".env.prod": "secret\n", ".env.new": "a secret alone\n"})
    write(world.repository, {"conf/known": "changed\n", "conf/secret": "secret\n", "plain.txt": "1\n"})
    (world.repository / "conf" / "gone").rename(world.repository / ".env.moved")
    if world.is_jj:
        jj(world.repository, "status")  # a snapshot takes everything into the working-copy commit
    else:
        git(world.repository, "add", ".env.prod", "conf")
        git(world.repository, "update-index", "--skip-worktree", "app.py")
        git(world.repository, "update-index", "--assume-unchanged", "lib/two.txt")
        write(world.repository, {"app.py": "overlooked\n"})
    before, heads = theirs(world), []

    def placed(head: str) -> Callable[[str], bool]:
        heads.append(head)
        return lambda path: path.startswith((".env", "conf/"))

    taken = world.vcs.take_over(world.repository, "What was there", PERSON, placed)
    assert theirs(world) == before
    assert set(taken.placed) == {".env.prod", ".env.new", ".env.moved", "conf/secret"}
    assert (taken.overlooked, heads) == (() if world.is_jj else ("app.py",), [world.vcs.tip(world.repository, TARGET)])
    held = git(world.store, "ls-tree", "-r", "--name-only", taken.commit).split()
    assert not {*taken.placed, "conf/gone"} & set(held)
    assert {".env.shared", "conf/known", "plain.txt"} < set(held)
    for path in (".env.shared", "conf/known"):
        assert world.show(taken.commit, path) == "changed\n"
    if not world.is_jj:  # nor is it among the objects; where jj's own snapshot has put it
        with pytest.raises(subprocess.CalledProcessError):
            git(world.store, "cat-file", "-e", git(world.repository, "hash-object", ".env.new").strip())


def test_take_over__with_nothing_uncommitted_it_is_the_last_commit(world):
    head = world.person_commits({"committed.txt": "committed\n"})
    (world.repository / "in progress.txt").unlink(missing_ok=True)
    taken = world.vcs.take_over(world.repository, "What was there", PERSON)
    assert (taken.commit, taken.files, taken.left_out, taken.outside) == (head, 0, (), ())


def test_take_over__what_is_too_large_is_named_and_left(world, monkeypatch):
    half_done(world)
    monkeypatch.setattr(git_adopt, "BYTES_LIMIT", 5_000)
    before = theirs(world)
    with pytest.raises(Invalid, match=r"the largest is data\.bin.*Nothing was changed") as refused:
        world.vcs.take_over(world.repository, "What was there", PERSON)
    assert refused.value.detail == {"field": "worktree"}
    assert theirs(world) == before


def test_take_over__a_conflict_is_a_persons_to_end_first(world):
    first = world.person_commits({"app.py": "one\n"})
    if world.is_jj:
        jj(world.repository, "new", f"{first}-")
        write(world.repository, {"app.py": "two\n"})
        jj(world.repository, "new", "@", first)
    else:
        git(world.repository, "switch", "-q", "-c", "other", f"{first}~1")
        write(world.repository, {"app.py": "two\n"})
        git(world.repository, "commit", "-q", "-a", "-m", "Two")
        with pytest.raises(subprocess.CalledProcessError):
            git(world.repository, "merge", TARGET)
    before = theirs(world)
    with pytest.raises(Invalid, match="then try again") as refused:
        world.vcs.take_over(world.repository, "What was there", PERSON)
    assert refused.value.code == "worktree_busy"
    assert theirs(world) == before


def test_worktrees__are_the_persons_and_the_studios(world, checkout):
    place = world.room / "by hand"
    if world.is_jj:
        # Colocated workspaces ask for a newer git than many people have.
        jj(world.repository, "--config", "git.colocate=false", "workspace", "add", "--name", "by-hand", str(place))
    else:
        git(world.repository, "worktree", "add", "-q", "-b", "by-hand", str(place))
    found = {one.path: one.branch for one in world.vcs.worktrees(world.repository)}
    assert next(iter(found)) == world.repository
    assert {checkout, place} < set(found)
    assert found[place] == (TARGET if world.is_jj else "by-hand")
    write(place, {"by hand.txt": "1\n"})
    taken = world.vcs.take_over(place, "What was there", PERSON)
    assert world.show(taken.commit, "by hand.txt") == "1\n"
    assert not (place / ".jj" / "studio").exists()
