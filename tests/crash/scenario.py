"""The task of a case: a script whose steps can be counted from outside, varied by the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tests.e2e.scripts import APPROVE, bash, script, write

PHASES = ("planning", "implementation", "review")
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "the",
    "lazy",
    "dog",
    "while",
    "nobody",
    "looks",
    "at",
    "the",
    "long",
    "river",
    "of",
    "words",
]
MARKS = "marks.txt"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A script, and what must be seen of it."""

    description: str
    steps: dict[str, int]  # phase -> answers of the model, the closing one included
    files: dict[str, str]  # what the workspace holds at the end; MARKS is counted apart
    slow_seconds: float  # how long the command in the middle runs
    think_seconds: float  # how long the model thinks before the step after it


def make_scenario(rng: random.Random) -> Scenario:
    """Planning with a look around; an implementation with text, files and commands; a review that reads first."""
    slow, think = rng.uniform(0.9, 1.5), rng.uniform(0.8, 1.3)
    files = {f"part-{number}.txt": f"{number} {_words(rng, 6)}\n" for number in range(rng.randint(2, 4))}
    names = list(files)
    implementation: list[dict[str, Any]] = [
        {**write(files[names[0]], names[0], chunk=8), "text": _words(rng, 12)},
        bash(f"echo begun >> {MARKS}; sleep {slow:.2f}; echo ended >> {MARKS}", text="Now the slow part."),
        write(files[names[1]], names[1], delay=round(think, 2), reasoning=_words(rng, 10)),
        {
            "text": _words(rng, 60),
            "chunk": 6,
            "pace": 0.02,
            "tools": [{"name": "bash", "args": {"command": f"wc -l {MARKS}", "description": "Count"}}],
        },
        *[write(files[name], name) for name in names[2:]],
    ]
    planning: list[dict[str, Any]] = [
        bash("ls", text=_words(rng, 8), delay=round(rng.uniform(0.2, 0.6), 2)),
        {"plan": f"## Plan\n\n{_words(rng, 20)}", "delay": round(rng.uniform(0.2, 0.5), 2)},
    ]
    review: list[dict[str, Any]] = [
        bash(f"cat {MARKS}", delay=round(rng.uniform(0.4, 0.8), 2)),
        {**APPROVE, "delay": round(rng.uniform(0.4, 0.8), 2)},
    ]
    text = script(planning=[planning], implementation=[implementation], review=[review])
    steps = {"planning": 3, "implementation": len(implementation) + 1, "review": 3}
    return Scenario(text, steps, files, slow, think)


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))
