"""Reading a verdict out of prose: pure, and never generous. What is not clearly a verdict is none."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from studio.kernel.text import clean
from tasks.choices import Severity, Verdict

READ_LIMIT = 200_000  # characters at the end of an answer that are looked at
FINDINGS_LIMIT = 100  # findings of one review
BLOCK = re.compile(r"^ {0,3}```[ \t]*json[ \t]*\r?\n(.*?)^ {0,3}```[ \t]*$", re.DOTALL | re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FoundFinding:
    """A finding as an answer states it."""

    severity: str
    title: str
    body: str
    file: str
    line: int | None


@dataclass(frozen=True, slots=True)
class FoundVerdict:
    """A verdict as an answer states it."""

    verdict: str
    summary: str
    findings: tuple[FoundFinding, ...]


def parse_verdict(text: str) -> FoundVerdict | None:
    """The verdict of a review that was answered in prose: a fenced ```json block with `verdict`.

    Only the two exact values count. Prose around the blocks ("APPROVED", "not approved") is never read. None when there
    is no such block, when one has another value, or when two disagree.
    """
    stated = [block for block in _objects(text[-READ_LIMIT:]) if "verdict" in block]
    values = {block["verdict"] if isinstance(block["verdict"], str) else None for block in stated}
    if len(values) != 1 or not values <= set(Verdict.values):
        return None
    last = stated[-1]
    findings = last.get("findings")
    return FoundVerdict(
        verdict=last["verdict"],
        summary=_text(last.get("summary")),
        findings=tuple(
            found
            for item in (findings if isinstance(findings, list) else [])[:FINDINGS_LIMIT]
            if (found := _finding(item))
        ),
    )


def _objects(text: str) -> list[dict[str, Any]]:
    found = []
    for match in BLOCK.finditer(text):
        try:
            value = json.loads(match.group(1), object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose `verdict` is stated twice states none."""
    value = dict(pairs)
    if [key for key, _ in pairs].count("verdict") > 1:
        value["verdict"] = None
    return value


def _finding(item: Any) -> FoundFinding | None:
    if not isinstance(item, dict):
        return None
    body = _text(item.get("body"))
    title = _text(item.get("title")) or body.partition("\n")[0]
    if not title:
        return None
    line = item.get("line")
    return FoundFinding(
        # A severity that is none of the three counts as the gravest: an unclear finding is never overlooked.
        severity=item["severity"] if item.get("severity") in Severity.values else Severity.ERROR,
        title=title,
        body=body,
        file=_text(item.get("file")),
        line=line if isinstance(line, int) and not isinstance(line, bool) and 0 < line < 2**31 else None,
    )


def _text(value: Any) -> str:
    return clean(value).strip() if isinstance(value, str) else ""
