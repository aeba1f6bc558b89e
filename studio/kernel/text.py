"""Text that comes from outside: made storable and cut without breaking a character."""

from __future__ import annotations

import re

ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def clean(value: object) -> str:
    """`value` as text that every database and JSON reader accepts: no NUL, no control codes, no lone surrogates."""
    text = value if isinstance(value, str) else str(value)
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return CONTROL.sub("", ANSI.sub("", text))


def cut(text: str, limit: int, mark: str = "…") -> str:
    """At most `limit` characters of `text`; `mark` ends what was cut."""
    return text if len(text) <= limit else text[: max(0, limit - len(mark))] + mark


def ended(text: str) -> str:
    """`text` with a full stop behind it, unless it ends like a sentence already."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def cut_bytes(text: str, limit: int) -> str:
    """At most `limit` UTF-8 bytes of `text`, never half a character."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= limit else raw[:limit].decode("utf-8", "ignore")
