"""Merging, its conflicts, taking it back and bringing a checkout up to date: the same in every system, and nobody is hurt."""

from __future__ import annotations

import pytest

from tests.repositories import git, jj
from tests.workspaces.contract.world import AGENT, BRANCH, TARGET, write
from workspaces.vcs.base import Blocked, Raced


@pytest.fixture
def diverged(world, checkout):
    """The head of a checkout with two commits, while the target has gone on elsewhere."""
    world.commit(checkout, {"app.py": "first\n" + "".join(f"line {number}\n" for number in range(2, 21))}, "One")
    head = world.commit(checkout, {"new.txt": "new\n"}, "Two")
    world.person_commits({"theirs.txt": "theirs\n", "lib/two.txt": "two, later\n"})
    return head


@pytest.fixture
def conflicting(world, checkout):
    """The head of a checkout that changed a line, another line of which the target has."""
    head = world.commit(checkout, {"lib/two.txt": "two of the agent\n", "clean.txt": "clean\n"}, "Mine")
    world.person_commits({"lib/two.txt": "two of the person\n"})
    return head


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_merge__three_ways(world, checkout, diverged, how):
    before, seen = world.target, world.print()
    result = world.merge(diverged, how)
    assert (result.conflicts, result.refusal) == ((), "")
    assert world.merge(diverged, how) == result  # the same request, the same commit
    assert world.target == before
    assert world.show(result.commit, "app.py").startswith("first\nline 2\n")
    assert world.show(result.commit, "lib/two.txt") == "two, later\n"
    assert world.show(result.commit, "theirs.txt") == "theirs\n"
    if how == "merge":
        assert world.parents(result.commit) == [before, diverged]
    elif how == "squash":
        assert world.parents(result.commit) == [before]
    else:
        assert git(world.store, "log", "--format=%s|%an", f"{before}..{result.commit}").splitlines() == [
            f"Two|{AGENT.name}",
            f"One|{AGENT.name}",
        ]
    assert world.print() == seen
    moved = world.advance(before, result.commit)
    assert world.target == result.commit
    if world.is_jj:
        assert (moved, world.print()) == ([], seen)
    else:
        assert (moved, (world.repository / "new.txt").read_text()) == ([world.repository], "new\n")


def test_advance__only_from_where_it_was_said_to_be(world, diverged):
    old = world.parents(world.target)[0]
    result, seen = world.merge(diverged), world.print()
    with pytest.raises(Raced):
        world.advance(old, result.commit)
    assert world.print() == seen


def test_advance__a_persons_changes_are_never_touched(world, diverged):
    write(world.repository, {"app.py": "what a person types\n", "new.txt": "in the way\n"})
    before, result, seen = world.target, world.merge(diverged), world.print()
    if world.is_jj:
        world.advance(before, result.commit)
        assert world.target == result.commit
    else:
        with pytest.raises(Blocked) as caught:
            world.advance(before, result.commit)
        assert caught.value.files
        assert world.target == before
    assert world.print() == seen


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_conflict__is_named_and_moves_nothing(world, conflicting, how):
    before, seen = world.target, world.print()
    assert world.merge(conflicting, how).conflicts == ("lib/two.txt",)
    assert (world.target, world.print()) == (before, seen)


def test_conflicts__three_sides(world, conflicting):
    (file,) = world.vcs.conflicts(world.repository, world.request(conflicting))
    assert (file.path, file.base, file.target, file.source) == (
        "lib/two.txt",
        b"two\n",
        b"two of the person\n",
        b"two of the agent\n",
    )
    assert file.merged is not None
    assert b"<<<<<<<" in file.merged


def test_conflicts__none(world, diverged):
    assert world.vcs.conflicts(world.repository, world.request(diverged)) == []


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_revert__of_a_merge_keeps_what_came_later(world, diverged, how):
    before = world.target
    after = world.merge(diverged, how).commit
    world.advance(before, after)
    world.person_commits({"later.txt": "later\n"})
    result = world.revert(before, after)
    assert world.revert(before, after) == result
    world.advance(world.target, result.commit)
    names = git(world.store, "ls-tree", "-r", "--name-only", result.commit).split()
    assert ("later.txt" in names, "theirs.txt" in names, "new.txt" in names) == (True, True, False)
    assert world.show(result.commit, "app.py").startswith("line 1\n")


@pytest.mark.parametrize("how", ["merge", "rebase"])
def test_update__without_conflict(world, checkout, diverged, how):
    write(checkout, {"uncommitted.txt": "x\n"})
    target = world.target
    update = world.vcs.update_checkout(checkout, BRANCH, target, how, AGENT)
    assert (update.conflicts, update.head) == ((), world.vcs.tip(world.repository, BRANCH))
    for name in ("uncommitted.txt", "theirs.txt", "new.txt"):
        assert (checkout / name).exists()
    assert world.vcs.contains(world.repository, update.head, target)
    assert world.vcs.update_checkout(checkout, BRANCH, target, how, AGENT) == update
    merges = git(world.store, "rev-list", "--merges", f"{target}..{update.head}").split()
    assert bool(merges) == (how == "merge")
    assert world.commit(checkout, {}) == update.head


