"""The sides of each file that a merge cannot bring together, read from the objects without touching a checkout."""

from __future__ import annotations

from pathlib import Path

from workspaces.vcs.git_command import LONG_TIMEOUT, git, name
from workspaces.vcs.git_merge import Conflicted, merge_or_raise
from workspaces.vcs.merging import SIDE_LIMIT, ConflictedFile, MergeRequest

SIDES_LIMIT = 24 * 1024 * 1024  # bytes of all sides of one merge; what comes after is cut to nothing
SUBMODULE = "160000"
BINARY_LOOK = 8_000  # bytes in which git looks for a NUL

Object = tuple[str, str]  # mode, id


def conflicts(repository: Path, request: MergeRequest) -> list[ConflictedFile]:
    """The sides of each file in which the merge conflicts; empty when it does not. Of a rebase those of its first conflict."""
    try:
        merge_or_raise(repository, request)
    except Conflicted as conflict:
        if not conflict.ours:
            return [ConflictedFile(file, None, None, None, None) for file in conflict.files]
        return _sides(repository, conflict.ours, conflict.theirs)
    return []


def _sides(repository: Path, ours: str, theirs: str) -> list[ConflictedFile]:
    options = ("merge-tree", "--write-tree", "-z", "--no-messages", ours, theirs)
    tree, *rows = git(repository, *options, ok=(0, 1), timeout=LONG_TIMEOUT).stdout.split(b"\0")
    stages: dict[str, dict[int, Object]] = {}
    for row in rows:
        head, _, path = row.partition(b"\t")
        if path:
            mode, oid, stage = head.decode().split(" ")
            stages.setdefault(name(path), {})[int(stage)] = (mode, oid)
    merged = _listed(repository, name(tree).strip(), list(stages))
    reader = Reader(repository, [*merged.values(), *(one for found in stages.values() for one in found.values())])
    return [_file(reader, path, found, merged.get(path)) for path, found in stages.items()]


def _file(reader: Reader, path: str, stages: dict[int, Object], merged: Object | None) -> ConflictedFile:
    base, target, source = (reader.read(stages.get(stage)) for stage in (1, 2, 3))
    text = reader.read(merged)
    binary = any(b"\0" in (side or b"")[:BINARY_LOOK] for side in (base, target, source))
    cut = any(one is not None and reader.is_cut(one) for one in (*stages.values(), merged))
    return ConflictedFile(path, base, target, source, None if binary else text, cut)


def _listed(repository: Path, tree: str, paths: list[str]) -> dict[str, Object]:
    """What the merged tree has at `paths`."""
    found: dict[str, Object] = {}
    for begin in range(0, len(paths), 500):
        part = paths[begin : begin + 500]
        done = git(repository, "ls-tree", "-z", tree, "--", *part, env={"GIT_LITERAL_PATHSPECS": "1"})
        for row in done.stdout.split(b"\0"):
            head, _, path = row.partition(b"\t")
            if path:
                mode, _, oid = head.decode().split(" ")
                found[name(path)] = (mode, oid)
    return found


class Reader:
    """The contents of objects, at most SIDE_LIMIT bytes of each and SIDES_LIMIT of all."""

    def __init__(self, repository: Path, objects: list[Object]) -> None:
        self.repository = repository
        self.left = SIDES_LIMIT
        self.read_already: dict[str, bytes] = {}
        wanted = list(dict.fromkeys(oid for mode, oid in objects if mode != SUBMODULE))
        given = "".join(f"{oid}\n" for oid in wanted).encode()
        rows = git(repository, "cat-file", "--batch-check=%(objectsize)", given=given).stdout.decode().splitlines()
        # Of a partial clone an object may be missing: it has no size.
        self.sizes = {oid: int(row) for oid, row in zip(wanted, rows, strict=True) if row.isdecimal()}
        self._read_small([oid for oid, size in self.sizes.items() if size <= SIDE_LIMIT])

    def _read_small(self, wanted: list[str]) -> None:
        """All objects that fit, with one process."""
        chosen = []
        for oid in wanted:
            if self.sizes[oid] <= self.left:
                self.left -= self.sizes[oid]
                chosen.append(oid)
        if not chosen:
            return
        raw = git(self.repository, "cat-file", "--batch", given="".join(f"{oid}\n" for oid in chosen).encode()).stdout
        at = 0
        for oid in chosen:
            begin = raw.index(b"\n", at) + 1
            self.read_already[oid] = raw[begin : begin + self.sizes[oid]]
            at = begin + self.sizes[oid] + 1

    def read(self, one: Object | None) -> bytes | None:
        """The content; of a submodule the line that git's diffs have for it."""
        if one is None:
            return None
        mode, oid = one
        if mode == SUBMODULE:
            return f"Subproject commit {oid}\n".encode()
        if oid not in self.sizes:
            return b""
        if oid not in self.read_already:
            limit = min(SIDE_LIMIT, self.left)
            done = git(self.repository, "cat-file", "blob", oid, max_output=limit, stop_at_limit=True)
            self.read_already[oid] = done.stdout[:limit]
            self.left -= len(self.read_already[oid])
        return self.read_already[oid]

    def is_cut(self, one: Object) -> bool:
        """Whether there is more of it than is read."""
        content = self.read(one)
        return one[0] != SUBMODULE and len(content or b"") < self.sizes.get(one[1], 1)
