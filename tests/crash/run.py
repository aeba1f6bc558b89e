"""`make crash`: every point with every seed, on real processes, and a table of what became of it.

    .venv/bin/python -m tests.crash.run --seeds 3
    .venv/bin/python -m tests.crash.run --seeds 1 --points "kill bridge" "dispatch."

A whole run writes its table into docs/reliability.md. What fails leaves its reasons and the ends of the logs in var/crash.
"""

from __future__ import annotations

import argparse
import queue
import re
import shlex
import sys
import threading
import time
import traceback
from pathlib import Path

from tests.crash.cases import Outcome, open_project, run_case
from tests.crash.every import all_points
from tests.crash.points import Point
from tests.crash.report import DOCUMENT, render, write_section
from tests.crash.world import World

FAILURES = Path("var") / "crash"
CASES_PER_STUDIO = 40  # an agent server keeps memory for each directory that it has seen

Work = tuple[int, Point]


def main() -> int:
    """Run what the arguments say; 1 when a promise was broken."""
    options = _arguments()
    points = [point for point in all_points() if not options.points or _wanted(point, options.points)]
    if options.list or not points:
        print("\n".join(point.name for point in points) or "no such point")
        return 0 if points else 2
    seeds = list(range(options.first_seed, options.first_seed + options.seeds))
    work: queue.Queue[Work] = queue.Queue()
    for seed in seeds:
        for point in points:
            work.put((seed, point))
    progress = Progress(work.qsize())
    began = time.monotonic()
    threads = [threading.Thread(target=_work, args=(work, progress)) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    minutes = (time.monotonic() - began) / 60
    command = f'make crash ARGS="{shlex.join(sys.argv[1:])}"' if sys.argv[1:] else "make crash"
    section = render(progress.outcomes, points, seeds, command, minutes)
    print(f"\n{section}")
    whole = len(progress.outcomes) == progress.total
    if options.write or (whole and not options.points):
        write_section(section)
        print(f"The table is in {DOCUMENT}.")
    return 0 if whole and all(outcome.passed for outcome in progress.outcomes) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make crash", description="Kill the studio at every named moment of a turn.")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds each point is run with")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--points", nargs="+", default=[], metavar="WORDS", help="only points whose name has the words")
    parser.add_argument("--jobs", type=int, default=1, help="studios side by side, each about 1.5 GB")
    parser.add_argument("--write", action="store_true", help="write the table although only some points were run")
    parser.add_argument("--list", action="store_true", help="name the points and do nothing")
    return parser.parse_args()


def _wanted(point: Point, words: list[str]) -> bool:
    return any(word in point.name for word in words)


class Progress:
    """Collects outcomes and says how far it is, on one line that is written over."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.outcomes: list[Outcome] = []
        self.began = time.monotonic()
        self._guard = threading.Lock()
        self._live = sys.stdout.isatty()

    def add(self, outcome: Outcome) -> None:
        """Note an outcome."""
        with self._guard:
            self.outcomes.append(outcome)
            done = len(self.outcomes)
            left = (time.monotonic() - self.began) / done * (self.total - done) / 60
            failed = sum(not one.passed for one in self.outcomes)
            said = "ok" if outcome.passed else "FAILED"
            line = f"[{done}/{self.total}, {failed} failed, {left:.0f} min left] {said}: {outcome.point}, seed {outcome.seed}"
            print(
                f"\r\x1b[K{line}" if self._live else line, end="" if self._live and outcome.passed else "\n", flush=True
            )
            for problem in outcome.problems:
                print(f"    {problem.splitlines()[0][:300]}", flush=True)


def _work(work: queue.Queue[Work], progress: Progress) -> None:
    """Take cases from the queue, in studios of its own; one that something went wrong in is not used again."""
    world: World | None = None
    project, used = "", 0
    try:
        while True:
            try:
                seed, point = work.get_nowait()
            except queue.Empty:
                return
            if world is None or used >= CASES_PER_STUDIO:
                _close(world)
                world, used = World(), 0
                world.start()
                world.wait_whole()
                project = open_project(world, "repository")
            outcome = run_case(world, project, point, seed)
            used += 1
            progress.add(outcome)
            if not outcome.passed:
                _keep(world, outcome)
                world.close()
                world = None
    except Exception:
        traceback.print_exc()
    finally:
        _close(world)


def _close(world: World | None) -> None:
    if world is not None:
        world.close()


def _keep(world: World, outcome: Outcome) -> None:
    """Keep what explains a failure."""
    FAILURES.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", f"{outcome.point}-{outcome.seed}").strip("-")
    text = "\n\n".join([*outcome.problems, world.log_tail()])
    (FAILURES / f"{name}.txt").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
