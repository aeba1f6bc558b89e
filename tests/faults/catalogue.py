"""Faults by name. A case makes its fault for real, watches what the studio does, and returns what became of it in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.scene import Scene

Play = Callable[[Scene], str]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `fast`: it is made in the ordinary suite too."""

    name: str
    play: Play
    fast: bool
    systems: tuple[str, ...]
    threads: bool


FAULTS: list[Fault] = []


def fault(
    name: str, *, fast: bool = False, systems: tuple[str, ...] = ("git",), threads: bool = False
) -> Callable[[Play], Play]:
    """Enter a case into the table."""

    def enter(play: Play) -> Play:
        FAULTS.append(Fault(name, play, fast, systems, threads))
        return play

    return enter
