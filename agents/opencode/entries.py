"""Messages and parts of the server as log entries. Pure: the event stream and a reading of messages share this module.

Every function here may be given anything that the server could send; what is malformed raises one of MALFORMED, which the
callers count and skip.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from agents.backend import INPUT_LIMIT, OUTPUT_LIMIT, TEXT_LIMIT, LogEntry
from studio.kernel.clock import now
from studio.kernel.text import clean, cut

MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError)
VALUE_LIMIT = 2_000  # characters of one argument when a tool's arguments are too long together
MESSAGE_LIMIT = 4_000  # characters of an error's message
TITLE_LIMIT = 300
ID_LIMIT = 80  # characters
TODO_LIMIT = 100
MANY = 1_000_000  # tries
INTERRUPTED = "Interrupted: the agent server stopped before this was finished."
WRITING_TOOLS = {"edit", "write", "apply_patch", "multiedit", "patch"}


def moment(milliseconds: Any) -> datetime:
    """The server's clock as a time; now when it sent none. Raises ValueError for a time that is none."""
    if not isinstance(milliseconds, int | float) or isinstance(milliseconds, bool) or not milliseconds:
        return now()
    try:
        return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    except (OverflowError, OSError) as error:
        raise ValueError("a time beyond the calendar") from error


def identity(value: Any) -> str:
    """An id of the server. Raises TypeError for what cannot be one."""
    if not isinstance(value, str) or len(value) > ID_LIMIT or (value and not value.isascii()) or "\x00" in value:
        raise TypeError("an id is a short, plain text")
    return value


def bounded(text: Any, limit: int, data: dict[str, Any]) -> str:
    """`text` made storable; when it is longer than `limit`, `data` says that it was cut."""
    whole = clean(text)
    if len(whole) > limit:
        data["cut"] = True
    return cut(whole, limit)


def part_entries(
    part: dict[str, Any], *, role: str, directory: str, at: datetime, interrupted: bool = False
) -> list[LogEntry]:
    """What a part in its present state says, as entries; none while it is unfinished.

    `at` counts where the part has no time of its own. `interrupted` says that nothing will ever finish the part: its
    server died. An empty `role` is one that is not known.
    """
    kind = part["type"]
    identity(part["id"])
    if kind == "text":
        return _text(part, role, at)
    if kind == "reasoning":
        return _written("reasoning", part)
    if kind == "tool":
        return _tool(part, directory, interrupted)
    if kind == "step-finish":
        return [_step(part, at)]
    if kind == "compaction":
        return [LogEntry("compacted", f"compacted:{part['id']}", {}, at)]
    return []


def error_entry(info: dict[str, Any]) -> LogEntry | None:
    """The error that an assistant message ended with; None when it has none."""
    error = info.get("error")
    if not error:
        return None
    name, message = error_text(error)
    at = moment(info.get("time", {}).get("completed"))
    return LogEntry("error", f"error:{identity(info['id'])}", {"name": name, "message": message}, at)


def error_text(error: dict[str, Any]) -> tuple[str, str]:
    """(name, message) of an error as the server describes it; a stack trace is left out."""
    data = error.get("data") or {}
    message = clean(data.get("message") or error.get("message") or "").split("\n    at ")[0]
    return clean(error.get("name") or "UnknownError"), cut(message, MESSAGE_LIMIT)


def retry_entry(session: str, status: dict[str, Any]) -> LogEntry:
    """The server waits to ask the provider again."""
    at = status.get("next")
    data = {
        "attempt": min(int(status.get("attempt") or 0), MANY),
        "message": cut(clean(status.get("message") or ""), MESSAGE_LIMIT),
        "next_at": moment(at).isoformat() if at else None,
    }
    return LogEntry("retry", f"retry:{session}:{data['attempt']}:{str(at)[:20]}", data, now())


def message_entries(message: dict[str, Any], *, directory: str, interrupted: bool = False) -> list[LogEntry]:
    """All entries of a message as read over REST, in order, under the keys that the stream gives them."""
    info = message["info"]
    clock = info.get("time") or {}
    at = moment(clock.get("completed") or clock.get("created"))
    entries: list[LogEntry] = []
    for part in message["parts"]:
        try:
            entries += part_entries(part, role=info["role"], directory=directory, at=at, interrupted=interrupted)
        except MALFORMED:
            continue  # one part that cannot be read hides no other
    error = error_entry(info)
    return [*entries, error] if error else entries


def _text(part: dict[str, Any], role: str, at: datetime) -> list[LogEntry]:
    if part.get("synthetic") or part.get("ignored"):
        return []
    if role != "user":
        return _written("text", part)  # where the role is not known, a person's text has no end and is left out
    data: dict[str, Any] = {}
    data["text"] = bounded(part["text"], TEXT_LIMIT, data)
    return [LogEntry("user", f"user:{identity(part['messageID'])}", data, at)]


def _written(kind: str, part: dict[str, Any]) -> list[LogEntry]:
    """A text or reasoning that has ended; an empty one is what a failed try leaves behind."""
    end = (part.get("time") or {}).get("end")
    if not end or not part["text"].strip():
        return []
    data: dict[str, Any] = {"part": part["id"]}
    data["text"] = bounded(part["text"], TEXT_LIMIT, data)
    return [LogEntry(kind, f"{kind}:{part['id']}", data, moment(end))]


