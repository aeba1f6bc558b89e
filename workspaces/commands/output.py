"""A command's output as text: complete characters, no terminal codes, read by a cursor that counts the raw bytes.

Commands write what they like: broken UTF-8, colours, progress bars. A lone carriage return is kept, because it says that the
line is written anew; `folded` does that for readers who want finished lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from studio.kernel.text import clean
from workspaces.commands.files import Stretch, output_total, read_output

READ_BYTES = 64 * 1024
HELD_BYTES = 256  # at most this much is held back until the rest of it is there
# An escape sequence that has not ended yet.
OPEN_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?)?\Z")
REWRITTEN = re.compile(r"[^\n]*\r(?!\n)")


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that stands at the bytes `start` to `next` of the output. `skipped` bytes before it are no longer kept."""

    start: int
    next: int
    total: int
    skipped: int
    text: str

    @property
    def more(self) -> bool:
        """Whether there is more to read now."""
        return self.next < self.total


def read(path: Path, after: int, *, limit: int = READ_BYTES, ended: bool) -> Piece | None:
    """The text that follows byte `after`; None when the output is gone. Never half a character or half a terminal code.

    While the command runs, an end that may go on is left for the next reading.
    """
    found = read_output(path, after, limit, ended=ended)
    if found is None:
        return None
    data = found.data
    if not ended or found.end < found.total:
        data = _complete(data)
    if not data and found.end < found.total and limit < 2 * HELD_BYTES:
        return read(path, after, limit=2 * HELD_BYTES, ended=ended)  # what was asked for is half of something
    return Piece(found.start, found.start + len(data), found.total, max(0, found.start - after), text_of(data))


def read_end(path: Path, size: int, *, ended: bool) -> Piece | None:
    """The last `size` bytes or so, from the beginning of a line where there is one."""
    total = output_total(path)
    found = read_output(path, max(0, total - size), size, ended=ended)
    if found is None:
        return None
    while found.end < found.total and found.data:  # the head's end came between
        rest = read_output(path, found.end, size, ended=ended)
        if rest is None or not rest.data or rest.start != found.end:
            break
        found = Stretch(found.start, found.data + rest.data, rest.total, rest.cut)
    data, start = found.data, found.start
    line = data.find(b"\n") + 1
    if start > 0 and 0 < line < len(data):
        data, start = data[line:], start + line
    data = data if ended else _complete(data)
    return Piece(start, start + len(data), found.total, start, text_of(data))


def text_of(data: bytes) -> str:
    """Bytes of a program as text that every reader accepts."""
    # Line ends first: a terminal code between the two characters would make a difference where it is cut.
    return clean(data.decode("utf-8", "replace").replace("\r\n", "\n"))


def folded(text: str) -> str:
    """`text` with each line as it was when it was last written anew, as a terminal shows a progress bar."""
    return REWRITTEN.sub("", text.replace("\r\n", "\n"))


def _complete(data: bytes) -> bytes:
    """`data` without an end that is half of something; all of it when that end is too long to be."""
    held = len(data)
    tail = data[-HELD_BYTES:]
    escape = OPEN_ESCAPE.search(tail)
    if escape:
        held -= len(tail) - escape.start()
    elif data.endswith(b"\r"):
        held -= 1
    else:
        held -= _half_character(data)
    return data[:held] if held or len(data) <= HELD_BYTES else data


def _half_character(data: bytes) -> int:
    """How many bytes at the end begin a UTF-8 character that is not complete."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte < 0x80:
            return 0
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4 if byte < 0xF5 else 0
            return back if back < needed else 0
    return 0
