"""A session's log in words, an entry each: what the API's transcript answers. Pure, so that every kind is easy to test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypedDict

from studio.kernel.text import cut
from studio.topics import Event

LINE = 300  # characters of what a tool was asked
OUTPUT = 2_000  # characters of what it answered
MARKS = {"completed": "[x]", "in_progress": "[>]", "cancelled": "[-]"}


class Entry(TypedDict):
    """One entry. `status` says how a tool or a turn ended; it is empty for everything else."""

    seq: int
    kind: str
    text: str
    status: str
    at: datetime


def condense(event: Event) -> Entry:
    """The entry of one event; a kind that is not known keeps its name and its message."""
    kind, words = KINDS.get(event.kind, (event.kind, _message))
    return {"seq": event.seq, "kind": kind, "text": words(event.data), "status": _status(event), "at": event.at}


def _status(event: Event) -> str:
    if event.kind == "tool.started":
        return "running"
    if event.kind == "tool.finished":
        return str(event.data.get("status", ""))
    return str(event.data.get("outcome", "")) if event.kind == "turn.settled" else ""


def _text(data: Mapping[str, Any]) -> str:
    return str(data.get("text", ""))


def _message(data: Mapping[str, Any]) -> str:
    return str(data.get("message") or data.get("text") or "")


def _tool(data: Mapping[str, Any]) -> str:
    given = data.get("input")
    asked = data.get("title") or (next(iter(given.values()), "") if isinstance(given, dict) else "")
    line = f"{data.get('tool', '')}: {cut(' '.join(str(asked).split()), LINE)}"
    answer = cut(str(data.get("error") or data.get("output") or ""), OUTPUT)
    return f"{line}\n{answer}" if answer else line


def _step(data: Mapping[str, Any]) -> str:
    tokens = data.get("tokens") or {}
    words = f"{tokens.get('input', 0)} tokens in, {tokens.get('output', 0)} out"
    return f"{words}, ${data['cost']}" if data.get("cost") else words


def _todo(data: Mapping[str, Any]) -> str:
    items = [item for item in data.get("items") or [] if isinstance(item, dict)]
    return "\n".join(f"{MARKS.get(str(item.get('status')), '[ ]')} {item.get('content', '')}" for item in items)


def _file(data: Mapping[str, Any]) -> str:
    return str(data.get("file", ""))


def _error(data: Mapping[str, Any]) -> str:
    return f"{data.get('name', 'Error')}: {data.get('message', '')}"


def _asked(data: Mapping[str, Any]) -> str:
    words = f"{data.get('what') or ''} {data.get('detail') or ''}".strip()
    return f"Asked for something that is not allowed: {words}" if words else "Asked for something that is not allowed."


def _compacted(_: Mapping[str, Any]) -> str:
    return "The conversation was summarised to make room."


def _turn_started(data: Mapping[str, Any]) -> str:
    return f"Turn {data.get('turn', '')} began with {data.get('model') or 'the default model'}."


def _turn_resumed(data: Mapping[str, Any]) -> str:
    return f"The agent server ended in the middle of turn {data.get('turn', '')}; it goes on."


def _turn_settled(data: Mapping[str, Any]) -> str:
    words = f"Turn {data.get('turn', '')} ended: {data.get('outcome', '')}."
    return f"{words} {data['message']}" if data.get("message") else words


KINDS: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "user": ("user", _text),
    "text": ("text", _text),
    "reasoning": ("reasoning", _text),
    "tool.started": ("tool", _tool),
    "tool.finished": ("tool", _tool),
    "step.finished": ("step", _step),
    "todo": ("todo", _todo),
    "file.edited": ("file", _file),
    "retry": ("retry", _message),
    "error": ("error", _error),
    "ask.rejected": ("ask", _asked),
    "compacted": ("notice", _compacted),
    "turn.started": ("turn", _turn_started),
    "turn.resumed": ("turn", _turn_resumed),
    "turn.settled": ("turn", _turn_settled),
}
