"""What can be done about errors of the outside that people meet, beside the outside's own words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from studio.kernel.errors import Upstream
from studio.kernel.text import clean, ended


@dataclass(frozen=True, slots=True)
class Remedy:
    """A next step; `passes`: trying again later may help without anybody doing anything more."""

    words: str
    passes: bool


Known = tuple[tuple[re.Pattern[str], Remedy], ...]  # the first that fits the words counts

FULL = Remedy("The disk is full: make room on it, then try again. Nothing was lost.", passes=True)
KNOWN: Known = (
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
        re.compile(r"repository appears broken or inaccessible"),
        Remedy(
            "The store with the commits is not where jj looks for it: bring it back (a disk that is not mounted, a folder that "
            "was moved), then try again. Nothing was changed.",
            passes=True,
        ),
    ),
    (
        re.compile(r"Failed to load an operation|operation heads store|of type (operation|view)"),
        Remedy(
            "jj cannot read its operation log, perhaps since a power cut or a full disk. The commits are in the git store, "
            "and nothing was changed: put .jj/repo back from a backup, then try again.",
            passes=True,
        ),
    ),
    (
        re.compile(r"lockfile at \".*\" might need manual deletion"),
        Remedy(
            "Another git command is at work in the repository, or one was killed and left that file behind: wait for it, or "
            "delete the file when no git runs there; then try again. Nothing was moved.",
            passes=True,
        ),
    ),
    (
        re.compile(r"[Pp]ermission denied|Read-only file system"),
        Remedy(
            "The account that runs the studio may not write there: give it the right to, then try again.", passes=False
        ),
    ),
)


def remedy_for(said: str, known: Known = KNOWN) -> Remedy | None:
    """What can be done about an error with these words, if that is known."""
    return next((remedy for pattern, remedy in known if pattern.search(said)), None)


def failed(command: str, said: str) -> str:
    """A command's own words as a sentence, and what can be done about it where that is known."""
    remedy = remedy_for(said)
    words = ended(f"{command} failed: {said}")
    return f"{words} {remedy.words}" if remedy else words


def in_words(error: OSError) -> Upstream:
    """An error of the operating system as a sentence, with a next step where one is known."""
    what = error.strerror or type(error).__name__
    place = f" ({clean(error.filename)})" if error.filename else ""
    remedy = remedy_for(what)
    words = f"{what}{place}. {remedy.words}" if remedy else f"{what}{place}. Nothing was lost; try again."
    return Upstream(words, transient=remedy is None or remedy.passes)
