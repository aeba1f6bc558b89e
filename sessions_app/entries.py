"""One entry of a session's log, prepared for its template. Pure.

What agents say is hostile: text becomes sanitised markdown, everything else is escaped by the templates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.safestring import SafeString

from sessions_app import condensed
from studio.kernel.markdown import render
from studio.kernel.text import clean, cut
from studio.kernel.unseen import escaped
from studio.topics import Event

LINE = 300  # characters of a tool's one line
FOLDED = 2_500  # characters of what stands behind it; the rest is fetched when it is asked for
SHOWN = 12_000  # characters of a text that stands in the transcript itself
SAID = 600  # characters of a prompt that is shown without unfolding it

ICONS = {
    "bash": "terminal", "read": "eye", "list": "folder", "glob": "search", "grep": "search", "write": "pencil", "edit": "pencil",
    "multiedit": "pencil", "patch": "pencil", "apply_patch": "pencil", "todowrite": "list", "task": "robot", "question": "hand",
}  # fmt: skip
# Tools whose arguments say more as text than as JSON: the argument that is shown, by tool.
SPEAKING = {"bash": "command", "write": "content", "patch": "patchText", "apply_patch": "patchText", "task": "prompt"}
HIDDEN = {"file.edited", "todo"}  # the tool's own entry says it; the todo list stands above
OUTCOMES = {
    "completed": ("Finished", "green"),
    "failed": ("Failed", "red"),
    "aborted": ("Ended early", "grey"),
    "rejected": ("Not accepted", "red"),
}
# What is said in one line: its tone and its icon. The words are those of the API's transcript.
NOTES = {
    "ask.opened": ("amber", "hand"),
    "ask.answered": ("grey", "check"),
    "ask.rejected": ("amber", "hand"),
    "ask.lost": ("grey", "refresh"),
    "ask.expired": ("amber", "clock"),
    "ask.withdrawn": ("grey", "info"),
    "inbox.accepted": ("grey", "thought"),
    "inbox.edited": ("grey", "pencil"),
    "inbox.removed": ("grey", "x"),
    "inbox.moved": ("grey", "list"),
    "inbox.delivered": ("grey", "check"),
    "budget.reached": ("amber", "alert"),
    "session.continued": ("grey", "right"),
    "turn.resumed": ("grey", "refresh"),
    "turn.retrying": ("amber", "clock"),
    "turn.unknown": ("red", "alert"),
    "command.started": ("grey", "terminal"),
    "command.finished": ("grey", "terminal"),
    "command.lost": ("amber", "terminal"),
    "command.cancelled": ("grey", "terminal"),
}
# The sub-agent's session, as the task tool's answer names it.
SUB_SESSION = re.compile(r'<task id="(ses_\w{1,60})"')


@dataclass(frozen=True, slots=True)
class EntryView:
    """One entry. `dom_id` is the same for a tool's start and its end, so the end replaces the start.

    `part` tells in which order the agent began what it did in a step; `child` names the sub-agent that did it.
    """

    dom_id: str
    seq: int
    kind: str
    at: datetime
    data: Mapping[str, Any]
    html: SafeString | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    child: str = ""
    elsewhere: bool = False  # a tool's end that stands with its start, in an earlier stretch


def view(event: Event, *, whole: bool = False, room: int = SHOWN) -> EntryView:
    """An entry prepared for its template. Unless `whole`, long texts are shortened: a transcript stays a small page.

    `room` is how many characters of a text may stand in the transcript itself.
    """
    data = event.data
    html = None
    more: dict[str, Any] = {}
    if event.kind in ("text", "reasoning"):
        text = clean(data.get("text", ""))
        shown = text if whole else cut(text, min(room, FOLDED if event.kind == "reasoning" else SHOWN))
        html = render(shown)
        more = {"shortened": True} if len(shown) < len(text) else {}
    else:
        more = _more(event)
        more = more if whole else shortened(more)
    part = data.get("part")
    # A tool's start and end share their part; everything else has one of its own or none. No two sessions share an id:
    # else the page would take one's entry for the other's when it changes from one to the other.
    own = f"e-{part}" if part else f"n-{event.topic[-12:]}-{event.seq}"
    return EntryView(
        dom_id=own,
        seq=event.seq,
        kind=event.kind.replace(".", "_"),
        at=event.at,
        data=data,
        html=html,
        more=more,
        part=str(part or ""),
        child=str(data.get("child") or ""),
    )


def _more(event: Event) -> dict[str, Any]:
    """What the entry's template needs besides the data."""
    data = event.data
    if event.kind.startswith("tool."):
        return tool(event)
    if event.kind == "step.finished":
        counts = data.get("tokens")
        return dict(counts) if isinstance(counts, dict) else {}
    if event.kind == "turn.settled":
        word, tone = OUTCOMES.get(str(data.get("outcome")), ("Ended", "grey"))
        return {"word": word, "tone": tone, "anchor": data.get("turn"), "why": clean(condensed.why_ended(data))}
    if event.kind == "user":
        text = clean(data.get("text") or "")
        return {"words": text, "short": len(text) <= SAID}
    tone, icon = NOTES.get(event.kind, ("grey", "info"))
    more: dict[str, Any] = {"words": clean(condensed.words(event) or event.kind), "tone": tone, "icon": icon}
    if event.kind in ("retry", "turn.retrying"):
        more["next_at"] = moment(data.get("next_at"))
    return more


