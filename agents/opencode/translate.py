"""The server's global event stream as stream items. Pure but for a small memory of parts that are being written.

Unknown and malformed events become Skipped items; nothing here raises.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from agents.backend import (
    Busy,
    ChildOpened,
    Connected,
    Cursor,
    Delta,
    Entry,
    Failed,
    Heartbeat,
    Idle,
    InstanceGone,
    PartReset,
    Retrying,
    Skipped,
    StreamItem,
)
from agents.opencode.asks import ask_ended, permission_asked, question_asked
from agents.opencode.entries import MALFORMED, error_entry, error_text, identity, moment, part_entries, retry_entry
from studio.kernel.text import clean, cut

MEMORY = 5_000  # messages, parts: what is older has long ended
TITLE_LIMIT = 200
ENDINGS = ("permission.replied", "question.replied", "question.rejected")
UNKNOWN, MALFORMED_EVENT = "unknown_type", "malformed"  # reasons
# What says nothing about a session. Todos, edited files and compactions are read from their parts, which a later reading of
# the messages shows too.
NOISE = {
    "plugin.added", "catalog.updated", "reference.updated", "integration.updated", "project.updated",
    "project.created", "file.edited", "file.watcher.updated", "todo.updated", "session.updated", "session.diff",
    "session.deleted", "session.compacted", "message.removed", "message.part.removed", "vcs.branch.updated", "mcp.tools.changed", "command.executed",
    "lsp.updated", "lsp.client.diagnostics", "installation.updated", "installation.update-available",
}  # fmt: skip

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(OrderedDict[Key, Value], Generic[Key, Value]):
    """A dictionary that forgets its oldest keys."""

    def __setitem__(self, key: Key, value: Value) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > MEMORY:
            self.popitem(last=False)


class Translator:
    """Translates one connection's events; a new connection needs a new translator."""

    def __init__(self) -> None:
        self._roles: Recent[str, str] = Recent()  # message -> role
        self._kinds: Recent[str, str] = Recent()  # part -> text or reasoning
        self._writing: Recent[str, list[str]] = Recent()  # message -> parts with deltas that have not ended
        self._seen: Recent[str, None] = Recent()  # keys of entries already given
        self._handlers: dict[str, Callable[[dict[str, Any], str], list[StreamItem]]] = {
            "server.connected": lambda _properties, _directory: [Connected()],
            "server.heartbeat": lambda _properties, _directory: [Heartbeat()],
            "server.instance.disposed": lambda properties, directory: [
                InstanceGone(properties["directory"] or directory)
            ],
            "global.disposed": lambda _properties, _directory: [InstanceGone("")],
            "session.created": self._session_created,
            "session.status": self._status,
            "session.idle": lambda properties, _directory: [Idle(properties["sessionID"])],
            "session.error": self._session_error,
            "message.updated": self._message,
            "message.part.updated": self._part,
            "message.part.delta": self._delta,
            "permission.asked": lambda properties, directory: [permission_asked(properties, directory)],
            "question.asked": lambda properties, directory: [question_asked(properties, directory)],
            **dict.fromkeys(ENDINGS, lambda properties, _directory: [ask_ended(properties)]),
        }

    def translate(self, event: Any) -> list[StreamItem]:
        """The items of one event of `/global/event`."""
        try:
            payload = event["payload"]
            if payload["type"] == "sync":
                return [_twin(payload["syncEvent"])]
            return self._items(payload["type"], payload.get("properties"), event.get("directory") or "")
        except MALFORMED:
            return [Skipped(MALFORMED_EVENT)]

    def durable(self, event: Any, directory: str) -> list[StreamItem]:
        """The items of one event of the server's history, under the keys that the stream gives them."""
        try:
            kind, _, _version = event["type"].rpartition(".")  # message.part.updated.1
            return self._items(kind, event["data"], directory)
        except MALFORMED:
            return [Skipped(MALFORMED_EVENT)]

    def _items(self, kind: str, properties: Any, directory: str) -> list[StreamItem]:
        handler = self._handlers.get(kind)
        if handler is None:
            known = kind in NOISE or kind.startswith("session.next.")
            return [] if known else [Skipped(UNKNOWN)]
        items = handler(properties, directory)
        for item in items:
            identity(getattr(item, "session", ""))
        return items

    def _session_created(self, properties: dict[str, Any], _directory: str) -> list[StreamItem]:
        child = child_opened(properties["info"])
        return [child] if child else []

    def _status(self, properties: dict[str, Any], _directory: str) -> list[StreamItem]:
        session, status = properties["sessionID"], properties["status"]
        if status["type"] == "busy":
            return [Busy(session)]
        if status["type"] != "retry":
            return []  # idle: session.idle follows at once
        entry = retry_entry(session, status)
        at = moment(status["next"]) if status.get("next") else None
        return [Retrying(session, entry.data["attempt"], entry.data["message"], at), Entry(session, entry)]

    def _session_error(self, properties: dict[str, Any], _directory: str) -> list[StreamItem]:
        session = properties.get("sessionID")
        if not session:
            return []
        return [Failed(session, *error_text(properties["error"]))]

    def _message(self, properties: dict[str, Any], _directory: str) -> list[StreamItem]:
        info = properties["info"]
        self._roles[info["id"]] = info["role"]
        if (info.get("time") or {}).get("completed"):
            self._writing.pop(info["id"], None)
        error = error_entry(info)
        return self._new(info["sessionID"], [error] if error else [])

    def _part(self, properties: dict[str, Any], directory: str) -> list[StreamItem]:
        part = properties["part"]
        session, message, kind = part["sessionID"], part["messageID"], part["type"]
        items: list[StreamItem] = []
        if kind == "step-start":
            # The server tries a step again within the same message: what the failed try wrote is void.
            items += [PartReset(session, one) for one in self._writing.pop(message, [])]
        elif kind in ("text", "reasoning"):
            self._kinds[part["id"]] = kind
            writing = self._writing.get(message)
            if writing and (part.get("time") or {}).get("end") and part["id"] in writing:
                writing.remove(part["id"])
        role = self._roles.get(message, "")
        entries = part_entries(part, role=role, directory=directory, at=moment(properties.get("time")))
        return items + self._new(session, entries)

    def _delta(self, properties: dict[str, Any], _directory: str) -> list[StreamItem]:
        if properties["field"] != "text":
            return []
        part, message = identity(properties["partID"]), identity(properties["messageID"])
        writing = self._writing.setdefault(message, [])
        if part not in writing:
            writing.append(part)
        reasoning = self._kinds.get(part) == "reasoning"
        return [Delta(properties["sessionID"], part, clean(properties["delta"]), reasoning)]

    def _new(self, session: str, entries: list[Any]) -> list[StreamItem]:
        """Entries that were not given before: a tool that runs is reported again with each line it prints."""
        fresh = [entry for entry in entries if entry.key not in self._seen]
        for entry in fresh:
            self._seen[entry.key] = None
        return [Entry(session, entry) for entry in fresh]


def _twin(event: dict[str, Any]) -> Cursor:
    """The durable twin of an event that came by itself: it says how far the session's history has been told."""
    seq = event["seq"]
    if isinstance(seq, bool) or not isinstance(seq, int) or seq < 0:
        raise TypeError("a sequence number is a whole number")
    return Cursor(identity(event["aggregateID"]), seq)


def child_opened(info: dict[str, Any]) -> ChildOpened | None:
    """The session of a sub-agent, as the server describes it; None when no other session opened it."""
    parent = info.get("parentID")
    if not parent:
        return None
    return ChildOpened(identity(info["id"]), identity(parent), cut(clean(info.get("title") or ""), TITLE_LIMIT))
