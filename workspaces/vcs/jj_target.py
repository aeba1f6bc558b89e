"""Moving a bookmark, checked against what anybody else did at the same moment.

jj never refuses an operation because of another: both stand, and are merged when somebody looks next. So the move is made, and
then the operation log says whether the bookmark was where it had to be, before it and beside it. Otherwise the move is reverted.
Nobody's working copy moves: jj leaves it on the commit it was on, and in a colocated repository git's HEAD as well.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from workspaces.vcs.base import Raced, readable
from workspaces.vcs.git_command import branch_commit
from workspaces.vcs.jj_command import JjError, jj, text
from workspaces.vcs.jj_inspect import git_store, is_colocated, root, targets_at, tip
from workspaces.vcs.jj_learn import learn
from workspaces.vcs.merging import BranchCheckout

LOOKED_AT = 50  # operations behind the newest among which ours must be
OPERATION = 'id ++ "\\0" ++ parents.map(|p| p.id()).join(" ") ++ "\\0" ++ description.first_line() ++ "\\n\\0"'


@dataclass(frozen=True, slots=True)
class Operation:
    """An entry of jj's operation log."""

    id: str
    parents: tuple[str, ...]
    description: str


def advance_branch(
    repository: Path, branch: str, old: str, new: str, *, reason: str, resuming: bool, hooks: bool = False
) -> list[Path]:
    """Move the bookmark from `old` to `new`. No checkout is on a bookmark, so none is brought along: the list is empty.

    Raises Raced when the bookmark is elsewhere; then it has not moved.
    """
    # jj words its log itself and has no hooks. The move is one operation: there is no half-way.
    del reason, resuming, hooks
    repository = root(repository)
    if tip(repository, branch) != old:
        raise Raced
    learn(repository, new)
    try:
        jj(repository, "bookmark", "set", branch, "-r", new)
    except JjError as error:
        if tip(repository, branch) != old:
            raise Raced from error  # it was moved to where `new` is not ahead of
        raise
    _verify(repository, branch, old, new)
    return []


def checkouts_on(repository: Path, branch: str) -> list[BranchCheckout]:
    """None: no workspace follows a bookmark, so nothing can stand in a merge's way."""
    del repository, branch
    return []


def moved_note(repository: Path, branch: str, new: str) -> str:
    """How a person goes on from the merge, and how they take it back, as commands."""
    ours = _move(_operations(repository), branch, new)
    note = f"The bookmark {branch} was moved; your working copy stays where it was (jj new {shlex.quote(branch)} goes on from it)."
    # jj undo takes a snapshot first and then takes back that one: files that a person has not saved would vanish.
    back = "To take the merge back (not with jj undo, which takes back whatever came last): jj op revert"
    return f"{note} {back} {ours.id[:12]}" if ours else note


def _verify(repository: Path, branch: str, old: str, new: str) -> None:
    """Revert the move and raise Raced unless the bookmark was at `old` right before it, and nobody moved it meanwhile."""
    operations = _operations(repository)
    ours = _move(operations, branch, new)
    if ours is None:
        if tip(repository, branch) != new:
            raise Raced
        return
    beside = _beside(operations, ours)
    told = all(targets_at(repository, one, branch) in ([old], [new]) for one in (*ours.parents, *beside))
    followed = new if not is_colocated(repository) else branch_commit(git_store(repository), branch)
    if not (told and followed == new):
        jj(repository, "operation", "revert", ours.id)
        if told and followed == old:
            raise _not_followed(repository, branch)
        raise Raced


def _not_followed(repository: Path, branch: str) -> JjError:
    """Nobody else moved it, but git's branch stayed where it was."""
    lock = git_store(repository) / "refs" / "heads" / f"{branch}.lock"
    begin = f"git's branch {branch} could not follow the bookmark, so neither was moved."
    if not lock.exists():
        return JjError(f"{begin} Run jj git export in {readable(repository)} to see why, then complete again.")
    return JjError(
        f"{begin} Another git command is at work there, or one was killed and left {readable(lock)} behind. Wait for it, or "
        "delete that file when no git runs there; then complete again.",
        transient=True,
    )


def _beside(operations: list[Operation], ours: Operation) -> set[str]:
    """The operations that were made at the same time as ours, and merged with it since."""
    after = {ours.id}
    for one in reversed(operations[: operations.index(ours)]):
        if after.intersection(one.parents):
            after.add(one.id)
    merged = (one for one in operations if one.id in after and one != ours)
    return {parent for one in merged for parent in one.parents} - after


def _move(operations: list[Operation], branch: str, new: str) -> Operation | None:
    """The newest operation that moved the bookmark to `new`."""
    wanted = f"point bookmark {branch} to commit {new}"
    return next((one for one in operations if one.description == wanted), None)


def _operations(repository: Path) -> list[Operation]:
    options = ("--no-graph", "--limit", str(LOOKED_AT), "-T", OPERATION)
    rows = text(repository, "operation", "log", *options).split("\n\0")[:-1]
    fields = [row.split("\0") for row in rows]
    return [Operation(one, tuple(parents.split()), description) for one, parents, description in fields]
