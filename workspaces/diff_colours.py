"""The lines of a change with the colours of their language, and marks where a line took another's place.

Each side of a hunk is read as one text, so that a comment goes on over its lines. What began above the hunk is known only
where it ends in it.
"""

from __future__ import annotations

from dataclasses import replace

from workspaces.colours.paint import Block, Painted, painted
from workspaces.diff import FileDiff, Hunk, Line
from workspaces.diff_looks import pairs

COLOURED_BYTES = 1024 * 1024  # of all that is shown; what comes behind stays plain
FILE_LINES = 5_000  # a file of which more is shown stays plain
LINE_CHARACTERS = 1_000  # a hunk with a longer line stays plain: no person wrote it


def coloured(files: list[FileDiff]) -> list[FileDiff]:
    """The files with HTML in their lines, as far as there is a language for the name, and room, and time."""
    blocks = [block for file in files for block in _blocks(file)]
    answers = iter(painted(blocks, limit=COLOURED_BYTES))
    return [replace(file, hunks=[_with(hunk, next(answers)) for hunk in file.hunks]) for file in files]


def _blocks(file: FileDiff) -> list[Block]:
    """One for each hunk; an empty one where it stays plain."""
    long = sum(len(hunk.lines) for hunk in file.hunks) > FILE_LINES
    return [
        Block(file.path)
        if long or any(len(line.text) > LINE_CHARACTERS for line in hunk.lines)
        else _block(file.path, hunk)
        for hunk in file.hunks
    ]


def _block(path: str, hunk: Hunk) -> Block:
    """A side that has only lines which did not change is left out: they stand on the other."""
    matched: list[tuple[int, int]] = []
    olds, news = 0, 0
    for old, new in pairs(hunk):
        if old and new and old is not new:
            matched.append((olds, news))
        olds += old is not None and old.kind != "note"
        news += new is not None and new.kind != "note"
    old_side, new_side = ([line.text for line in side] for side in _sides(hunk))
    return Block(path, old_side, new_side, matched)


def _sides(hunk: Hunk) -> tuple[list[Line], list[Line]]:
    old = [line for line in hunk.lines if line.kind in ("context", "removed")]
    new = [line for line in hunk.lines if line.kind in ("context", "added")]
    kinds = {line.kind for line in hunk.lines}
    return (old if "removed" in kinds else []), (new if "added" in kinds or "removed" not in kinds else [])


def _with(hunk: Hunk, answer: Painted) -> Hunk:
    """A line that did not change takes the colours that it has now."""
    old, new = _sides(hunk)
    html = dict(zip(old, answer.old, strict=False)) | dict(zip(new, answer.new, strict=False))
    return replace(hunk, lines=[replace(line, html=html.get(line, "")) for line in hunk.lines])
