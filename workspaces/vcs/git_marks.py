"""Lines of a conflict that a change adds: found in its diff, as git and jj write them. Nothing is touched."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

from workspaces.vcs.base import readable
from workspaces.vcs.git_changes import BIG_FILE, OPTIONS, compare, scratch_index
from workspaces.vcs.git_command import LONG_TIMEOUT, git

# A mark has seven signs or more: both systems write longer ones where a file has such lines already. jj may put `%` or `+`
# before a side where git has one row of `=` between them.
MARK = re.compile(rb"^([ +])(<{7,}|\|{7,}|={7,}|%{7,}|\+{7,}|>{7,})(?=[ \t\r\n]|\Z)", re.MULTILINE)
ALONE = b"<>|%"  # the signs of a mark that no text has for a heading
LOOK = "-G^[<>|%]{7}"  # git names the files of which a line that was added or taken away begins like this
WHOLE = "-U1000000"  # with the lines around: a mark may stand in the base already


def marked_files(checkout: Path, base: str, head: str = "", *, known: Container[str] = ()) -> list[str]:
    """The files to which the checkout, or the range up to `head`, adds a conflict that nobody has resolved.

    Of those in `known` (readable names) one line of it is enough. Binary files and those that are too large to be compared
    are passed over.
    """
    if head:
        return marked(checkout, ["diff-tree", "-r"], [base, head], {}, known)
    with scratch_index(checkout) as (env, _):
        return marked(checkout, ["diff-index"], [base], env, known)


def marked(
    checkout: Path, command: list[str], sides: list[str], env: dict[str, str], known: Container[str]
) -> list[str]:
    """The same for what a diff `command` of git finds. One process, and a second one where there is something to look at."""
    look = ("-c", BIG_FILE, *command, *OPTIONS, "--name-only", "-z", LOOK, *sides)
    if not git(checkout, *look, env=env, timeout=LONG_TIMEOUT).stdout:
        return []
    found = compare(checkout, [*command, LOOK, WHOLE, *sides], env, "", "", [], "", True)
    # What is missing of patches that are too long altogether has lines of the kind that was looked for.
    return [
        file.path
        for file in found.files
        if file.patch is None or adds_conflict(file.patch, alone=readable(file.path) in known)
    ]


def adds_conflict(patch: bytes, *, alone: bool = False) -> bool:
    """Whether a file's patch, with all its lines, makes a conflict of a beginning, a middle and an end, or adds to one.

    `alone`: one mark that is added is enough.
    """
    begun, middle, added = 0, False, False
    for found in MARK.finditer(patch):
        new, mark = found[1] == b"+", found[2]
        if alone and new and mark[:1] in ALONE:
            return True
        if mark.startswith(b"<"):
            begun, middle, added = len(mark), False, new
        elif len(mark) == begun:
            added = added or new
            if not mark.startswith(b">"):
                middle = middle or not mark.startswith(b"|")
            elif middle and added:
                return True
            else:
                begun = 0
    return False
