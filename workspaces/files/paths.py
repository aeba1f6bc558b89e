"""Paths inside a checkout as addresses carry them: any bytes survive, and nothing leads out or into the store."""

from __future__ import annotations

import os
from urllib.parse import parse_qs, quote

from django.http import HttpRequest

from studio.kernel.errors import NotFound
from studio.kernel.text import cut
from workspaces.vcs.base import readable

HIDDEN = frozenset({".git", ".jj"})  # the stores of version control systems, at any depth
LONGEST = 4_096  # bytes of a path
SHOWN = 200  # characters of a name in an error


def parts_of(path: str) -> tuple[str, ...]:
    """The components of a path below the root; none for the root. Raises NotFound for one that no checkout can show."""
    if not path:
        return ()
    parts = tuple(path.split("/"))
    if len(os.fsencode(path)) > LONGEST or any(
        part in ("", ".", "..") or "\0" in part or part.casefold() in HIDDEN for part in parts
    ):
        raise missing(path)
    return parts


def missing(path: str) -> NotFound:
    """The error for a path at which there is nothing to show."""
    return NotFound(f"There is no “{cut(readable(path), SHOWN)}” in this workspace.", code="file_not_found")


def is_hidden(name: str) -> bool:
    """Whether a name in a folder is never shown."""
    return name.casefold() in HIDDEN


def path_of(request: HttpRequest) -> str:
    """The path in a request's query, its bytes kept; empty when there is none. Slashes at its ends are dropped."""
    try:
        query = parse_qs(request.META.get("QUERY_STRING", ""), errors="surrogateescape", max_num_fields=50)
    except ValueError:
        return ""
    found: str = query.get("path", [""])[0]
    try:
        os.fsencode(found)
    except UnicodeEncodeError:
        return readable(found)
    return found.strip("/")


def quoted(path: str) -> str:
    """The path for an address, its bytes percent-encoded."""
    return quote(os.fsencode(path))