@pytest.mark.parametrize("how", ["merge", "rebase"])
def test_update__conflicts_wait_in_the_files_for_the_commit_that_ends_them(world, checkout, conflicting, how):
    target, seen = world.target, world.print()
    update = world.vcs.update_checkout(checkout, BRANCH, target, how, AGENT)
    assert update.conflicts == ("lib/two.txt",)
    text = (checkout / "lib" / "two.txt").read_text()
    for part in ("<<<<<<<", "=======", ">>>>>>>", "two of the person", "two of the agent"):
        assert part in text
    status = world.vcs.status(checkout, TARGET)
    assert (status.conflicted, status.operation != "" or how == "rebase") == (["lib/two.txt"], True)
    assert world.vcs.update_checkout(checkout, BRANCH, target, how, AGENT).conflicts == update.conflicts
    (checkout / "lib" / "two.txt").write_text("two of both\n")
    head = world.vcs.commit_all(checkout, BRANCH, "Resolved", AGENT)
    assert world.vcs.tip(world.repository, BRANCH) == head
    assert world.vcs.status(checkout, TARGET).conflicted == []
    assert world.vcs.contains(world.repository, head, target)
    assert world.show(head, "clean.txt") == "clean\n"
    assert world.print() == seen
    result = world.merge(head)
    assert world.show(result.commit, "lib/two.txt") == "two of both\n"
    world.advance(target, result.commit)


def test_update__what_nobody_resolved_is_committed_with_its_markers(world, checkout, conflicting):
    world.vcs.update_checkout(checkout, BRANCH, world.target, "merge", AGENT)
    text = (checkout / "lib" / "two.txt").read_text()
    head = world.vcs.commit_all(checkout, BRANCH, "Not looked at", AGENT)
    assert world.show(head, "lib/two.txt") == text  # whoever checks for markers finds them
    assert world.vcs.commit_all(checkout, BRANCH, "Again", AGENT) == head
    assert (checkout / "lib" / "two.txt").read_text() == text


def test_take_back__without_an_update_that_was_killed_touches_nothing(world, checkout, conflicting):
    write(checkout, {"app.py": "at work\n"})
    world.vcs.take_back_update(checkout, BRANCH, AGENT)
    assert (checkout / "app.py").read_text() == "at work\n"
    conflicts = world.vcs.update_checkout(checkout, BRANCH, world.target, "merge", AGENT).conflicts
    text = (checkout / conflicts[0]).read_text()
    world.vcs.take_back_update(checkout, BRANCH, AGENT)
    assert (checkout / conflicts[0]).read_text() == text  # those wait for somebody
    assert world.vcs.status(checkout, TARGET).conflicted == list(conflicts)


def test_restore__puts_the_checkout_back_and_keeps_what_it_held(world, checkout, conflicting):
    world.vcs.update_checkout(checkout, BRANCH, world.target, "merge", AGENT)
    assert world.vcs.restore_checkout(checkout, BRANCH, conflicting, AGENT) == conflicting
    assert (checkout / "lib" / "two.txt").read_text() == "two of the agent\n"
    assert world.vcs.tip(world.repository, BRANCH) == conflicting
    assert world.commit(checkout, {}) == conflicting
    kept = git(world.store, "for-each-ref", "--format=%(objectname)", "refs/studio/kept").split()
    assert any(world.vcs.contains(world.repository, one, conflicting) for one in kept)


def test_two_merges_after_each_other_both_arrive(world):
    heads = []
    for number in (1, 2):
        branch = f"studio/demo-{number}"
        checkout = world.checkout(f"demo-{number}", branch)
        write(checkout, {f"{number}.txt": f"{number}\n"})
        heads.append(world.vcs.commit_all(checkout, branch, f"Number {number}", AGENT))
    for head in heads:
        before = world.target
        world.advance(before, world.merge(head, "squash").commit)
    assert world.show(world.target, "1.txt") + world.show(world.target, "2.txt") == "1\n2\n"
    if world.is_jj:
        assert jj(world.repository, "--ignore-working-copy", "log", "-r", "conflicts()", "--no-graph") == ""


CLASH = "<<<<<<< one\n1\n=======\n2\n>>>>>>> two\n"
JJ_CLASH = "<<<<<<< conflict 1 of 1\n%%%%%%% diff from: a\n-1\n+2\n+++++++ b\n3\n>>>>>>> conflict 1 of 1 ends\n"


def test_marked__files_to_which_a_change_adds_a_conflict(world, checkout):
    world.person_commits({"docs/merging.md": f"# Merging\n\n{CLASH}\nThat was it.\n", "theirs.txt": CLASH})
    checkout = world.checkout("demo-2-abc", "studio/demo-2")
    base = world.target
    odd = 'mit Leer\'\n"zeichen".txt'
    write(checkout, {
        odd: CLASH, "jj.txt": JJ_CLASH, "app.py": "x\n=======\n", "lib/two.txt": ">>>>>>> two\n",
        "large.bin": CLASH + "x\n" * 1_100_000, "binary": "\0" + CLASH,
        "docs/moved.md": f"# Merging, moved\n\n{CLASH}\nThat was it.\n",
    })  # fmt: skip
    (checkout / "docs/merging.md").unlink()
    seen = world.print()
    assert sorted(world.vcs.marked_files(checkout, base)) == sorted([odd, "jj.txt"])
    assert "lib/two.txt" in world.vcs.marked_files(checkout, base, known=["lib/two.txt"])
    head = world.vcs.commit_all(checkout, "studio/demo-2", "Work", AGENT)
    assert sorted(world.vcs.marked_files(world.repository, base, head)) == sorted([odd, "jj.txt"])
    assert world.vcs.marked_files(world.repository, head, base) == []
    assert world.print() == seen
