"""The task of a case: a script whose steps can be counted from outside, varied by the seed."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from enum import StrEnum
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


class Ending(StrEnum):
    """Where a task comes to rest after a fault."""

    REVIEW = "review"  # as if nothing had happened
    STOPPED = "stopped"  # a person stopped it, in whichever column it was
    DONE = "done"  # a person completed it


@dataclass(frozen=True, slots=True)
class Message:
    """What a person says to the implementer: a name that is found again in the practice model's log, and its own steps."""

    name: str
    steps: tuple[dict[str, Any], ...]
    files: dict[str, str]  # what they leave in the workspace

    @property
    def text(self) -> str:
        """As it is sent."""
        return f"{self.name}\n\n```practice\n{json.dumps(self.steps)}\n```\n"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A script, and what must be seen of it."""

    script: dict[str, list[dict[str, Any]]]  # phase -> its steps
    files: dict[str, str]  # what the workspace holds at the end; MARKS is counted apart
    slow_seconds: float  # how long the command in the middle runs
    think_seconds: float  # how long the model thinks before the step after it
    messages: tuple[Message, ...] = field(default=())
    target: str = ""  # the branch that it is merged into

    @property
    def description(self) -> str:
        """The task's."""
        return script(**{phase: [steps] for phase, steps in self.script.items()})

    @property
    def steps(self) -> dict[str, int]:
        """Phase -> answers of the model, the closing one included."""
        return {phase: len(steps) + 1 for phase, steps in self.script.items()}

    def with_step(self, place: int, step: dict[str, Any]) -> Scenario:
        """The same with one more step of the implementation."""
        steps = self.script["implementation"]
        return replace(self, script={**self.script, "implementation": [*steps[:place], step, *steps[place:]]})

    def hearing(self, message: Message) -> Scenario:
        """The same when a person has said something."""
        return replace(self, messages=(*self.messages, message))


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
    return Scenario({"planning": planning, "implementation": implementation, "review": review}, files, slow, think)


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))
