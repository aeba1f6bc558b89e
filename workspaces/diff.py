"""A change as it is shown: files, hunks and numbered lines, cleaned and bounded.

What git prints is taken apart by file in `workspaces/vcs`; hunks and line numbers come from unidiff.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from io import StringIO
from typing import Any

from unidiff.patch import PatchSet

from studio.kernel.text import cut
from studio.kernel.unseen import codes, spelled, warning
from workspaces.colours.badges import shown
from workspaces.vcs.base import ChangedFile, Changes, readable

FILES_LIMIT = 1_000  # files of one answer; the rest is counted, and read with `offset`
COLLAPSE_LINES = 1_000  # changed lines from which a file is folded until it is asked for by name
TOTAL_LINES = 20_000  # lines of one answer; files beyond are folded
FILE_LINES = 20_000  # lines of a file that is asked for by name; the rest is cut off
LINE_CHARACTERS = 2_000
PATCH_BYTES = 200_000  # of a file's patch as text

KINDS = {" ": "context", "+": "added", "-": "removed", "\\": "note"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `kind` is context, added, removed or note (such as a missing newline at the end).

    `html` is the text with its colours, empty where it was given none.
    """

    kind: str
    old_no: int | None
    new_no: int | None
    text: str
    html: str = ""

    @property
    def shown(self) -> str:
        """It as HTML, with its colours where it has some, and with badges for what cannot be seen."""
        return self.html or shown(self.text)


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines that stand together; `section` is the function or heading around them."""

    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    section: str
    lines: list[Line]

    @property
    def heading(self) -> str:
        """The section as HTML."""
        return shown(self.section)


@dataclass(frozen=True, slots=True)
class FileDiff:
    """One changed file. Absent sides have the path "" and the mode "".

    `collapsed`: its lines are left out; ask for the file by its id. `too_large`: even then only the beginning is there.
    `binary`: git compared no lines, because it is binary or larger than two megabytes.
    `patch`: its part of the unified diff as text, empty when it is too large.
    """

    id: str
    old_path: str
    new_path: str
    status: str  # added, deleted, modified, renamed, copied, type_changed
    old_mode: str
    new_mode: str
    additions: int
    deletions: int
    binary: bool
    collapsed: bool = False
    too_large: bool = False
    hunks: list[Hunk] = field(default_factory=list)
    patch: str = ""
    warning: str = ""  # of characters in the lines that cannot be seen

    @property
    def path(self) -> str:
        """The name it has now, or had last."""
        return self.new_path or self.old_path

    @property
    def mode_changed(self) -> bool:
        """Whether the file's mode is another, for example executable."""
        return bool(self.old_mode and self.new_mode and self.old_mode != self.new_mode)


@dataclass(frozen=True, slots=True)
class Diff:
    """A change. Counts are of the whole of it; `files` is the part that was asked for, from `offset` on."""

    base: str
    head: str  # empty: the checkout as it is now
    total_files: int
    additions: int
    deletions: int
    offset: int
    files: list[FileDiff]
    notes: list[str]  # for people

    @property
    def truncated(self) -> bool:
        """Whether there are more files behind these."""
        return self.offset + len(self.files) < self.total_files


def file_id(file: ChangedFile) -> str:
    """A short name of the file that survives any bytes in its path."""
    return sha256(f"{file.old_path}\0{file.new_path}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


def find_file(changes: Changes, wanted: str) -> ChangedFile | None:
    """The file whose id, or whose shown path, is `wanted`."""
    for file in changes.files:
        if wanted in (file_id(file), readable(file.new_path), readable(file.old_path)):
            return file
    return None


def build(changes: Changes, *, offset: int = 0, whole: bool = False) -> Diff:
    """The change as it is shown, from the file number `offset` on; `whole` does not fold long files."""
    found: list[FileDiff] = []
    room = TOTAL_LINES
    for file in changes.files[offset : offset + FILES_LIMIT]:
        one = describe(file)
        long = one.additions + one.deletions
        if file.patch is not None and (whole or (long <= COLLAPSE_LINES and long <= room)):
            one = with_lines(one, file.patch)
            room -= sum(len(hunk.lines) for hunk in one.hunks)
        elif not one.binary and long:
            one = replace(one, collapsed=True)
        found.append(one)
    notes = [
        f"{readable(path)} is a git repository of its own inside the checkout: its files are not part of the change."
        if path.endswith("/")
        else f"The name {readable(path)} cannot be stored here because it is not UTF-8: the file is not part of the change."
        for path in changes.nested
    ]
    return Diff(
        base=changes.base,
        head=changes.head,
        total_files=len(changes.files),
        additions=sum(file.additions or 0 for file in changes.files),
        deletions=sum(file.deletions or 0 for file in changes.files),
        offset=offset,
        files=found,
        notes=notes,
    )


def describe(file: ChangedFile) -> FileDiff:
    """The file without its lines."""
    small = file.patch is not None and len(file.patch) <= PATCH_BYTES
    return FileDiff(
        id=file_id(file),
        old_path=readable(file.old_path),
        new_path=readable(file.new_path),
        status=file.status,
        old_mode=file.old_mode.replace("000000", ""),
        new_mode=file.new_mode.replace("000000", ""),
        additions=file.additions or 0,
        deletions=file.deletions or 0,
        binary=file.additions is None,
        patch=spelled(file.patch.decode("utf-8", "replace")) if small and file.patch else "",
    )


def with_lines(file: FileDiff, patch: bytes) -> FileDiff:
    """The file with its hunks, at most FILE_LINES lines of them."""
    hunks: list[Hunk] = []
    room = FILE_LINES
    unseen: set[str] = set()
    for parsed in _parsed(patch):
        if room > 0:
            section = cut(spelled(parsed.section_header), LINE_CHARACTERS)
            old, new = (parsed.source_start, parsed.source_length), (parsed.target_start, parsed.target_length)
            hunks.append(Hunk(*old, *new, section, [_line(line) for line in parsed[:room]]))
        unseen.update(codes(_past_mark(line) for line in parsed))
        room -= len(parsed)
    return replace(file, hunks=hunks, too_large=room < 0, warning=warning(sorted(unseen)))


def _past_mark(line: Any) -> str:
    """The line without a byte order mark that begins the file, which is nothing to warn of."""
    first = 1 in (line.source_line_no, line.target_line_no)
    return str(line.value.removeprefix("\ufeff") if first else line.value)


def _parsed(patch: bytes) -> Iterator[Any]:
    """unidiff's hunks. A change of type has two parts, one that deletes and one that adds.

    The headers are left behind: names were read from git's own listing, which no file name can confuse.
    """
    for part in patch.split(b"\ndiff --git "):
        _, found, body = part.partition(b"\n@@ ")
        if found:
            text = "--- a/file\n+++ b/file\n@@ " + body.decode("utf-8", "replace").removesuffix("\n") + "\n"
            for parsed in PatchSet(StringIO(text)):
                yield from parsed


def _line(line: Any) -> Line:
    """A line; of one that ends in the Windows way that is seen: else two different lines would look alike."""
    text = cut(spelled(line.value.removesuffix("\n")), LINE_CHARACTERS)
    return Line(KINDS[line.line_type], line.source_line_no, line.target_line_no, text)
