"""What is asked of a version control system about the checkouts of people, and what is taken over from one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# For the last commit of a checkout, whether a path is left when no commit has it yet.
Leaving = Callable[[str], Callable[[str], bool]]


def leave_nothing(head: str) -> Callable[[str], bool]:
    """A `Leaving` for who takes everything."""
    return lambda path: False


@dataclass(frozen=True, slots=True)
class Worktree:
    """A checkout of a repository, a person's own or one of the studio's."""

    path: Path
    branch: str  # empty when it is on none

    @property
    def name(self) -> str:
        """Its path as text."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken over of a person's worktree."""

    commit: str  # holds all of it
    files: int  # that were in no commit
    left_out: tuple[str, ...]  # what no commit can hold: repositories inside, names that cannot be stored
    outside: tuple[str, ...]  # links that point outside the worktree: taken as links
    placed: tuple[str, ...] = ()  # files of no commit that the caller wanted left
    # Changed files of which git was told to overlook the changes: as they were committed.
    overlooked: tuple[str, ...] = ()
