"""A session's log in words, an entry each: what the API's transcript answers, and what the page says of everything that is
neither text nor a tool. Pure, so that every kind is easy to test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypedDict

from sessions_app.models import AskKind
from sessions_app.services.ask_rows import POLICY
from sessions_app.services.ask_words import WANTS
from studio.kernel.text import cut
from studio.topics import Event

LINE = 300  # characters of what a tool was asked
OUTPUT = 2_000  # characters of what it answered
MARKS = {"completed": "[x]", "in_progress": "[>]", "cancelled": "[-]"}
# Why a turn is tried again, in words; another code is said as it is.
CAUSES = {
    "rate_limited": "The model provider's rate limit is reached",
    "provider_error": "The model provider failed",
    "server_unreachable": "The agent server did not answer",
    "stalled": "The agent showed no sign of life",
    "session_lost": "The agent server no longer knew the session",
    "time_limit": "It took longer than the profile allows",
    "step_limit": "It made more steps than the profile allows",
    "looping": "The agent went round in circles: the same answer again and again",
    "budget_exceeded": "A budget is used up",
}
REPLIES = {
    "once": "allowed it once",
    "always": "allowed it from now on",
    "reject": "rejected it",
    "answers": "answered",
}
ON_BUDGET = {"once": "let it go on", "always": "let it go on", "reject": "stopped it"}
CONSEQUENCES = {
    "warn": "The agent goes on.",
    "ask": "A person decides whether it goes on.",
    "stop": "The turn is stopped.",
}


class Entry(TypedDict):
    """One entry. `status` says how a tool or a turn ended; it is empty for everything else."""

    seq: int
    kind: str
    text: str
    status: str
    at: datetime


def condense(event: Event) -> Entry:
    """The entry of one event; a kind that is not known keeps its name and its message."""
    kind, _ = KINDS.get(event.kind, (event.kind, _message))
    return {"seq": event.seq, "kind": kind, "text": words(event), "status": _status(event), "at": event.at}


def words(event: Event) -> str:
    """What the event says, as plain text."""
    _, say = KINDS.get(event.kind, (event.kind, _message))
    return say(event.data)


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
    counted = f"{tokens.get('input', 0)} tokens in, {tokens.get('output', 0)} out"
    return f"{counted}, ${data['cost']}" if data.get("cost") else counted


def _todo(data: Mapping[str, Any]) -> str:
    items = [item for item in data.get("items") or [] if isinstance(item, dict)]
    return "\n".join(f"{MARKS.get(str(item.get('status')), '[ ]')} {item.get('content', '')}" for item in items)


def _file(data: Mapping[str, Any]) -> str:
    return str(data.get("file", ""))


def _error(data: Mapping[str, Any]) -> str:
    return f"{data.get('name', 'Error')}: {data.get('message', '')}"


def _asked(data: Mapping[str, Any]) -> str:
    asked = f"{data.get('what') or ''} {data.get('detail') or ''}".strip()
    return f"Asked for something that is not allowed: {asked}" if asked else "Asked for something that is not allowed."


def _compacted(_: Mapping[str, Any]) -> str:
    return "The conversation was summarised to make room."


def _turn_started(data: Mapping[str, Any]) -> str:
    return f"Turn {data.get('turn', '')} began with {data.get('model') or 'the default model'}."


def _turn_resumed(data: Mapping[str, Any]) -> str:
    return f"Turn {data.get('turn', '')} was interrupted; it goes on where it was."


def _turn_retrying(data: Mapping[str, Any]) -> str:
    cause = CAUSES.get(str(data.get("error_code")), str(data.get("error_code") or "The turn failed"))
    if data.get("by"):
        return f"{cause}. {data['by']} lets the turn begin anew."
    counted = f" (try {data['attempt']} of {data['of']})" if data.get("attempt") and data.get("of") else ""
    said = f": {data['message']}" if data.get("message") else "."
    return f"{cause}; the turn is tried again by itself{counted}{said}"


def _turn_unknown(data: Mapping[str, Any]) -> str:
    said = f" {data['message']}" if data.get("message") else ""
    return f"Nobody can say how turn {data.get('turn', '')} ended.{said}"


def _turn_settled(data: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (f"Turn {data.get('turn', '')} ended: {data.get('outcome', '')}.", why_ended(data))))


def why_ended(data: Mapping[str, Any]) -> str:
    """Why a turn ended before it was done, as sentences: the studio's own reason first, then what was said."""
    cause = CAUSES.get(str(data.get("error_code")), "")
    said = str(data.get("message") or "")
    return " ".join(filter(None, (f"{cause}." if cause else "", said)))


