"""Unseen characters of code as badges that say their codes. The character stays inside, so that what is copied is the text."""

from __future__ import annotations

import re
from itertools import count

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from studio.kernel.unseen import UNSEEN, code

BADGES = 40  # of one line: a line of nothing else would become a hundred times as long
NAMED = 6  # characters that one badge names
REPLACED = "�"
RUN = re.compile(f"{UNSEEN.pattern}+")


def badged(html: str) -> SafeString:
    """A line of HTML, whose tags have no unseen characters, with a badge around each run of those in its text.

    Behind the first BADGES runs each becomes a replacement character.
    """
    number = count()
    return mark_safe(RUN.sub(lambda run: _badge(run[0]) if next(number) < BADGES else REPLACED, html))  # noqa: S308 -- nothing but badges comes to it


def shown(text: str) -> SafeString:
    """Lines of text as HTML, with badges."""
    return mark_safe("\n".join(badged(escape(line)) for line in text.split("\n")))  # noqa: S308 -- each is escaped


def _badge(run: str) -> str:
    more = f" +{len(run) - NAMED}" if len(run) > NAMED else ""
    said = " ".join(code(one) for one in run[:NAMED]) + more
    return f'<span class="unseen" data-code="{said}"><bdi>{run}</bdi></span>'
