"""The table of faults and outcomes, and its place in docs/reliability.md."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

DOCUMENT = Path("docs") / "reliability.md"
BEGIN, END = "<!-- faults: begin; written by make faults -->", "<!-- faults: end -->"
WORDS_SHOWN = 420  # of what a person reads


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


def render(outcomes: list[Outcome], command: str, minutes: float) -> str:
    """The section: how it was run, the counts, a line for each fault."""
    passed = sum(one.passed for one in outcomes)
    lines = [
        f"`{command}` on {datetime.now(UTC):%Y-%m-%d}: {len(outcomes)} faults, **{passed} with a good outcome, "
        f"{len(outcomes) - passed} without**, in {minutes:.0f} minutes ({platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}).",
        "",
        "*Lost*: whether anything of the person's checkout, of the commits or of the work in the checkout was, as looked up "
        "afterwards.",
        "",
        "| fault | in | outcome | what a person reads | lost |",
        "|---|---|---|---|---|",
        *[_line(one) for one in outcomes],
    ]
    return "\n".join(lines)


def _line(one: Outcome) -> str:
    outcome = one.outcome if one.passed else f"**failed**: {one.problem}"
    said = " / ".join(dict.fromkeys(one.said))
    shown = said if len(said) <= WORDS_SHOWN else f"{said[:WORDS_SHOWN]} …"
    cells = (one.fault, one.system, outcome, shown, "nothing" if one.passed else "see outcome")
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


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
