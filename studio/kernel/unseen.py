"""Characters that nobody sees, or that reorder what stands beside them: with them a text reads otherwise than programs take it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from studio.kernel.text import clean

CODES_NAMED = 12

# The controls of C1, soft hyphen, joiners and fillers, everything that sets a direction, line and paragraph separators,
# the byte order mark, and tags.
UNSEEN = re.compile(
    "[\x80-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
ESCAPED = re.compile(f"[\x00-\x1f\x7f]|{UNSEEN.pattern}")
# What `clean` takes out has a picture of its own each; a tab and the end of a line stay.
PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {0x7F: 0x2421}


def code(character: str) -> str:
    """A character's code as people write it: U+202E."""
    return f"U+{ord(character):04X}"


def codes(texts: Iterable[str]) -> list[str]:
    """The codes of the unseen characters in the texts, each once, in their order."""
    return [code(one) for one in sorted({one for text in texts for one in UNSEEN.findall(text)})]


def warning(found: list[str]) -> str:
    """What to say of a file that has unseen characters of these codes; empty for none."""
    if not found:
        return ""
    more = f" and {len(found) - CODES_NAMED} more" if len(found) > CODES_NAMED else ""
    named = ", ".join(found[:CODES_NAMED]) + more
    return f"This file has characters that cannot be seen or change the direction of text: {named}."


def escaped(name: str) -> str:
    r"""`name` with an escape such as \u202e or \n in the place of each unseen character and control code."""
    return ESCAPED.sub(lambda found: ascii(found[0])[1:-1], name)


def legible(text: str) -> str:
    r"""`text` of several lines with an escape such as \u202e in the place of each unseen character."""
    return UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def spelled(text: str) -> str:
    """Code as every database and JSON reader accepts it, with nothing left out: control codes become their pictures (␛, ␍).

    `clean` would take what looks like a terminal's colours away, and with it whatever a line has behind such a beginning.
    """
    return clean(text.translate(PICTURES))
