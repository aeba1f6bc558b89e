"""The registry of live topics: what can be subscribed to, who may, and how its rows are read.

A topic's name is `kind:id`, the id a UUID in its usual form. The app that owns the rows registers the kind in its AppConfig.ready(); the WebSocket
consumer, the hub and the HTTP readers know only this table.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from studio.kernel.errors import Invalid

if TYPE_CHECKING:
    from django.db.models import QuerySet


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

    visible: Callable[[Any, set[uuid.UUID]], set[uuid.UUID]]  # (user, ids): those that the user may see
    read: Callable[[str, int, int], list[Event]]  # (id, after seq, limit): ascending
    head: Callable[[str], int]  # (id): the last seq, 0 when there is none
    # ({id: after seq}, limit): of several ids at once, each ascending; at most `limit` in all. None: one after the other.
    read_many: Callable[[dict[str, int], int], list[Event]] | None = None


_kinds: dict[str, TopicKind] = {}


def register(kind: str, topic: TopicKind) -> None:
    """Make `kind` known. Registering it again replaces it, so that a reloaded app is harmless."""
    _kinds[kind] = topic


def among(visible_to: Callable[[Any], QuerySet[Any]]) -> Callable[[Any, set[uuid.UUID]], set[uuid.UUID]]:
    """A kind's `visible` from the selector of the rows that a user may see."""
    return lambda user, ids: set(visible_to(user).filter(pk__in=ids).values_list("pk", flat=True))


def resolve(topic: str) -> tuple[TopicKind, str]:
    """The kind and the id of a topic's name. Raises Invalid for a name that is none."""
    if not is_known(topic):
        raise Invalid(f"There is no topic called {topic[:80]!r}.", code="unknown_topic")
    kind, _, subject = topic.partition(":")
    return _kinds[kind], subject


def is_known(topic: str) -> bool:
    """Whether this can be a topic's name: its kind is registered and its id is written as the rows' own are.

    An id in another form would be the same topic under a second name, which nobody rings for.
    """
    kind, _, subject = topic.partition(":")
    try:
        return kind in _kinds and str(uuid.UUID(subject)) == subject
    except ValueError:
        return False


def visible(kind: str, user: Any, names: Iterable[str]) -> set[str]:
    """The topics of one kind that `user` may see. Raises Invalid for a name that is none."""
    ids = {uuid.UUID(resolve(name)[1]) for name in names}
    return {f"{kind}:{one}" for one in _kinds[kind].visible(user, ids)}


def head_of(topic: str) -> int:
    """The last seq of the topic, 0 when it is empty."""
    kind, subject = resolve(topic)
    return kind.head(subject)


def read_many(kind: str, cursors: dict[str, int], limit: int) -> list[Event]:
    """The events of several topics of one kind after their cursors, ascending in each topic.

    Fewer than `limit` events are all there are.
    """
    how = _kinds[kind]
    subjects = {topic.partition(":")[2]: after for topic, after in cursors.items()}
    if how.read_many:
        return how.read_many(subjects, limit)
    return [event for subject, after in subjects.items() for event in how.read(subject, after, limit)]
