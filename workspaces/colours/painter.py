"""Colours texts and marks what changed within their lines: a program of its own, see paint.py.

    python -I painter.py <blocks

Reads a JSON list of blocks, `[name, old lines, new lines, pairs]`; a pair is the numbers of an old and a new line that stand
for each other. Writes a JSON line for each as soon as it is done, `[language, old lines, new lines]`: the lines are HTML with
whole tags, and say what they were given and nothing else. A block that takes too long loses its colours, then its marks.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from difflib import SequenceMatcher
from html import escape
from itertools import pairwise
from types import FrameType
from typing import Any, TypeVar

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_for_filename
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

CPU_SECONDS = 3  # for all blocks
MEMORY = 512 * 1024 * 1024
LEXER_SECONDS = 1.0  # for the colours of one block
WORD_SECONDS = 0.25  # for the marks of one block

WORD = re.compile(r"\w+|\s+|.")
WORD_CHARACTERS = 500  # a longer line is not compared word by word
WORDS = 80  # words of a side behind the common beginning and before the common end; with more all of it is marked
ALIKE = 0.4  # the part of a line that must have stayed: lines that have little in common are no pair

# What ends a comment or a text over several lines, at the end of its line, and how such a one begins.
CLOSED = ((re.compile(r"\*/\s*$", re.MULTILINE), "/*"), (re.compile(r"-->\s*$", re.MULTILINE), "<!--"))
QUOTES = ('"""', "'''")
HEADING = re.compile(r"(^|[:=(\[{,])\s*$")  # a line after which a text may begin

UNCOLOURED = frozenset({"", "n", "nx", "p", "o", "w", "x", "err", "g"})

T = TypeVar("T")
Piece = tuple[str, str]  # the short name of its kind, the text
Span = tuple[int, int]


class Late(BaseException):
    """The time of a block is over."""