def _continued(data: Mapping[str, Any]) -> str:
    return f"The conversation goes on in a fresh session, because {data.get('reason') or 'it could not be resumed'}."


def _author(data: Mapping[str, Any]) -> str:
    return str(data.get("author") or "Somebody")


def _inbox_accepted(data: Mapping[str, Any]) -> str:
    when = "for the running turn" if data.get("delivery") == "steer" else "for the next turn"
    return f"{_author(data)} wrote {when}: {_text(data)}"


def _inbox_edited(data: Mapping[str, Any]) -> str:
    return f"{data.get('by') or _author(data)} changed a message that waits: {_text(data)}"


def _inbox_removed(data: Mapping[str, Any]) -> str:
    return f"{data.get('by') or _author(data)} took a message back: {_text(data)}"


def _inbox_moved(data: Mapping[str, Any]) -> str:
    where = "forward" if data.get("up") else "back"
    return f"{data.get('by') or _author(data)} moved a message that waits {where}: {_text(data)}"


def _inbox_delivered(data: Mapping[str, Any]) -> str:
    return f"{_author(data)}'s message has reached the agent."


def _ask_opened(data: Mapping[str, Any]) -> str:
    kind = str(data.get("kind"))
    what = WANTS[AskKind(kind) if kind in AskKind.values else AskKind.PERMISSION]
    title = str(data.get("title") or "").removeprefix("Question: ")
    return f"{data.get('asker') or 'The agent'} {what}: {title}".strip()


def _chosen(answers: Any) -> str:
    lists = [one for one in answers if isinstance(one, list) and one] if isinstance(answers, list) else []
    return "; ".join(", ".join(map(str, one)) for one in lists)


def _ask_answered(data: Mapping[str, Any]) -> str:
    words = ON_BUDGET if data.get("kind") == AskKind.BUDGET else REPLIES
    reply = words.get(str(data.get("reply")), str(data.get("reply") or "answered"))
    said = data.get("message") or _chosen(data.get("answers"))
    by = "A rule of the project" if data.get("by") == POLICY else data.get("by") or "Somebody"
    return f"{by} {reply}{f': {said}' if said else '.'}"


def _ask_lost(_: Mapping[str, Any]) -> str:
    return "The agent server forgot the question in a restart; the agent asks again."


def _ask_expired(_: Mapping[str, Any]) -> str:
    return "Nobody answered in time."


def _ask_withdrawn(data: Mapping[str, Any]) -> str:
    return str(data.get("reason") or "The question is void: the turn ended first.")


def _budget(data: Mapping[str, Any]) -> str:
    return f"{data.get('message', '')} {CONSEQUENCES.get(str(data.get('action')), '')}".strip()


def _command(data: Mapping[str, Any]) -> str:
    command = data.get("title") or data.get("command") or ""
    state = data.get("state") or data.get("outcome") or ""
    code = data.get("exit") if data.get("exit") is not None else data.get("exit_code")
    ended = f" (exit {code})" if code is not None else ""
    return f"Background command{f' {state}' if state else ''}{ended}: {command}"


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
    "ask.opened": ("ask", _ask_opened),
    "ask.answered": ("ask", _ask_answered),
    "ask.lost": ("ask", _ask_lost),
    "ask.expired": ("ask", _ask_expired),
    "ask.withdrawn": ("ask", _ask_withdrawn),
    "inbox.accepted": ("inbox", _inbox_accepted),
    "inbox.edited": ("inbox", _inbox_edited),
    "inbox.removed": ("inbox", _inbox_removed),
    "inbox.moved": ("inbox", _inbox_moved),
    "inbox.delivered": ("inbox", _inbox_delivered),
    "budget.reached": ("budget", _budget),
    "compacted": ("notice", _compacted),
    "session.continued": ("notice", _continued),
    "turn.started": ("turn", _turn_started),
    "turn.resumed": ("turn", _turn_resumed),
    "turn.retrying": ("turn", _turn_retrying),
    "turn.unknown": ("turn", _turn_unknown),
    "turn.settled": ("turn", _turn_settled),
    "command.started": ("command", _command),
    "command.finished": ("command", _command),
    "command.lost": ("command", _command),
    "command.cancelled": ("command", _command),
}
