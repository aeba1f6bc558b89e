"""Syntax highlighting with a hard end. A lexer is a set of regular expressions, and a hostile text can keep one busy for ever:
in this process that would stop every page, so it runs in one of its own, which is ended when its time is over.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

from django.utils.safestring import SafeString

from workspaces.colours.badges import badged, shown
from workspaces.process import ProcessError, run

PROGRAM = Path(__file__).with_name("painter.py")
SECONDS = 10.0  # a busy machine may take long to begin; the program itself ends after three seconds of work
HTML_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that stand together, before and after a change; a text that is only shown is all new.

    `pairs` are the numbers of an old and a new line of which the second took the place of the first.
    """

    name: str  # of the file, which says the language
    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Painted:
    """The lines of a block as HTML, with badges, and their language; empty where there is none for the name, or where there was no time."""

    language: str
    old: list[SafeString]
    new: list[SafeString]


def painted(blocks: Sequence[Block], *, limit: int) -> list[Painted]:
    """The blocks as HTML. Those beyond the first `limit` bytes of text, and those there is no time for, are only escaped."""
    wanted, room = [], limit
    for block in blocks:
        room -= sum(len(line.encode("utf-8", "replace")) + 1 for side in (block.old, block.new) for line in side)
        if room < 0:
            break
        wanted.append(block)
    given = [*(_asked(wanted) if any(block.old or block.new for block in wanted) else ()), *(None for _ in blocks)]
    return [_checked(block, answer) for block, answer in zip(blocks, given, strict=False)]


def _asked(blocks: list[Block]) -> list[object]:
    """What the program says of the blocks, in their order; it may have been ended before the last."""
    argv, text = [sys.executable, "-I", str(PROGRAM)], json.dumps([astuple(block) for block in blocks]).encode()
    try:
        done = run(argv, cwd=PROGRAM.parent, timeout=SECONDS, input=text, max_output=HTML_BYTES, stop_at_limit=True)
    except ProcessError:
        return []
    return [json.loads(line) for line in done.stdout.split(b"\n")[:-1]]


def _checked(block: Block, answer: object) -> Painted:
    match answer:
        case [str(language), [*old], [*new]] if len(old) == len(block.old) and len(new) == len(block.new):
            return Painted(language, *([badged(str(line)) for line in side] for side in (old, new)))
    return Painted("", *([shown(line) for line in side] for side in (block.old, block.new)))
