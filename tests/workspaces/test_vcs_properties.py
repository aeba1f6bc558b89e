"""Random repositories and random edits, in each version control system, against git itself and against plain reading.

    STUDIO_PROPERTY_CASES=500 .venv/bin/pytest -q tests/workspaces/test_vcs_properties.py --timeout 0

runs 500 cases for each system; the ordinary suite runs a few. All cases of a run share one repository, as tasks do.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from tests.repositories import GIT_ENV, git, jj
from tests.workspaces.contract.conftest import require_jj
from tests.workspaces.contract.world import AGENT, TARGET, World, contents, make_world, write
from workspaces.vcs.base import Blocked, Changes
from workspaces.vcs.deleting import delete_tree

CASES = int(os.environ.get("STUDIO_PROPERTY_CASES", "6"))
NAMES = ("a", "b.txt", "dir/c.py", "dir/d e", "dir/deep/f", "é/ü", "-x", 'q"uote', "tab\there", "z*?[")
PLAIN, EXECUTABLE, LINK = range(3)
Entry = tuple[int, bytes]
Tree = dict[str, Entry]

lines = st.lists(st.sampled_from([b"one\n", b"two\n", b"three\n", b"\r\n", b"\xff\n", b"}\n"]), max_size=12).map(
    b"".join
)
text = st.one_of(lines, lines.map(lambda body: body + b"no end"))
data = st.one_of(text, text, st.binary(min_size=1, max_size=40).map(lambda body: b"\0" + body))
entries = st.one_of(
    st.tuples(st.sampled_from([PLAIN, PLAIN, EXECUTABLE]), data),
    st.tuples(st.just(LINK), st.sampled_from([b"a", b"../outside", b"/etc/hostname"])),
)
trees = st.dictionaries(st.sampled_from(NAMES), entries, min_size=1, max_size=8)
edits = st.dictionaries(st.sampled_from(NAMES), st.one_of(st.none(), entries), max_size=4)


@dataclass(frozen=True)
class Case:
    """A base, what the agent and what a person made of it, and how it is merged; `dirty`: a person is in the middle of something."""

    base: Tree
    source: dict[str, Entry | None]
    target: dict[str, Entry | None]
    how: str
    dirty: bool


cases = st.builds(Case, trees, edits, edits, st.sampled_from(["merge", "squash", "rebase"]), st.booleans())


@pytest.fixture(scope="module", params=["git", "jj"])
def shared(request, tmp_path_factory):
    """The repository of a run, and a clone of it for git's own merges."""
    if request.param == "jj":
        require_jj()
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp(f"properties-{request.param}")
        patch.setenv("HOME", str(folder))
        world = make_world(request.param, folder)
        git(folder, "clone", "-q", "--shared", "--no-checkout", str(world.store), str(folder / "scratch"))
        yield world, folder / "scratch", itertools.count(1)