def main() -> int:
    """Paint the blocks; the exit status."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    lexers: dict[str, Lexer | None] = {}
    for block in json.load(sys.stdin):
        sys.stdout.write(json.dumps(painted(lexers, *block)) + "\n")
        sys.stdout.flush()
    return 0


def painted(
    lexers: dict[str, Lexer | None], name: str, old: list[str], new: list[str], pairs: list[Span]
) -> tuple[str, list[str], list[str]]:
    """The language, and both sides as HTML. `lexers` keeps the choice for each name, so that a file has one."""
    sides = within(LEXER_SECONDS, lambda: [pieces(_lexer(lexers, name, old or new), side) for side in (old, new)])
    marks = within(WORD_SECONDS, lambda: [compared(old[i], new[j]) for i, j in pairs])
    olds, news = sides or [[[("", line)] for line in side] for side in (old, new)]
    marked_old: dict[int, list[Span]] = {}
    marked_new: dict[int, list[Span]] = {}
    for (i, j), (left, right) in zip(pairs, marks or [], strict=False):
        marked_old[i], marked_new[j] = left, right
    lexer = lexers.get(name) if sides else None
    return (
        lexer.name if lexer else "",
        [html(row, marked_old.get(number, [])) for number, row in enumerate(olds)],
        [html(row, marked_new.get(number, [])) for number, row in enumerate(news)],
    )


def _late(_signal: int, _frame: FrameType | None) -> None:
    raise Late


def within(seconds: float, work: Callable[[], T]) -> T | None:
    """What `work` returns; None when it needs more processor time than that."""
    before = signal.signal(signal.SIGPROF, _late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return work()
    except Late:
        return None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _lexer(lexers: dict[str, Lexer | None], name: str, lines: list[str]) -> Lexer | None:
    if name not in lexers:
        lexers[name] = None  # for when this takes too long
        with suppress(ClassNotFound):
            lexers[name] = get_lexer_for_filename(name, "\n".join(lines), stripnl=False, ensurenl=False)
    return lexers[name]


def pieces(lexer: Lexer | None, lines: list[str]) -> list[list[Piece]]:
    """The lines in pieces of one kind each; in one piece where there is no lexer, or it tells another text."""
    above = opened_above(lines)
    rows: list[list[Piece]] = [[]]
    for kind, value in lexer.get_tokens("\n".join([*above, *lines])) if lexer and lines else ():
        name = _short(kind)
        first, *rest = value.split("\n")
        _add(rows[-1], name, first)
        for text in rest:
            rows.append([])
            _add(rows[-1], name, text)
    rows = rows[len(above) : len(above) + len(lines)]
    same = ["".join(text for _, text in row) for row in rows] == lines
    return rows if same else [[("", line)] for line in lines]


def opened_above(lines: list[str]) -> list[str]:
    """What to read before lines out of the middle of a file: the beginning of a comment or text that only ends in them."""
    text = "\n".join(lines)
    for end, begin in CLOSED:
        if (found := end.search(text)) and begin not in text[: found.end()]:
            return [begin]
    for quotes in QUOTES:
        first = next((n for n, line in enumerate(lines) if quotes in line), None)
        if first is None or text.count(quotes) % 2 == 0:
            continue
        before, _, behind = lines[first].partition(quotes)
        heading = before if before.strip() else next((line for line in lines[first - 1 :: -1] if line.strip()), "")
        if first and not behind.strip() and not HEADING.search(heading):
            return [quotes]
    return []


def _add(row: list[Piece], name: str, text: str) -> None:
    if row and row[-1][0] == name:
        row[-1] = (name, row[-1][1] + text)
    elif text:
        row.append((name, text))


def _short(kind: Any) -> str:
    while kind not in STANDARD_TYPES:
        kind = kind.parent
    name = STANDARD_TYPES[kind]
    return "" if name in UNCOLOURED else name


def compared(old: str, new: str) -> tuple[list[Span], list[Span]]:
    """What is not the same in two lines, as (from, to) in each; nothing where they are too different to be compared."""
    if max(len(old), len(new)) > WORD_CHARACTERS:
        return [], []
    a, b = WORD.findall(old), WORD.findall(new)
    head = _common(a, b)
    tail = _common(a[head:][::-1], b[head:][::-1])
    a_end, b_end = len(a) - tail, len(b) - tail
    if max(a_end, b_end) - head > WORDS:
        changes = [(head, a_end, head, b_end)]
    else:
        matcher = SequenceMatcher(None, a[head:a_end], b[head:b_end], autojunk=False)
        changes = [
            (head + i1, head + i2, head + j1, head + j2)
            for kind, i1, i2, j1, j2 in matcher.get_opcodes()
            if kind != "equal"
        ]
    left = _spans(a, [(i1, i2) for i1, i2, _, _ in changes])
    right = _spans(b, [(j1, j2) for _, _, j1, j2 in changes])
    return (left, right) if _alike(old, left) and _alike(new, right) else ([], [])


def _common(a: list[str], b: list[str]) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _spans(words: list[str], changes: list[Span]) -> list[Span]:
    """The changes as places in the text. Two with only white space between them are one."""
    places = [0]
    for word in words:
        places.append(places[-1] + len(word))
    text = "".join(words)
    spans: list[Span] = []
    for begin, end in ((places[i], places[j]) for i, j in changes if i < j):
        if spans and text[spans[-1][1] : begin].isspace():
            begin = spans.pop()[0]
        spans.append((begin, end))
    return spans


def _alike(text: str, spans: list[Span]) -> bool:
    ends = [0, *(place for span in spans for place in span), len(text)]
    stayed = "".join(text[i:j] for n, (i, j) in enumerate(pairwise(ends)) if n % 2 == 0)
    return len("".join(stayed.split())) >= ALIKE * len("".join(text.split()))


def html(row: list[Piece], marks: list[Span]) -> str:
    """One line. A piece that a mark begins or ends in is divided, so that tags stand within each other."""
    edges = sorted({place for mark in marks for place in mark})
    found, at = [], 0
    for name, text in row:
        begin = at
        for end in [*(edge for edge in edges if at < edge < at + len(text)), at + len(text)]:
            marked = any(i <= begin < j for i, j in marks)
            inner = escape(text[begin - at : end - at], quote=False)
            inner = f'<span class="p-{name}">{inner}</span>' if name else inner
            found.append((marked, inner))
            begin = end
        at += len(text)
    return _joined(found)


def _joined(found: list[tuple[bool, str]]) -> str:
    text, open_mark = "", False
    for marked, inner in found:
        if marked != open_mark:
            text += "<mark>" if marked else "</mark>"
            open_mark = marked
        text += inner
    return text + ("</mark>" if open_mark else "")


if __name__ == "__main__":
    sys.exit(main())
