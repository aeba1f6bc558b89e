"""Whether an agent goes round in circles: the same call, or the same words, or nothing at all, step after step. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

# A provider that sends rubbish is asked again at once, some twice a second, without end (opencode.md, section 7).
SAME_ANSWERS = 5  # answers without any call, in a row: empty ones, or each with the same words
SAME_CALLS = 8  # steps in a row with the same calls of the same tools
WINDOW = 100  # entries of a log that hold so many steps

CALLS = "tool.finished"
WORDS = ("text", "reasoning")
STEP = "step.finished"
KINDS = [CALLS, *WORDS, STEP]


@dataclass(slots=True)
class Step:
    """What one answer of the model consisted of."""

    calls: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


def steps_of(entries: Iterable[tuple[str, dict[str, Any]]]) -> list[Step]:
    """The finished steps in (kind, data) entries of a log, ascending; what a sub-agent did is left out."""
    steps: list[Step] = []
    open_step = Step()
    for kind, data in entries:
        if "child" in data:
            continue
        if kind == CALLS:
            open_step.calls.append(_digest([data.get("tool"), data.get("input")]))
        elif kind in WORDS:
            open_step.words.append(_digest([kind, str(data.get("text", "")).strip()]))
        elif kind == STEP:
            steps.append(open_step)
            open_step = Step()
    return steps


def circling(steps: list[Step]) -> str:
    """The error code of an agent that goes round in circles, and the empty string for one that does not.

    `provider_error`: the provider answers nothing. `looping`: it repeats itself.
    """
    last = steps[-SAME_ANSWERS:]
    if len(last) == SAME_ANSWERS and not any(step.calls for step in last):
        if not any(step.words for step in last):
            return "provider_error"
        if all(step.words == last[0].words for step in last):
            return "looping"
    last = steps[-SAME_CALLS:]
    if len(last) == SAME_CALLS and last[0].calls and all(step.calls == last[0].calls for step in last):
        return "looping"
    return ""


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
