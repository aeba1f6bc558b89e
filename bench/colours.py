"""What the colours of a change cost, against the same change without them: time, processor and the size of the page.

    .venv/bin/python -m bench.colours

The lines are those of this repository, with one word in every third changed. No studio runs: what is measured is the painting
(a program of its own, started for each page) and the template.
"""

from __future__ import annotations

import difflib
import os
import random
import re
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TIMES = 7
CHANGED = 0.33  # the part of the lines that is another
LINES = 75  # of a file


def main() -> None:
    """Print a table."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    source = [
        line for path in sorted(ROOT.glob("workspaces/**/*.py")) for line in path.read_text().splitlines(keepends=True)
    ]
    print("| change | lines | painting ms | of it CPU, ms | template ms, plain | coloured | kB, plain | coloured |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    row("a new file", [changed_file([], source[:5000])])
    for count in (50, 25, 1):
        pieces = [source[n * LINES : (n + 1) * LINES] for n in range(count)]
        row(f"{count} changed file{'s' if count > 1 else ''}", [changed_file(old, mutated(old)) for old in pieces])


def mutated(lines: list[str]) -> list[str]:
    """The lines with one word changed in some of them; the same ones each time."""
    chance = random.Random(len(lines))
    found = []
    for line in lines:
        words = re.findall(r"\w+|\W+", line)
        if chance.random() < CHANGED and (names := [n for n, word in enumerate(words) if word.isidentifier()]):
            words[chance.choice(names)] += "_new"
        found.append("".join(words))
    return found


def changed_file(old: list[str], new: list[str]) -> Any:
    """One file of a change, as the page has it."""
    from workspaces.diff import FileDiff, with_lines

    patch = "".join(difflib.unified_diff(old, new)).split("\n", 2)[2]
    return with_lines(
        FileDiff("id", "a.py", "a.py", "modified", "", "", 0, 0, binary=False), f"diff --git a b\n{patch}".encode()
    )


def row(name: str, files: list[Any]) -> None:
    """Measure one change and print it."""
    from workspaces.diff_colours import coloured

    painted, painting, processor = measured(lambda: coloured(files))
    plain_size, plain, _ = measured(lambda: rendered(files))
    size, template, _ = measured(lambda: rendered(painted))
    lines = sum(len(hunk.lines) for file in files for hunk in file.hunks)
    figures = [painting, processor, plain, template]
    cells = [f"{lines:,}", *(f"{1000 * one:.0f}" for one in figures), f"{plain_size / 1000:.0f}", f"{size / 1000:.0f}"]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def rendered(files: list[Any]) -> int:
    """The bytes of the lines on the page."""
    from django.template.loader import render_to_string

    look = SimpleNamespace(split=False, hide_space=False)
    return sum(
        len(render_to_string("workspaces/_diff_lines.html", {"f": file, "look": look}).encode()) for file in files
    )


def measured(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What `work` returns, and the medians of the clock's seconds and the processor's, child processes included."""
    clock, processor = [], []
    for _ in range(TIMES):
        began, used = time.perf_counter(), spent()
        result = work()
        clock.append(time.perf_counter() - began)
        processor.append(spent() - used)
    return result, statistics.median(clock), statistics.median(processor)


def spent() -> float:
    """Seconds of processor that this process and its ended children have used."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main()
