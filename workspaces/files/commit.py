"""The files of a workspace that was removed, as the repository still has them in a commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workspaces.files.paths import is_hidden, missing, parts_of
from workspaces.files.placed import NOTHING
from workspaces.vcs.reading import Entry, Reading


class Commit:
    """A `Source` (workspaces/files/source.py) on a commit of a repository."""

    live = False

    def __init__(self, reading: Reading, repository: Path, commit: str) -> None:
        self.reading, self.repository, self.commit = reading, repository, commit
        self.placed = NOTHING
        self._folders: dict[str, dict[str, Entry]] = {}

    def names(self, path: str) -> tuple[list[tuple[str, bool]], bool]:
        """(name, whether it is a folder) of what stands in a folder; nothing is left out."""
        return [(name, entry.kind == "folder") for name, entry in self._folder(path).items()], False

    def entries(self, path: str, names: list[str]) -> list[Entry]:
        """What stands under these names in a folder; links with where they lead."""
        folder = self._folder(path)
        return [self.entry(folder[name].path) if folder[name].kind == "link" else folder[name] for name in names]

    def entry(self, path: str) -> Entry:
        """What stands at `path`. Raises NotFound."""
        if not parts_of(path):
            return Entry("", "folder")
        found = self.reading.entry(self.repository, self.commit, path)
        if found is None:
            raise missing(path)
        return found

    @contextmanager
    def content(self, path: str) -> Iterator[Iterator[bytes]]:
        """The bytes of a file, piece by piece. Raises NotFound."""
        if self.entry(path).kind != "file":
            raise missing(path)
        with self.reading.content(self.repository, self.commit, path) as pieces:
            yield pieces

    def _folder(self, path: str) -> dict[str, Entry]:
        parts_of(path)
        if path not in self._folders:
            rows = self.reading.folder(self.repository, self.commit, path)
            if rows is None:
                raise missing(path)
            self._folders[path] = {row.name: row for row in rows if not is_hidden(row.name)}
        return self._folders[path]
