"""Which files of a repository's own checkout the patterns of a setup mean: bounded, and never outside the checkout."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from workspaces.setup.config import STORES, WILD
from workspaces.vcs.base import readable

LOOKED_AT = 20_000  # names that a setup's patterns may pass by, all together
FILES = 1_000
BYTES = 100 * 1024 * 1024
DEEP = 20  # folders in each other that `**` goes into


class Enough(Exception):
    """A bound was reached."""


@dataclass(slots=True)
class Found:
    """The files, each as its path below the root; and what was left out, in words."""

    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def matching(root: Path, patterns: tuple[str, ...]) -> Found:
    """The plain files below `root` that the patterns mean; of a folder everything in it. What is missing is a note."""
    search = _Search(root.resolve())
    for pattern in patterns:
        before = len(search.found.files) + len(search.found.notes)
        try:
            search.look(pattern)
        except Enough as bound:
            search.found.notes.append(f"{readable(pattern)}: {bound}")
            break
        if len(search.found.files) + len(search.found.notes) == before:
            search.found.notes.append(f"{readable(pattern)}: the repository's checkout has no such file.")
    search.found.files = sorted(dict.fromkeys(search.found.files))
    return search.found


def means(patterns: Iterable[str], path: str) -> bool:
    """Whether the patterns mean the path or a folder around it, by its name alone: nothing is looked at, no bound counts."""
    parts = path.rstrip("/").split("/")
    return any(_means(pattern.split("/"), parts) for pattern in patterns)


def _means(pattern: list[str], parts: list[str]) -> bool:
    if pattern[-1] == "**":
        pattern = [*pattern[:-1], "*"]  # everything in a folder, so each entry with all that is in it
    reached = _skipping(pattern, {0})
    for part in parts:
        held = {at for at in reached if pattern[at] == "**"}
        passed = {at + 1 for at in reached - held if fnmatch.fnmatchcase(part, pattern[at])}
        reached = _skipping(pattern, held | passed)
        if len(pattern) in reached:
            return True
    return False


def _skipping(pattern: list[str], reached: set[int]) -> set[int]:
    """The places in the pattern with those behind a `**` that means no folder at all."""
    for at in range(len(pattern)):
        if at in reached and pattern[at] == "**":
            reached.add(at + 1)
    return reached


class _Search:
    def __init__(self, root: Path) -> None:
        self.root, self.found, self.looked, self.bytes = root, Found(), 0, 0

    def look(self, pattern: str) -> None:
        """Take what one pattern means."""
        for path in self._paths("", pattern.split("/"), DEEP):
            self._take(path)

    def _paths(self, folder: str, parts: list[str], deep: int) -> Iterator[str]:
        """The paths below `folder` that match `parts`. Links to folders are not followed by a wildcard."""
        if not parts:
            yield folder
            return
        head, rest = parts[0], parts[1:]
        if head == "**":
            yield from self._paths(folder, rest, deep) if rest else ()
            for entry in self._entries(folder):
                path = _below(folder, entry.name)
                if entry.is_dir(follow_symlinks=False) and deep:
                    yield from self._paths(path, parts, deep - 1)
                elif not rest:
                    yield path
        elif WILD.search(head):
            for entry in self._entries(folder):
                if fnmatch.fnmatchcase(entry.name, head) and (not rest or entry.is_dir(follow_symlinks=False)):
                    yield from self._paths(_below(folder, entry.name), rest, deep)
        elif os.path.lexists(self.root / folder / head):
            yield from self._paths(_below(folder, head), rest, deep)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """What a folder holds, without any store of a version control system."""
        try:
            with os.scandir(self.root / folder) as entries:
                found = []
                for entry in entries:
                    self.looked += 1
                    if self.looked > LOOKED_AT:
                        raise Enough(
                            f"more than {LOOKED_AT:,} names would have to be looked at; use a narrower pattern."
                        )
                    if entry.name not in STORES:
                        found.append(entry)
                return sorted(found, key=lambda one: one.name)
        except OSError:
            return []

    def _take(self, path: str) -> None:
        """Note the file at `path`, or those in the folder; or why not."""
        real = Path(os.path.realpath(self.root / path))
        try:
            about = real.stat()
        except OSError:
            self.found.notes.append(f"{readable(path)}: it cannot be read.")
            return
        if not is_inside(real, self.root):
            self.found.notes.append(f"{readable(path)}: it leads out of the repository, so it is not copied.")
        elif stat.S_ISDIR(about.st_mode):
            if not (self.root / path).is_symlink():
                for inner in self._paths(path, ["**"], DEEP):
                    self._take(inner)
            else:
                self.found.notes.append(f"{readable(path)}: it is a link to a folder; link it instead.")
        elif not stat.S_ISREG(about.st_mode):
            self.found.notes.append(f"{readable(path)}: it is no plain file.")
        elif path not in self.found.files:
            self._count(about.st_size)
            self.found.files.append(path)

    def _count(self, size: int) -> None:
        self.bytes += size
        if len(self.found.files) >= FILES:
            raise Enough(f"more than {FILES:,} files; the rest is not copied.")
        if self.bytes > BYTES:
            raise Enough(f"more than {BYTES // 1024**2} MB; the rest is not copied. Link large folders instead.")


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def is_inside(real: Path, root: Path) -> bool:
    """Whether a resolved path is below the resolved `root` and not in its `.git` or `.jj`."""
    return real.is_relative_to(root) and real != root and real.relative_to(root).parts[0] not in STORES
