"""The table of faults and outcomes, and its place in docs/reliability.md."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

DOCUMENT = Path("docs") / "reliability.md"
BEGIN, END = "<!-- faults: begin; written by make faults -->", "<!-- faults: end -->"
WORDS_SHOWN = 420  # of what a person reads, in each system
VARYING = re.compile(r"[0-9a-f]{8,}")  # names and commits that are others in each run
Absent = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one fault. `said` are the sentences that a person reads; `problem` is empty when all went well."""

    fault: str
    system: str
    outcome: str
    said: list[str]
    problem: str

    @property
    def passed(self) -> bool:
        """Every promise was kept."""
        return not self.problem


def render(outcomes: list[Outcome], command: str, minutes: float, absent: Absent | None = None) -> str:
    """The section: how it was run, the counts, a line for each fault. `absent`: why a system has no such fault, by its name."""
    passed = sum(one.passed for one in outcomes)
    faults = list(dict.fromkeys(one.fault for one in outcomes))
    systems = {one.system: 0 for one in outcomes}
    for one in outcomes:
        systems[one.system] += 1
    counts = ", ".join(f"{number} in {system}" for system, number in systems.items())
    lines = [
        f"`{command}` on {datetime.now(UTC):%Y-%m-%d}: {len(faults)} faults, made {len(outcomes)} times ({counts}): "
        f"**{passed} with a good outcome, {len(outcomes) - passed} without**, in {minutes:.0f} minutes "
        f"({platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}).",
        "",
        "*In jj*: in a repository with a store of its own; colocated with git too, and what became of it there stands beside it "
        "where it differs. *Lost*: whether anything of the person's checkout, of the commits or of the work in the checkout "
        "was, as looked up afterwards.",
        "",
        "| fault | in git | in jj | what a person reads | lost |",
        "|---|---|---|---|---|",
        *[_line(name, [one for one in outcomes if one.fault == name], (absent or {}).get(name, {})) for name in faults],
    ]
    return "\n".join(lines)


def _line(fault: str, outcomes: list[Outcome], absent: Mapping[str, str]) -> str:
    by_system = {one.system: one for one in outcomes}
    in_git = _outcome(by_system.get("git")) or f"not in git{_why(absent, 'git')}"
    cells = [fault, in_git, _in_jj(by_system, in_git, absent), _said(outcomes)]
    lost = "nothing" if all(one.passed for one in outcomes) else "see outcome"
    return f"| {' | '.join(_cell(cell) for cell in (*cells, lost))} |"


def _in_jj(by_system: Mapping[str, Outcome], in_git: str, absent: Mapping[str, str]) -> str:
    own, colocated = (_outcome(by_system.get(system)) for system in ("jj", "jj colocated"))
    if not own and not colocated:
        return f"not in jj{_why(absent, 'jj')}"
    if not own:
        return f"not in a store of its own{_why(absent, 'jj')}. Colocated: {colocated}"
    said = "The same." if own == in_git else own
    return said if colocated in ("", own) else f"{said} Colocated: {colocated}"


def _why(absent: Mapping[str, str], system: str) -> str:
    return f": {absent[system]}" if system in absent else ""


def _outcome(one: Outcome | None) -> str:
    if one is None:
        return ""
    return one.outcome if one.passed else f"**failed**: {one.problem}"


def _said(outcomes: list[Outcome]) -> str:
    """The sentences of git; those of jj that are others, and those of a colocated one that are others again."""
    parts: list[str] = []
    known: set[str] = set()
    for system in ("git", "jj", "jj colocated"):
        fresh: dict[str, str] = {}
        for sentence in (said for one in outcomes if one.system == system for said in one.said):
            if (plain := VARYING.sub("", sentence)) not in known:
                known.add(plain)
                fresh[plain] = sentence
        if not fresh:
            continue
        said = " / ".join(fresh.values())
        shown = said if len(said) <= WORDS_SHOWN else f"{said[:WORDS_SHOWN]} …"
        parts.append(f"{'' if system == 'git' else f'*{system}*: '}{shown}")
    return " ".join(parts)


def _cell(text: str) -> str:
    """One line, without what Markdown would read in it."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;").strip()


def write_section(section: str) -> None:
    """Put the section between its marks in the document."""
    text = DOCUMENT.read_text()
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not marked.search(text):
        raise ValueError(f"{DOCUMENT} has no place for the table")
    DOCUMENT.write_text(marked.sub(lambda _: f"{BEGIN}\n\n{section}\n\n{END}", text))
