"""What the studio asks of a version control system to show files: trees, contents, searches and patches; nothing changes.

File names are text with surrogate escapes inside, as in `workspaces/vcs/base.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder. `kind`: folder, file, link, submodule, special. `size` in bytes, None where it has no meaning."""

    path: str
    kind: str
    size: int | None = None
    executable: bool = False
    target: str = ""  # of a link, as it is written there
    status: str = ""  # what became of it in the change, where that was asked for

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Hit:
    """A line that was found, without its end."""

    path: str
    line: int
    text: bytes


class Reading(Protocol):
    """How files are read. Every method is bounded in time and raises VcsError when a command fails."""

    def files(self, checkout: Path, commit: str) -> list[str]:
        """Every file of `commit`; with an empty one those of the checkout, untracked ones too, ignored ones not."""
        ...

    def folder(self, repository: Path, commit: str, path: str) -> list[Entry] | None:
        """What stands in a folder of `commit` ("" is the root), in no order; None when there is no such folder."""
        ...

    def entry(self, repository: Path, commit: str, path: str) -> Entry | None:
        """What stands at `path` in `commit`; None when nothing does."""
        ...

    def content(self, repository: Path, commit: str, path: str) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a file of `commit`, piece by piece."""
        ...

    def grep(
        self, checkout: Path, commit: str, words: str, *, regex: bool, seconds: float
    ) -> AbstractContextManager[Iterator[Hit]]:
        """The lines that have `words`; of the checkout as it is with an empty `commit`. Binary files are passed over."""
        ...

    def write_patch(self, checkout: Path, base: str, head: str, file: IO[bytes], limit: int) -> bool:
        """Write everything against `base` as one patch that can be applied to it; false when `limit` bytes do not hold it.

        With an empty `head` it is the checkout as it is, untracked files included.
        """
        ...
