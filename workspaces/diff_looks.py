"""A change as a person wants to look at it: side by side, without changes of white space, one round of it alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from hashlib import sha256

from django.core import signing
from django.http import HttpRequest

from studio.kernel.errors import NotFound
from workspaces.diff import FileDiff, Hunk, Line
from workspaces.models import Workspace

COMPARED = 400  # lines of a side; in a longer run changes of white space are not looked for
SALT = "workspaces.round"
SPACE = re.compile(r"[^\S\x85\u2028\u2029]+")  # those three are seen by nobody, and end lines for some programs

Pair = tuple[Line | None, Line | None]


@dataclass(frozen=True, slots=True)
class Look:
    """How the change is shown, as the person's browser remembers it, and which part of it."""

    split: bool = False
    hide_space: bool = False
    round: str = ""

    @property
    def carry(self) -> str:
        """What each link of the page repeats in its query."""
        return f"round={self.round}&" if self.round else ""


def look_of(request: HttpRequest) -> Look:
    """What the request asks for."""
    return Look(
        split=request.COOKIES.get("diff_view") == "split",
        hide_space=request.COOKIES.get("diff_space") == "hide",
        round=request.GET.get("round", ""),
    )


def round_token(workspace: Workspace, start: str, end: str) -> str:
    """Names a part of the workspace's history in an address, so that no other commits can be asked for."""
    return signing.dumps([str(workspace.pk), start, end], salt=SALT)


def range_of(workspace: Workspace, token: str) -> tuple[str | None, str | None]:
    """The (base, head) that a token names; nothing for none. Raises NotFound for one of another workspace."""
    if not token:
        return None, None
    try:
        owner, start, end = signing.loads(token, salt=SALT)
    except (signing.BadSignature, ValueError):
        owner = ""
    if owner != str(workspace.pk):
        raise NotFound("There is no such part of the change.", code="round_unknown")
    return start, end


def digest(file: FileDiff) -> str:
    """Another whenever what is shown of the file is; empty for a file too large to be remembered as seen."""
    return sha256(file.patch.encode()).hexdigest()[:16] if file.patch else ""


def pairs(hunk: Hunk) -> list[Pair]:
    """The lines of a hunk as (old, new), side by side: what was removed beside what was added in its place.

    A note, such as that the last line has no end, stands on the side of the line before it.
    """
    found: list[Pair] = []
    for removed, added, between in _runs(hunk.lines):
        longer = max(len(removed), len(added))
        olds, news = ([*side, *[None] * (longer - len(side))] for side in (removed, added))
        found += zip(olds, news, strict=True)
        side = _both if not (removed or added) else _new if added else _old
        for line in between:
            if line.kind != "note":
                side = _both
            found.append(side(line))
    return found


def _both(line: Line) -> Pair:
    return line, line


def _old(line: Line) -> Pair:
    return line, None


def _new(line: Line) -> Pair:
    return None, line


def without_space(file: FileDiff) -> FileDiff:
    """The file without the changes that are only white space within a line; hunks that had no others are left out."""
    hunks = [replace(hunk, lines=_joined(hunk.lines)) for hunk in file.hunks]
    kept = [hunk for hunk in hunks if any(line.kind in ("added", "removed") for line in hunk.lines)]
    return replace(file, hunks=kept)


def _joined(lines: list[Line]) -> list[Line]:
    found: list[Line] = []
    for removed, added, between in _runs(lines):
        found += (
            _same(removed, added)
            if removed and added and max(len(removed), len(added)) <= COMPARED
            else [*removed, *added]
        )
        found += between
    return found


def _same(removed: list[Line], added: list[Line]) -> list[Line]:
    """A run of changes in which the lines that differ in white space alone have become context, as they are now."""
    olds, news = ([SPACE.sub("", line.text) for line in side] for side in (removed, added))
    found: list[Line] = []
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, olds, news, autojunk=False).get_opcodes():
        if kind == "equal":
            sides = zip(removed[i1:i2], added[j1:j2], strict=True)
            found += [Line("context", old.old_no, new.new_no, new.text) for old, new in sides]
        else:
            found += [*removed[i1:i2], *added[j1:j2]]
    return found


def _runs(lines: list[Line]) -> Iterator[tuple[list[Line], list[Line], list[Line]]]:
    """(removed, added, what is the same after them), over and over. A note stands with what is the same."""
    removed: list[Line] = []
    added: list[Line] = []
    between: list[Line] = []
    for line in lines:
        if line.kind in ("removed", "added"):
            if between or (line.kind == "removed" and added):
                yield removed, added, between
                removed, added, between = [], [], []
            (removed if line.kind == "removed" else added).append(line)
        else:
            between.append(line)
    yield removed, added, between
