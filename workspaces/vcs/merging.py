"""What is asked of a merge, a revert or an update, by whom, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

SIDE_LIMIT = 256 * 1024  # bytes of one side of a conflict


@dataclass(frozen=True, slots=True)
class Person:
    """An author or a committer."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """What to merge and how. `at` dates the commits, so that the same request gives the same commits.

    `hooks`: the repository's own hooks about a commit's message may run, and refuse it. `signed`: the commits are signed
    where the person's configuration asks for it; not for a look at what a merge would be.
    """

    how: str  # merge, squash, rebase
    target: str
    source: str
    message: str
    author: Person
    committer: Person
    at: datetime
    hooks: bool = False
    signed: bool = True


@dataclass(frozen=True, slots=True)
class MergeResult:
    """A commit that no branch points at yet, or the reason why there is none."""

    commit: str = ""
    conflicts: tuple[str, ...] = ()
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class RevertRequest:
    """Which merge to take back: what the target became by it. `at` dates the commit; `hooks` as with a merge."""

    target: str  # the commit of the target branch that the revert comes after
    before: str  # the target before the merge
    after: str  # the target after it
    message: str
    author: Person
    committer: Person
    at: datetime
    hooks: bool = False
    signed: bool = True


@dataclass(frozen=True, slots=True)
class BranchCheckout:
    """A checkout that is on a branch: a person's, which is never touched while it is not clean."""

    path: Path
    dirty: list[str]  # tracked files that differ from its commit
    operation: str  # that was begun there and not ended; else empty


@dataclass(frozen=True, slots=True)
class ConflictedFile:
    """A file that both sides changed in the same place. A side is None where it has no such file.

    Each side holds at most SIDE_LIMIT bytes; `cut` says that one of them has more. `merged` is the text with conflict
    markers as the version control system would write it, None for a binary file.
    """

    path: str
    base: bytes | None
    target: bytes | None
    source: bytes | None
    merged: bytes | None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """What bringing a checkout up to date did. With conflicts the files hold markers, and the operation waits for a commit."""

    head: str
    conflicts: tuple[str, ...] = ()