# No shrinking: each case takes a second or more, and says what it was as it is.
@settings(
    max_examples=CASES, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(case=cases)
def test_random_repositories__the_diff_is_the_workspace_and_the_merge_is_gits(shared, case):
    world, scratch, numbers = shared
    number = next(numbers)
    branch, base = f"studio/case-{number}", person_makes(world, case.base)
    checkout = world.checkout(f"case-{number}", branch, base)
    apply(checkout, case.source)
    changes = world.vcs.changes(checkout, base)
    head = world.vcs.commit_all(checkout, branch, "The agent's", AGENT)
    assert listing(world.store, head) == as_listing(contents(checkout))
    assert patched(world, changes, checkout) == world.tree(head)
    apply_and_commit(world, case.target)
    check_merge(world, scratch, case, head)
    world.vcs.remove_checkout(world.repository, checkout)
    world.vcs.delete_branch(world.repository, branch, head)


def check_merge(world: World, scratch: Path, case: Case, head: str) -> None:
    """The computed merge is git's; moving the branch hurts nobody."""
    before = world.target
    result = world.merge(head, case.how)
    tree, conflicts = merged_by_git(scratch, before, head)
    event(f"{case.how}: {'conflict' if conflicts else 'clean'}")
    assert plain(result.conflicts) == plain(conflicts)
    if conflicts:
        return
    assert (result.refusal, world.tree(result.commit)) == ("", tree)
    if result.commit == before:
        return
    if case.dirty:
        write(world.repository, {"a person types": "something", "half": "done"})
        if world.kind == "git":
            git(world.repository, "add", "half")
    seen = world.print()
    try:
        moved = world.advance(before, result.commit)
    except Blocked:
        moved = []
        assert (world.kind, case.dirty, world.target) == ("git", True, before)
    else:
        assert world.target == result.commit
    if moved:
        assert as_listing(contents(world.repository)) == listing(world.store, result.commit)
    else:
        assert world.print() == seen
    if world.kind == "git":
        git(world.repository, "reset", "-q", "--hard")


def plain(names: Iterable[str]) -> set[str]:
    """File names without what git appends to one that is a link on one side and a file on the other: the side's name."""
    return {name.partition("~")[0] for name in names}


def put(folder: Path, name: str, entry: Entry | None) -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    if entry is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, body = entry
    if kind == LINK:
        path.symlink_to(os.fsdecode(body))
    else:
        path.write_bytes(body)
        path.chmod(0o755 if kind == EXECUTABLE else 0o644)


def apply(folder: Path, changed: dict[str, Entry | None]) -> None:
    for name, entry in changed.items():
        put(folder, name, entry)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in (".git", ".jj"):
            delete_tree(path)


def person_makes(world: World, tree: Tree) -> str:
    """A person's commit on the target that has just this tree."""
    return apply_and_commit(world, dict(tree), afresh=True)


def apply_and_commit(world: World, changed: dict[str, Entry | None], *, afresh: bool = False) -> str:
    if world.is_jj:
        jj(world.repository, "new", TARGET)
    if afresh:
        empty(world.repository)
    apply(world.repository, changed)
    if world.is_jj:
        jj(world.repository, "commit", "-m", "A person's")
        jj(world.repository, "bookmark", "set", TARGET, "-r", "@-")
    else:
        git(world.repository, "add", "-A")
        git(world.repository, "commit", "-q", "--allow-empty", "-m", "A person's")
    return world.target


def listing(store: Path, commit: str) -> dict[str, tuple[str, str]]:
    """What a commit holds: (mode, blob) by name."""
    raw = subprocess.run(
        ["git", "ls-tree", "-r", "-z", commit], cwd=store, env=GIT_ENV, check=True, capture_output=True, timeout=60
    ).stdout
    rows = (os.fsdecode(row).partition("\t") for row in raw.split(b"\0") if row)
    return {name: (about.split()[0], about.split()[2]) for about, _, name in rows}


def as_listing(found: dict[str, tuple[int, bytes]]) -> dict[str, tuple[str, str]]:
    """The same of files that were read, without git."""
    modes = {PLAIN: "100644", EXECUTABLE: "100755", LINK: "120000"}
    return {
        name: (modes[kind], sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest())
        for name, (kind, body) in found.items()
    }


def patched(world: World, changes: Changes, checkout: Path) -> str:
    """The tree that the base becomes by the change: its patches, and for binary files, which have none, the file."""
    index = {**GIT_ENV, "GIT_INDEX_FILE": str(checkout.parent / "patched-index")}

    def run(*command: str, given: bytes = b"") -> str:
        done = subprocess.run(
            ["git", *command], cwd=world.store, env=index, input=given, check=True, capture_output=True, timeout=60
        )
        return done.stdout.decode().strip()

    run("read-tree", changes.base)
    compared = [file for file in changes.files if file.additions is not None]
    patch = b"".join(file.patch or b"" for file in compared)
    if patch:
        run("apply", "--cached", "--whitespace=nowarn", "-", given=patch)
    for file in changes.files:
        if file.additions is None:
            if file.old_path and file.old_path != file.new_path:
                run("update-index", "-z", "--index-info", given=f"0 {'0' * 40}\t{file.old_path}\0".encode())
            if file.new_path:
                blob = run("hash-object", "-w", "--stdin", given=body_of(checkout / file.new_path))
                row = f"{file.new_mode} {blob}\t{file.new_path}\0"
                run("update-index", "-z", "--index-info", given=row.encode())
    return run("write-tree")


def body_of(path: Path) -> bytes:
    return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()


def merged_by_git(scratch: Path, target: str, source: str) -> tuple[str, set[str]]:
    """What `git merge` does in a clone: the tree, or the files in conflict."""
    git(scratch, "checkout", "-q", "-f", "--detach", target)
    git(scratch, "clean", "-q", "-fdx")
    command = ["git", "merge", "-q", "--no-edit", "-m", "Merge", source]
    done = subprocess.run(command, cwd=scratch, env=GIT_ENV, capture_output=True, timeout=60)
    unmerged = git(scratch, "ls-files", "-u", "-z")
    conflicts = {row.partition("\t")[2] for row in unmerged.split("\0") if row}
    assert bool(done.returncode) == bool(conflicts), done.stderr
    if conflicts:
        git(scratch, "merge", "--abort")
        return "", conflicts
    return git(scratch, "rev-parse", "HEAD^{tree}").strip(), set()