def moment(value: object) -> datetime | None:
    """A time as the log writes it; None for anything else."""
    try:
        return parse_datetime(value) if isinstance(value, str) else None
    except ValueError:
        return None


def shortened(more: dict[str, Any]) -> dict[str, Any]:
    """`more` with its long texts cut; `shortened` says that one was."""
    short = {name: cut(value, FOLDED) if isinstance(value, str) else value for name, value in more.items()}
    return {**short, "shortened": True} if short != more else more


def tool(event: Event) -> dict[str, Any]:
    """What a tool's line shows, and what it shows when it is opened."""
    data = event.data
    name = str(data.get("tool", ""))
    raw = data.get("input")
    given: dict[str, Any] = raw if isinstance(raw, dict) else {}
    milliseconds = data.get("ms")
    speaking = given.get(SPEAKING.get(name, ""))
    state, state_words = tool_state(event)
    output = clean(data.get("output") or "")
    child = SUB_SESSION.search(output) if name == "task" else None
    return {
        "output": output,
        "error": clean(data.get("error") or ""),
        "icon": ICONS.get(name, "check" if name.startswith("studio_") and state == "done" else "tool"),
        "name": clean(name.removeprefix("studio_").replace("_", " ") if name.startswith("studio_") else name),
        "title": escaped(cut(" ".join(clean(data.get("title") or "").split()), LINE)),
        "took": duration(milliseconds) if isinstance(milliseconds, int) else "",
        "input": clean(speaking) if speaking is not None else pretty(given),
        "old": _text(given, "oldString") if name == "edit" else None,
        "new": _text(given, "newString") if name == "edit" else None,
        "state": state,
        "state_words": state_words,
        "opens": child[1] if child else "",
    }


def tool_state(event: Event) -> tuple[str, str]:
    """(running, done, failed or stopped; the word beside the tool's line, if it needs one)."""
    data = event.data
    if event.kind == "tool.started":
        return "running", ""
    code = data.get("exit")
    if data.get("status") == "error":
        return "failed", "failed"
    if code not in (None, 0):
        return "failed", f"exit {code}"
    if "exit" in data and code is None:
        return "stopped", "stopped"  # a command without an exit code was ended from outside
    return "done", ""


def _text(given: Mapping[str, Any], name: str) -> str | None:
    return clean(given[name]) if name in given else None


def pretty(given: Mapping[str, Any]) -> str:
    """Arguments for the eye: a text as it is, several as indented JSON."""
    if not given:
        return ""
    if len(given) == 1:
        (only,) = given.values()
        if isinstance(only, str):
            return clean(only)
    return clean(json.dumps(given, indent=2, ensure_ascii=False))


def duration(milliseconds: int, *, whole: bool = False) -> str:
    """A stretch of time in a few characters; `whole`: in whole seconds."""
    if milliseconds < 1_000 and not whole:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        if whole:
            return f"{milliseconds // 1_000} s"
        return f"{milliseconds / 1_000:.1f} s"
    return f"{milliseconds // 60_000}:{milliseconds // 1_000 % 60:02d} min"
