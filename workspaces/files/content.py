"""One file as it is shown: lines with colours, or a word about why there are none."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.utils.safestring import SafeString

from studio.kernel.text import cut
from studio.kernel.unseen import codes, spelled, warning
from workspaces.colours.paint import Block, painted
from workspaces.files.placed import TO_OWNERS, WITHHELD
from workspaces.files.source import Source
from workspaces.vcs.base import readable
from workspaces.vcs.reading import Entry

VIEW_BYTES = 2 * 1024 * 1024  # a larger file is named and not shown
IMAGE_BYTES = 8 * 1024 * 1024
LINES = 10_000
LINE_CHARACTERS = 2_000
COLOURED_BYTES = 256 * 1024  # a longer text is shown without colours
SNIFFED = 8_000  # bytes in which a NUL makes a file binary, as git has it

# How the images begin that are shown. Vector images are text here: they can hold scripts.
IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page says of one path. `kind`: text, image, binary, large, withheld, or the entry's own when it is no file.

    `lines` are of a text, as HTML; `cut` says that the last ones, or the ends of long ones, are left out. `warning` is of
    characters that cannot be seen.
    """

    entry: Entry
    kind: str
    lines: list[SafeString] = field(default_factory=list)
    cut: bool = False
    language: str = ""
    notes: list[str] = field(default_factory=list)
    warning: str = ""


def shown(source: Source, path: str) -> Shown:
    """What there is at `path`, prepared for a page. Raises NotFound."""
    entry, raw, kind, said = _looked_at(source, path)
    if raw is None or kind != "text":
        return Shown(entry, kind, notes=said)
    lines, short, notes, unseen = _lines(raw)
    (one,) = painted([Block(readable(entry.name), new=lines)], limit=COLOURED_BYTES)
    return Shown(entry, kind, one.new, short, one.language, said + notes, unseen)


def plain_text(source: Source, path: str) -> tuple[Shown, str]:
    """What there is at `path` for a program, and its text: cleaned, without colours. Raises NotFound."""
    entry, raw, kind, said = _looked_at(source, path)
    if raw is None or kind != "text":
        return Shown(entry, kind, notes=said), ""
    lines, short, notes, unseen = _lines(raw)
    notes = [*said, *notes, *([unseen] if unseen else [])]
    return Shown(entry, kind, cut=short, notes=notes), "\n".join(lines)


def _looked_at(source: Source, path: str) -> tuple[Entry, bytes | None, str, list[str]]:
    """The entry, what its file begins with, its kind, and what to say of one that the project's setup placed there."""
    entry = source.entry(path)
    if entry.kind == "file" and source.placed.withholds(path):
        return entry, None, "withheld", [WITHHELD]
    raw = _read(source, entry)
    said = [TO_OWNERS] if raw is not None and path in source.placed else []
    return entry, raw, entry.kind if raw is None else _kind(entry, raw), said


def _read(source: Source, entry: Entry) -> bytes | None:
    """What a file begins with; None for anything but a plain file."""
    if entry.kind != "file":
        return None
    large = (entry.size or 0) > VIEW_BYTES
    raw = bytearray()
    with source.content(entry.path) as pieces:
        for piece in pieces:
            raw += piece
            if large or len(raw) > VIEW_BYTES:
                break
    return bytes(raw)


def _kind(entry: Entry, raw: bytes) -> str:
    size = max(entry.size or 0, len(raw))
    if image_type(raw) and size <= IMAGE_BYTES:
        return "image"
    if b"\0" in raw[:SNIFFED]:
        return "binary"
    return "large" if size > VIEW_BYTES else "text"


def image_type(raw: bytes) -> str:
    """The content type of an image that browsers show safely, by how it begins; empty for anything else."""
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for begin, kind in IMAGES if raw.startswith(begin)), "")


def _lines(raw: bytes) -> tuple[list[str], bool, list[str], str]:
    """The lines, whether some of it is left out, what else to say of the file, and a warning of what cannot be seen."""
    notes = []
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "replace")
        notes.append("It is not UTF-8: what could not be read is shown as �.")
    if "\r\n" in text:
        notes.append("Its lines end in the Windows way (CRLF).")
    rows = text.removesuffix("\n").split("\n") if text else []
    whole = len(rows) <= LINES and all(len(row) <= LINE_CHARACTERS for row in rows)
    lines = [cut(spelled(row.removesuffix("\r")), LINE_CHARACTERS) for row in rows[:LINES]]
    return lines, not whole, notes, warning(codes([text]))