def _tool(part: dict[str, Any], directory: str, interrupted: bool) -> list[LogEntry]:
    state, tool = part["state"], clean(part["tool"])
    status = state["status"]
    over = status in ("completed", "error")
    if status == "pending" and not interrupted:
        return []
    clock = state.get("time") or {}
    data: dict[str, Any] = {"part": part["id"], "call": clean(part.get("callID") or ""), "tool": tool}
    data["title"] = tool_title(tool, state.get("input") or {}, directory)
    data["input"] = bounded_input(state.get("input") or {}, data)
    entries = [LogEntry("tool.started", f"tool.started:{part['id']}", data, moment(clock.get("start")))]
    if over or interrupted:
        entries.append(_finished(part, dict(data), directory))
    if tool == "todowrite" and status == "completed":
        entries.append(_todo(part))
    if tool in WRITING_TOOLS and status == "completed":
        entries += _edited(part, directory)
    return entries


def _finished(part: dict[str, Any], data: dict[str, Any], directory: str) -> LogEntry:
    state = part["state"]
    clock, metadata = state.get("time") or {}, state.get("metadata") or {}
    start, end = clock.get("start"), clock.get("end")
    completed = state["status"] == "completed"
    if completed and state.get("title"):
        data["title"] = cut(clean(state["title"]).replace(f"{directory}/", ""), TITLE_LIMIT)
    data["output"] = bounded(state.get("output") or "", OUTPUT_LIMIT, data)
    data["status"] = "completed" if completed else "error"
    data["error"] = "" if completed else cut(clean(state.get("error") or INTERRUPTED), MESSAGE_LIMIT)
    if data["tool"] == "bash" and "exit" in metadata:
        data["exit"] = metadata["exit"] if isinstance(metadata["exit"], int) else None
    data["ms"] = int(end - start) if start and end else None
    return LogEntry("tool.finished", f"tool.finished:{part['id']}", data, moment(end))


def _todo(part: dict[str, Any]) -> LogEntry:
    state = part["state"]
    todos = (state.get("metadata") or {}).get("todos") or state["input"]["todos"]
    items = [
        {name: cut(clean(todo.get(name) or ""), TITLE_LIMIT) for name in ("content", "status", "priority")}
        for todo in todos[:TODO_LIMIT]
    ]
    return LogEntry("todo", f"todo:{part['id']}", {"items": items}, moment((state.get("time") or {}).get("end")))


def _edited(part: dict[str, Any], directory: str) -> list[LogEntry]:
    state = part["state"]
    metadata, arguments = state.get("metadata") or {}, state.get("input") or {}
    files = metadata.get("files") or [
        (metadata.get("filediff") or {}).get("file") or metadata.get("filepath") or arguments.get("filePath")
    ]
    paths = [one.get("relativePath") or one.get("filePath") if isinstance(one, dict) else one for one in files]
    at = moment((state.get("time") or {}).get("end"))
    return [
        LogEntry("file.edited", f"file:{part['id']}:{index}", {"file": relative(path, directory)}, at)
        for index, path in enumerate(paths)
        if isinstance(path, str) and path
    ]


def _step(part: dict[str, Any], at: datetime) -> LogEntry:
    cost = float(part.get("cost") or 0)
    data = {"part": part["id"], "reason": clean(part.get("reason") or ""), "cost": cost if math.isfinite(cost) else 0.0}
    return LogEntry("step.finished", f"step:{part['id']}", {**data, "tokens": token_counts(part.get("tokens"))}, at)


def token_counts(tokens: Any) -> dict[str, int]:
    """The server's token counts by our names."""
    known = tokens if isinstance(tokens, dict) else {}
    cache = known.get("cache") or {}
    return {
        "input": int(known.get("input") or 0),
        "output": int(known.get("output") or 0),
        "reasoning": int(known.get("reasoning") or 0),
        "cached": int(cache.get("read") or 0),
    }


def relative(path: str, directory: str) -> str:
    """`path` as seen from `directory` when it lies in it."""
    try:
        return cut(clean(PurePosixPath(path).relative_to(directory)), TITLE_LIMIT)
    except ValueError:
        return cut(clean(path), TITLE_LIMIT)


def tool_title(tool: str, arguments: dict[str, Any], directory: str) -> str:
    """A line that says what a call is about, from its arguments."""
    path = arguments.get("filePath") or arguments.get("path")
    if tool in WRITING_TOOLS or tool in ("read", "list"):
        return relative(str(path), directory) if path else ""
    names = {"bash": "command", "glob": "pattern", "grep": "pattern", "task": "description", "webfetch": "url"}
    names |= {"skill": "name", "invalid": "tool"}
    if tool in names:
        return cut(clean(arguments.get(names[tool], "")), TITLE_LIMIT)
    words = next((value for value in arguments.values() if isinstance(value, str) and value.strip()), "")
    return cut(clean(words).strip().partition("\n")[0], TITLE_LIMIT)


def bounded_input(arguments: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """A tool's arguments, with long values cut when they are too long together."""
    if len(json.dumps(arguments)) <= INPUT_LIMIT:
        return {clean(key): _storable(value) for key, value in arguments.items()}
    data["cut"] = True
    short: dict[str, Any] = {}
    left = INPUT_LIMIT
    for key, value in arguments.items():
        text = value if isinstance(value, str) else json.dumps(value)
        short[clean(key)] = cut(clean(text), min(VALUE_LIMIT, left))
        left -= len(short[clean(key)]) + len(key)
        if left <= 0:
            break
    return short


def _storable(value: Any) -> Any:
    """`value` with every string inside made storable."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_storable(one) for one in value]
    if isinstance(value, dict):
        return {clean(key): _storable(one) for key, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # databases store no NaN in JSON
    return value
