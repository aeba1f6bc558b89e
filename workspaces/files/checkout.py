"""The files of a checkout on disk, walked one component at a time: a link is named and never followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from studio.kernel.errors import Forbidden, NotFound, Upstream
from workspaces.files.paths import is_hidden, missing, parts_of
from workspaces.files.placed import NOTHING, WITHHELD, Placed
from workspaces.vcs.reading import Entry

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
PIECE = 256 * 1024
NAMES_READ = 50_000  # names of one folder; the rest is not listed
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class Checkout:
    """A `Source` (workspaces/files/source.py) on a folder of the disk."""

    live = True

    def __init__(self, root: Path, placed: Placed = NOTHING) -> None:
        self.root, self.placed = root, placed

    def names(self, path: str) -> tuple[list[tuple[str, bool]], bool]:
        """(name, whether it is a folder) of what stands in a folder, and whether names were left out."""
        with self._opened(path) as descriptor, os.scandir(descriptor) as rows:
            found: list[tuple[str, bool]] = []
            for row in rows:
                if len(found) == NAMES_READ:
                    return found, True
                if not is_hidden(row.name):
                    found.append((row.name, row.is_dir(follow_symlinks=False)))
        return found, False

    def entries(self, path: str, names: list[str]) -> list[Entry]:
        """What stands under these names in a folder; a name that has gone since is left out."""
        with self._opened(path) as descriptor:
            found = (_entry(descriptor, name, f"{path}/{name}" if path else name) for name in names)
            return [entry for entry in found if entry is not None]

    def entry(self, path: str) -> Entry:
        """What stands at `path`. Raises NotFound."""
        parts = parts_of(path)
        if not parts:
            return Entry("", "folder")
        with self._opened("/".join(parts[:-1])) as descriptor:
            found = _entry(descriptor, parts[-1], path)
        if found is None:
            raise missing(path)
        return found

    @contextmanager
    def content(self, path: str) -> Iterator[Iterator[bytes]]:
        """The bytes of a plain file, piece by piece, no more than it had when it was opened. Raises NotFound and Forbidden."""
        if self.placed.withholds(path):
            raise Forbidden(WITHHELD, code="file_withheld")
        with self._file(path) as file:
            yield _pieces(file, os.fstat(file.fileno()).st_size)

    @contextmanager
    def _file(self, path: str) -> Iterator[BinaryIO]:
        parts = parts_of(path)
        if not parts:
            raise missing(path)
        with self._opened("/".join(parts[:-1])) as folder:
            entry = _entry(folder, parts[-1], path)
            if entry is None or entry.kind != "file":
                raise missing(path)
            try:
                descriptor = os.open(parts[-1], FILE, dir_fd=folder)
            except OSError as error:
                raise _refusal(path, error) from error
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise missing(path)
            yield file

    @contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        """A descriptor of a folder, reached without following a link. Raises NotFound."""
        parts = parts_of(path)
        try:
            descriptor = self._reached(parts)
        except OSError as error:
            raise _refusal(path, error) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _reached(self, parts: tuple[str, ...]) -> int:
        descriptor = os.open(self.root, FOLDER)
        for part in parts:
            try:
                inner = os.open(part, FOLDER, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor


def _refusal(path: str, error: OSError) -> NotFound | Upstream:
    if error.errno in GONE:
        return missing(path)
    return Upstream(f"It cannot be read: {error.strerror}.", code="file_unreadable")


def _entry(folder: int, name: str, path: str) -> Entry | None:
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(facts.st_mode):
            return Entry(path, "link", target=os.readlink(name, dir_fd=folder))
    except OSError:
        return None
    if stat.S_ISDIR(facts.st_mode):
        return Entry(path, "folder")
    if stat.S_ISREG(facts.st_mode):
        return Entry(path, "file", size=facts.st_size, executable=bool(facts.st_mode & stat.S_IXUSR))
    return Entry(path, "special")


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (piece := file.read(min(PIECE, size))):
        size -= len(piece)
        yield piece
