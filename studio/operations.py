"""What an operator sees first: figures that the apps report for the admin's front page.

An app registers a function in its admin.py; this module knows no app.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line: how many of something there are, and where to look. `alarm` when somebody should."""

    label: str
    value: int | str
    url: str
    alarm: bool = False
    note: str = ""


_sources: dict[str, Callable[[], Iterable[Figure]]] = {}


def register(name: str, source: Callable[[], Iterable[Figure]]) -> None:
    """Make the figures of `source` known under the heading `name`. Registering it again replaces it."""
    _sources[name] = source


def figures() -> list[tuple[str, list[Figure]]]:
    """All figures now, by heading."""
    return [(name, list(source())) for name, source in _sources.items()]
