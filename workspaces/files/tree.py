"""The tree: one folder at a time and so many names at once, so that a repository of any size opens at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from workspaces.files.paths import parts_of
from workspaces.files.source import Source
from workspaces.models import Workspace
from workspaces.services.checkouts import changed_files
from workspaces.vcs.reading import Entry

SHOWN = 200  # names of a folder that are listed at once
CHANGED_SHOWN = 1_000  # files of the tree of the change
DEPTH = 30  # levels of a tree that are open; what is deeper stands in the last of them, or is fetched when it is opened


@dataclass(frozen=True, slots=True)
class Listing:
    """A stretch of a folder, folders first. `total` names are in it; `cut` says that there are more than were counted."""

    path: str
    offset: int
    entries: list[Entry]
    total: int
    cut: bool = False

    @property
    def next_offset(self) -> int | None:
        """Where the next stretch begins; None behind the last."""
        behind = self.offset + len(self.entries)
        return behind if behind < self.total and self.entries else None


@dataclass(frozen=True, slots=True)
class Node:
    """A line of the tree as a page shows it; `inside` is what an open folder has, None for one that is fetched when opened."""

    entry: Entry
    inside: Branch | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """What an open folder shows."""

    listing: Listing
    nodes: list[Node] = field(default_factory=list)


def listing(source: Source, path: str, *, offset: int = 0, limit: int = SHOWN) -> Listing:
    """`limit` names of the folder `path` from `offset` on. Raises NotFound."""
    names, cut = source.names(path)
    names.sort(key=_order)
    chosen = [name for name, _ in names[offset : offset + limit]]
    return Listing(path, offset, source.entries(path, chosen), len(names), cut)


def _order(row: tuple[str, bool]) -> tuple[bool, str, str]:
    name, folder = row
    return not folder, name.casefold(), name


def opened_to(source: Source, path: str) -> Branch:
    """The tree from the root, with the folders open that lead to `path`, and that folder itself. What is not there stays shut."""
    parts = parts_of(path)[:DEPTH]
    return _branch(source, "", {"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)})


def _branch(source: Source, path: str, opened: set[str]) -> Branch:
    found = listing(source, path)
    nodes = [
        Node(entry, _branch(source, entry.path, opened) if entry.kind == "folder" and entry.path in opened else None)
        for entry in found.entries
    ]
    return Branch(found, nodes)


def changed_tree(workspace: Workspace) -> tuple[Branch, int]:
    """The files of the change in their folders, all open, and how many there are; the first CHANGED_SHOWN of them."""
    files = changed_files(workspace)
    tree: dict[str, list[Entry]] = {"": []}
    for file in files[:CHANGED_SHOWN]:
        folders = file.path.split("/")[:-1][:DEPTH]
        for depth in range(1, len(folders) + 1):
            folder = "/".join(folders[:depth])
            if folder not in tree:
                tree[folder] = []
                tree["/".join(folders[: depth - 1])].append(Entry(folder, "folder"))
        kind = {"120000": "link", "160000": "submodule"}.get(file.new_mode, "file")
        tree["/".join(folders)].append(Entry(file.path, kind, status=file.status))
    return _grown(tree, ""), len(files)


def _grown(tree: dict[str, list[Entry]], path: str) -> Branch:
    entries = sorted(tree[path], key=lambda entry: _order((entry.name, entry.kind == "folder")))
    nodes = [Node(entry, _grown(tree, entry.path) if entry.kind == "folder" else None) for entry in entries]
    return Branch(Listing(path, 0, entries, len(entries)), nodes)


def changed_entries(workspace: Workspace, *, offset: int = 0, limit: int = CHANGED_SHOWN) -> Listing:
    """The files of the change without their folders, for programs."""
    files = changed_files(workspace)
    entries = [Entry(file.path, "file", status=file.status) for file in files[offset : offset + limit]]
    return Listing("", offset, entries, len(files))
