"""Reading what forges answer: any field may be missing, of another type, or hostile."""

from __future__ import annotations

from typing import Any

from studio.kernel.text import clean, cut

NAME_LIMIT = 200
URL_LIMIT = 1_000
BODY_LIMIT = 20_000
LARGEST = 2**31 - 1


def part(value: Any, *path: str) -> Any:
    """What `path` leads to inside nested objects; None when it leads nowhere."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(value: Any, *path: str, limit: int = NAME_LIMIT) -> str:
    """A text, cleaned and bounded; empty for anything else."""
    found = part(value, *path)
    return cut(clean(found).replace("\r\n", "\n"), limit) if isinstance(found, str) else ""


def line(value: Any, *path: str, limit: int = NAME_LIMIT) -> str:
    """A text on one line."""
    return " ".join(text(value, *path, limit=limit).split())


def number(value: Any, *path: str) -> int:
    """A whole number from 0; 0 for anything else."""
    found = part(value, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= LARGEST else 0


def identity(value: Any, *path: str) -> str:
    """An id, which may be larger than what a column of numbers takes."""
    found = part(value, *path)
    return str(found) if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else ""


def url(value: Any, *path: str) -> str:
    """An http address; empty for anything else, so that no other scheme becomes a link."""
    found = text(value, *path, limit=URL_LIMIT)
    return found if found.startswith(("https://", "http://")) and found.isprintable() and " " not in found else ""


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; empty for anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def names(value: Any, key: str) -> tuple[str, ...]:
    """One text of each object of a list."""
    return tuple(found for found in (line(one, key) for one in objects(value)) if found)
