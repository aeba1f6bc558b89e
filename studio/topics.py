"""The registry of live topics: what can be subscribed to, who may, and how its rows are read.

A topic's name is `kind:id`. The app that owns the rows registers the kind in its AppConfig.ready(); the WebSocket
consumer, the hub and the HTTP readers know only this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from studio.kernel.errors import Invalid


@dataclass(frozen=True, slots=True)
class Event:
    """One numbered event of a topic as its readers get it."""

    topic: str
    seq: int
    kind: str
    data: dict[str, Any]
    at: datetime

    def frame(self) -> dict[str, Any]:
        """The event as it goes over the wire (design.md, section 11)."""
        return {
            "type": "event",
            "topic": self.topic,
            "seq": self.seq,
            "kind": self.kind,
            "data": self.data,
            "at": self.at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class TopicKind:
    """How one kind of topic is authorised and read; every function runs in a thread that may use the database."""

    may_see: Callable[[Any, str], bool]  # (user, id)
    read: Callable[[str, int, int], list[Event]]  # (id, after seq, limit): ascending
    head: Callable[[str], int]  # (id): the last seq, 0 when there is none
    # ({id: after seq}, limit): of several ids at once, each ascending; at most `limit` in all. None: one after the other.
    read_many: Callable[[dict[str, int], int], list[Event]] | None = None


_kinds: dict[str, TopicKind] = {}


def register(kind: str, topic: TopicKind) -> None:
    """Make `kind` known. Registering it again replaces it, so that a reloaded app is harmless."""
    _kinds[kind] = topic


def resolve(topic: str) -> tuple[TopicKind, str]:
    """The kind and the id of a topic's name. Raises Invalid for a name that no app registered."""
    kind, _, subject = topic.partition(":")
    if kind not in _kinds or not subject or len(topic) > 80:
        raise Invalid(f"There is no topic called {topic[:80]!r}.", code="unknown_topic")
    return _kinds[kind], subject


def read_many(kind: str, cursors: dict[str, int], limit: int) -> list[Event]:
    """The events of several topics of one kind after their cursors, ascending in each topic.

    Fewer than `limit` events are all there are.
    """
    how = _kinds[kind]
    subjects = {topic.partition(":")[2]: after for topic, after in cursors.items()}
    if how.read_many:
        return how.read_many(subjects, limit)
    return [event for subject, after in subjects.items() for event in how.read(subject, after, limit)]
