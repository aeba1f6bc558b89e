"""What is asked of a version control system about the checkouts of people, and what is taken over from one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
