"""The table of points and outcomes, and its place in docs/reliability.md."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from tests.crash.cases import Outcome
from tests.crash.points import Point

DOCUMENT = Path("docs") / "reliability.md"
BEGIN, END = "<!-- crash: begin; written by make crash -->", "<!-- crash: end -->"


def render(outcomes: list[Outcome], points: list[Point], seeds: list[int], command: str, minutes: float) -> str:
    """The section: how it was run, the counts, a line for each point."""
    by_point: dict[str, dict[int, Outcome]] = defaultdict(dict)
    for outcome in outcomes:
        by_point[outcome.point][outcome.seed] = outcome
    passed = sum(outcome.passed for outcome in outcomes)
    lines = [
        f"`{command}` on {datetime.now(UTC):%Y-%m-%d}: {len(points)} points, {len(seeds)} seeds, {len(outcomes)} runs,"
        f" **{passed} passed, {len(outcomes) - passed} failed**, in {minutes:.0f} minutes"
        f" ({platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}).",
        "",
        "*After*: seconds from the end of the fault until the task was in review, the median of the seeds. *Silence*: the"
        " longest time after the fault in which nothing was written about the task, the worst of the seeds.",
        "",
        f"| point | {' | '.join(f'seed {seed}' for seed in seeds)} | after | silence |",
        f"|---|{'---|' * len(seeds)}---:|---:|",
        *[_line(point.name, by_point[point.name], seeds) for point in points],
    ]
    return "\n".join(lines)


def _line(name: str, found: dict[int, Outcome], seeds: list[int]) -> str:
    cells = ["not run" if seed not in found else "ok" if found[seed].passed else "**failed**" for seed in seeds]
    good = [outcome for outcome in found.values() if outcome.passed]
    after = f"{statistics.median(one.after for one in good):.1f}" if good else ""
    silence = f"{max(one.silence for one in good):.1f}" if good else ""
    notes = "; ".join(dict.fromkeys(outcome.note for outcome in good if outcome.note))
    name = f"{name} ({notes})" if notes else name
    return f"| {name} | {' | '.join(cells)} | {after} | {silence} |"


def write_section(section: str) -> None:
    """Put the section between its marks in the document."""
    text = DOCUMENT.read_text()
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not marked.search(text):
        raise ValueError(f"{DOCUMENT} has no place for the table")
    DOCUMENT.write_text(marked.sub(lambda _: f"{BEGIN}\n\n{section}\n\n{END}", text))
