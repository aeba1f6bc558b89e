"""Faults by name. A case makes its fault for real, watches what the studio does, and returns what became of it in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.faults.scene import Scene

Play = Callable[[Scene], str]

GIT = ("git",)
JJ = ("jj", "jj colocated")
COLOCATED = ("jj colocated",)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `fast`: the systems in which the ordinary suite makes it too; `absent`: why there is none in a system."""

    name: str
    play: Play
    fast: tuple[str, ...]
    systems: tuple[str, ...]
    threads: bool
    absent: Mapping[str, str] = field(default_factory=dict)


FAULTS: list[Fault] = []


def fault(
    name: str,
    *,
    fast: tuple[str, ...] = (),
    systems: tuple[str, ...] = GIT + JJ,
    threads: bool = False,
    absent: Mapping[str, str] | None = None,
) -> Callable[[Play], Play]:
    """Enter a case into the table."""

    def enter(play: Play) -> Play:
        FAULTS.append(Fault(name, play, fast, systems, threads, absent or {}))
        return play

    return enter
