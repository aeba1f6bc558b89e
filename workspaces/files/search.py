"""Finding files by name and by what is in them: bounded in time, in matches, and in the length of what is shown."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.kernel.errors import Invalid, Upstream
from studio.kernel.text import clean, cut
from studio.kernel.unseen import spelled
from workspaces.files.commit import Commit
from workspaces.files.paths import is_hidden
from workspaces.files.placed import Placed
from workspaces.files.source import Source, source_of
from workspaces.models import Workspace
from workspaces.process import piped
from workspaces.services.checkouts import checkout_path
from workspaces.vcs import reading_of
from workspaces.vcs.reading import Hit

if TYPE_CHECKING:
    from workspaces.files.placed import Person

NAMES = 200  # files found by name that are listed
HITS = 300  # lines that are listed
HITS_PER_FILE = 20
SECONDS = 10.0
PATTERN_CHARACTERS = 500
LINE_CHARACTERS = 300
ROW_BYTES = 1024 * 1024  # of one row of ripgrep's answer; what is found in a longer line is passed over
RIPGREP = (
    "--no-config", "--json", "--smart-case", "--hidden", "--glob=!.git", "--glob=!.jj", "--no-follow", "--no-messages",
    "--no-ignore-parent", f"--max-count={HITS_PER_FILE}", "--max-filesize=2M", "--threads=2",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line that has what was looked for."""

    number: int
    text: str


@dataclass(slots=True)
class FoundFile:
    """A file that was found; `lines` are empty where its name was looked for."""

    path: str
    lines: list[FoundLine] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """What was found. `stopped` says why there may be more, in words; empty when this is all."""

    files: list[FoundFile] = field(default_factory=list)
    stopped: str = ""

    @property
    def count(self) -> int:
        """How many lines, or files where names were looked for."""
        return sum(len(file.lines) or 1 for file in self.files)


def find_names(workspace: Workspace, words: str) -> Found:
    """The files whose paths have all the words, whatever their case; those first that have them in their names."""
    wanted = [word.encode("utf-8", "surrogateescape") for word in _checked(words).casefold().split()]
    source = source_of(workspace)
    found: list[tuple[bool, int, str]] = []
    for path in reading_of(workspace.project.vcs).files(*_place(workspace, source)):
        raw = os.fsencode(path.casefold())
        if all(word in raw for word in wanted) and not any(is_hidden(part) for part in path.split("/")):
            last = raw.rpartition(b"/")[2]
            found.append((not all(word in last for word in wanted), len(path), path))
    found.sort()
    files = [FoundFile(path) for _, _, path in found[:NAMES]]
    return Found(files, f"Only the first {NAMES} of {len(found)} files are listed." if len(found) > NAMES else "")


def find_lines(workspace: Workspace, words: str, *, regex: bool = False, reader: Person | None = None) -> Found:
    """The lines that have `words`, exactly or as a regular expression; capital letters count when there are some in it.

    Binary files, those above two megabytes, what the repository ignores and what is kept from `reader` are passed over.
    Raises Invalid for a pattern that cannot be looked for.
    """
    wanted = _checked(words)
    source = source_of(workspace, reader)
    found = Found()
    with _hits(workspace, source, wanted, regex) as hits:
        try:
            _collect(hits, found, source.placed)
        except Upstream as error:
            if not error.transient:
                said = error.message if regex else "The search failed."
                raise Invalid(f"{said} Look for something else.", detail={"field": "q"}) from error
            found.stopped = f"The search was ended after {SECONDS:g} seconds: there may be more."
    return found


def _checked(words: str) -> str:
    cleaned = clean(words)
    if not cleaned.strip():
        raise Invalid("Say what to look for.", detail={"field": "q"})
    if len(cleaned) > PATTERN_CHARACTERS or "\n" in cleaned:
        raise Invalid(f"Look for at most {PATTERN_CHARACTERS} characters, in one line.", detail={"field": "q"})
    return cleaned


def _place(workspace: Workspace, source: Source) -> tuple[Path, str]:
    """Where version control looks: the checkout as it is, or a commit of the repository."""
    if isinstance(source, Commit):
        return source.repository, source.commit
    return checkout_path(workspace), ""


def _hits(workspace: Workspace, source: Source, words: str, regex: bool) -> AbstractContextManager[Iterator[Hit]]:
    place, commit = _place(workspace, source)
    program = shutil.which("rg")
    if program and not commit:
        return _ripgrep(program, place, words, regex=regex)
    return reading_of(workspace.project.vcs).grep(place, commit, words, regex=regex, seconds=SECONDS)


def _collect(hits: Iterator[Hit], found: Found, placed: Placed) -> None:
    """Fill `found` file by file until there is enough of it."""
    by_path: dict[str, FoundFile] = {}
    count = 0
    for hit in hits:
        if any(is_hidden(part) for part in hit.path.split("/")) or placed.withholds(hit.path):
            continue
        if count == HITS:
            found.stopped = f"Only the first {HITS} lines are listed."
            return
        file = by_path.get(hit.path)
        if file is None:
            file = by_path[hit.path] = FoundFile(hit.path)
            found.files.append(file)
        if len(file.lines) < HITS_PER_FILE:
            text = spelled(hit.text.decode("utf-8", "replace").removesuffix("\r"))
            file.lines.append(FoundLine(hit.line, cut(text, LINE_CHARACTERS)))
            count += 1


@contextmanager
def _ripgrep(program: str, root: Path, words: str, *, regex: bool) -> Iterator[Iterator[Hit]]:
    """What ripgrep finds; it ends with 1 when it finds nothing."""
    how = () if regex else ("--fixed-strings",)
    argv = [program, *RIPGREP, *how, "--", words, "./"]
    with piped(argv, cwd=root, timeout=SECONDS, ok=(0, 1)) as pieces:
        yield _matches(pieces)


def _matches(pieces: Iterator[bytes]) -> Iterator[Hit]:
    """The hits in ripgrep's answer, a JSON object in each row."""
    rest = b""
    skipping = False
    for piece in pieces:
        *rows, rest = (rest + piece).split(b"\n")
        for row in rows:
            if not skipping and row.startswith(b'{"type":"match"'):
                yield _match(json.loads(row)["data"])
            skipping = False
        if len(rest) > ROW_BYTES:
            rest, skipping = b"", True


def _match(data: dict[str, Any]) -> Hit:
    path = os.fsdecode(_bytes(data["path"])).removeprefix("./")
    return Hit(path, int(data["line_number"]), _bytes(data["lines"]).partition(b"\n")[0])


def _bytes(value: dict[str, str]) -> bytes:
    """Text, or what is no text in base64."""
    return value["text"].encode() if "text" in value else base64.b64decode(value["bytes"])
