"""What can be done about errors of the outside that people meet, beside the outside's own words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from studio.kernel.errors import Upstream
from studio.kernel.text import clean


@dataclass(frozen=True, slots=True)
class Remedy:
    """A next step; `passes`: trying again later may help without anybody doing anything more."""

    words: str
    passes: bool


FULL = Remedy("The disk is full: make room on it, then try again. Nothing was lost.", passes=True)
KNOWN = (
    (re.compile(r"No space left|Out of diskspace|Disk quota exceeded|File too large"), FULL),
    (
        re.compile(r"(smudge|clean|process) filter|external filter|filter '.*' (failed|failure)"),
        Remedy(
            "The repository's settings ask for a filter program that does not work here (git-lfs, perhaps): install it for the "
            "account that runs the studio, then try again.",
            passes=False,
        ),
    ),
    (
        re.compile(r"'refs/heads/.*' exists; cannot create"),
        Remedy(
            "That branch's name is in the way of the new one's: rename it (git branch -m), then try again.",
            passes=False,
        ),
    ),
    (
        re.compile(r"[Pp]ermission denied|Read-only file system"),
        Remedy(
            "The account that runs the studio may not write there: give it the right to, then try again.", passes=False
        ),
    ),
)


def remedy_for(said: str) -> Remedy | None:
    """What can be done about an error with these words, if that is known."""
    return next((remedy for pattern, remedy in KNOWN if pattern.search(said)), None)


def in_words(error: OSError) -> Upstream:
    """An error of the operating system as a sentence, with a next step where one is known."""
    what = error.strerror or type(error).__name__
    place = f" ({clean(error.filename)})" if error.filename else ""
    remedy = remedy_for(what)
    words = f"{what}{place}. {remedy.words}" if remedy else f"{what}{place}. Nothing was lost; try again."
    return Upstream(words, transient=remedy is None or remedy.passes)
