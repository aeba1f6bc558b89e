"""A session's log as people read it: each entry prepared for its template, the todo list, and the sums.

What agents say is hostile: text becomes sanitised markdown, everything else is escaped by the templates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils.safestring import SafeString

from sessions_app import selectors
from sessions_app.models import AgentSession, Turn
from studio.kernel.markdown import render
from studio.kernel.text import cut
from studio.topics import Event

PAGE = 150  # entries that a transcript begins with, and with each "Show earlier"
LINE = 300  # characters of a tool's one line
FOLDED = 2_500  # characters of what stands behind it; the rest is fetched when it is asked for

ICONS = {
    "bash": "terminal", "read": "eye", "list": "folder", "glob": "search", "grep": "search", "write": "pencil", "edit": "pencil",
    "multiedit": "pencil", "patch": "pencil", "apply_patch": "pencil", "todowrite": "list", "task": "robot",
}  # fmt: skip
# Tools whose arguments say more as text than as JSON: the argument that is shown, by tool.
SPEAKING = {"bash": "command", "write": "content", "patch": "patchText", "apply_patch": "patchText"}
HIDDEN = {"file.edited", "todo"}  # the tool's own entry says it; the todo list stands above
OUTCOMES = {
    "completed": ("Finished", "green"),
    "failed": ("Failed", "red"),
    "aborted": ("Ended early", "grey"),
    "rejected": ("Not accepted", "red"),
}


@dataclass(frozen=True, slots=True)
class EntryView:
    """One entry. `dom_id` is the same for a tool's start and its end, so the end replaces the start."""

    dom_id: str
    seq: int
    kind: str
    at: datetime
    data: Mapping[str, Any]
    html: SafeString | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transcript:
    """A stretch of the log. `first` and `last` are the numbers it covers; `earlier`: there is more before."""

    session: AgentSession
    entries: list[EntryView]
    first: int
    last: int
    earlier: bool
    turn: Turn | None  # the one at work, if any
    todo: list[Mapping[str, Any]]
    steps: int

    @property
    def done(self) -> int:
        """How many items of the todo list are finished."""
        return sum(1 for item in self.todo if item.get("status") in ("completed", "cancelled"))

    @property
    def full(self) -> bool:
        """Whether there may be more after it."""
        return self.last < self.session.last_seq


def latest(session: AgentSession) -> Transcript:
    """The end of the log: what a page begins with."""
    return _stretch(session, after=max(0, session.last_seq - PAGE))


def since(session: AgentSession, after: int) -> Transcript:
    """What came after a cursor."""
    return _stretch(session, after=after)


def earlier(session: AgentSession, before: int) -> Transcript:
    """The entries right before number `before`."""
    after = max(0, before - 1 - PAGE)
    return _stretch(session, after=after, limit=max(0, before - 1 - after))


def one(session: AgentSession, seq: int) -> EntryView | None:
    """The entry number `seq` in full."""
    events = selectors.read_session(str(session.pk), seq - 1, 1)
    return view(events[0], whole=True) if events and events[0].seq == seq else None


def _stretch(session: AgentSession, *, after: int, limit: int = PAGE) -> Transcript:
    events = selectors.transcript(session, after=after, limit=limit) if limit else []
    return Transcript(
        session=session,
        entries=[view(event) for event in events if event.kind not in HIDDEN],
        first=after + 1,
        last=max([after, *(event.seq for event in events)]),
        earlier=after > 0,
        turn=selectors.active_turn(session),
        todo=todo_list(session),
        steps=sum(session.turns.values_list("steps", flat=True)),
    )


def todo_list(session: AgentSession) -> list[Mapping[str, Any]]:
    """The newest todo list that the agent wrote."""
    newest = session.events.filter(kind="todo").order_by("-seq").values_list("data", flat=True).first()
    items = (newest or {}).get("items", [])
    return [item for item in items if isinstance(item, dict)]


def view(event: Event, *, whole: bool = False) -> EntryView:
    """An entry prepared for its template. What is folded is shortened unless `whole`: a transcript stays a small page."""
    data = event.data
    html, more = None, {}
    if event.kind in ("text", "reasoning"):
        html = render(str(data.get("text", "")))
    elif event.kind.startswith("tool."):
        more = tool(data)
    elif event.kind == "step.finished":
        counts = data.get("tokens")
        more = counts if isinstance(counts, dict) else {}
    elif event.kind == "turn.settled":
        word, tone = OUTCOMES.get(str(data.get("outcome")), ("Ended", "grey"))
        more = {"word": word, "tone": tone}
    else:
        more = {"words": str(data.get("message") or data.get("text") or event.kind)}
    if not whole:
        more = shortened(more)
    # A tool's start and end share their part; everything else has one of its own or none. No two sessions share an id:
    # else the page would take one's entry for the other's when it changes from one to the other.
    part = data.get("part")
    own = f"e-{part}" if part else f"n-{event.topic[-12:]}-{event.seq}"
    return EntryView(own, event.seq, event.kind.replace(".", "_"), event.at, data, html, more)


def shortened(more: dict[str, Any]) -> dict[str, Any]:
    """`more` with its long texts cut; `shortened` says that one was."""
    short = {name: cut(value, FOLDED) if isinstance(value, str) else value for name, value in more.items()}
    return {**short, "shortened": True} if short != more else more


def tool(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a tool's line shows, and what it shows when it is opened."""
    name = str(data.get("tool", ""))
    raw = data.get("input")
    given: dict[str, Any] = raw if isinstance(raw, dict) else {}
    milliseconds = data.get("ms")
    speaking = given.get(SPEAKING.get(name, ""))
    return {
        "output": str(data.get("output") or ""),
        "error": str(data.get("error") or ""),
        "icon": ICONS.get(name, "check" if "studio" in name else "tool"),
        "name": name.removeprefix("studio_").replace("_", " ") if name.startswith("studio_") else name,
        "title": cut(" ".join(str(data.get("title") or "").split()), LINE),
        "took": duration(milliseconds) if isinstance(milliseconds, int) else "",
        "input": str(speaking) if speaking is not None else pretty(given),
        "old": _text(given, "oldString") if name == "edit" else None,
        "new": _text(given, "newString") if name == "edit" else None,
        "failed": data.get("status") == "error" or data.get("exit") not in (None, 0),
    }


def _text(given: Mapping[str, Any], name: str) -> str | None:
    return str(given[name]) if name in given else None


def pretty(given: Mapping[str, Any]) -> str:
    """Arguments for the eye: a text as it is, several as indented JSON."""
    if not given:
        return ""
    if len(given) == 1:
        (only,) = given.values()
        if isinstance(only, str):
            return only
    return json.dumps(given, indent=2, ensure_ascii=False)


def duration(milliseconds: int) -> str:
    """A stretch of time in a few characters."""
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1_000:.1f} s"
    return f"{milliseconds // 60_000}:{milliseconds // 1_000 % 60:02d} min"
