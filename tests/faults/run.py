"""`make faults`: every fault on real repositories, and a table of what became of it.

    .venv/bin/python -m tests.faults.run
    .venv/bin/python -m tests.faults.run --faults "disk is full" submodules

A whole run writes its table into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from typing import Any

import pytest

from tests.faults.report import DOCUMENT, Outcome, render, write_section

SECONDS = 1_800  # for one fault: a hundred thousand files on a busy machine


class Collector:
    """Takes the outcomes out of the tests' reports."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.absent: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One test's report."""
        found: dict[str, Any] = dict(report.user_properties)
        if report.when == "call" and "fault" in found:
            self.absent[str(found["fault"])] = dict(found["absent"])
            problem = str(found.get("problem", "")) if report.passed else _reason(report, str(found.get("problem", "")))
            self.outcomes.append(
                Outcome(
                    str(found["fault"]),
                    str(found["system"]),
                    str(found.get("outcome", "")),
                    list(found["said"]),
                    problem,
                )
            )


def _reason(report: pytest.TestReport, known: str) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return known or (crash.message.splitlines()[0] if crash is not None else "it failed")


def main() -> int:
    """Run what the arguments say; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="make faults", description="Make every fault and write down what became of it."
    )
    parser.add_argument("--faults", nargs="+", default=[], metavar="WORDS", help="only faults whose name has the words")
    options = parser.parse_args()
    os.environ["STUDIO_FAULTS"] = "|".join(options.faults) or "all"
    collector = Collector()
    began = time.monotonic()
    arguments = [
        "tests/faults/test_faults.py",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        f"--timeout={SECONDS}",
        "-k",
        "outcome",
    ]
    code = pytest.main(arguments, plugins=[collector])
    command = f'make faults ARGS="{shlex.join(sys.argv[1:])}"' if sys.argv[1:] else "make faults"
    section = render(collector.outcomes, command, (time.monotonic() - began) / 60, collector.absent)
    sys.stdout.write(f"\n{section}\n")
    if collector.outcomes and not options.faults:
        write_section(section)
        sys.stdout.write(f"The table is in {DOCUMENT}.\n")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
