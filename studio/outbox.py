"""Publishing to a project's feed: the row is written in the caller's transaction, the doorbell rings after its commit."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import F

from studio import doorbell
from studio.kernel.clock import now
from studio.models import FeedEvent, FeedHead
from studio.topics import Event


def publish(project_id: uuid.UUID, topic: str, kind: str, payload: dict[str, Any]) -> None:
    """Append an event to the feed of `project_id`. Must be called inside the transaction that makes it true.

    The sequence number is taken under the lock of the project's head row, so the feed has no gap and the order of the
    numbers is the order of the commits. Keep payloads under 1 kB: readers fetch the rest.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("publish() belongs inside the transaction that makes its event true")
    if not FeedHead.objects.filter(pk=project_id).update(last_seq=F("last_seq") + 1):
        FeedHead.objects.get_or_create(pk=project_id)
        FeedHead.objects.filter(pk=project_id).update(last_seq=F("last_seq") + 1)
    seq = FeedHead.objects.values_list("last_seq", flat=True).get(pk=project_id)
    FeedEvent.objects.create(project_id=project_id, seq=seq, topic=topic, kind=kind, payload=payload, at=now())
    transaction.on_commit(lambda: _ring(project_id, topic), robust=True)


def _ring(project_id: uuid.UUID, topic: str) -> None:
    whole = f"project:{project_id}"
    doorbell.ring(whole)
    if topic != whole:
        doorbell.ring(topic)


def read_project(project_id: str, after: int, limit: int) -> list[Event]:
    """Events of a project after a cursor, ascending; each is shown under the project's topic."""
    rows = FeedEvent.objects.filter(project_id=project_id, seq__gt=after).order_by("seq")[:limit]
    return [
        Event(f"project:{project_id}", row.seq, row.kind, {**row.payload, "topic": row.topic}, row.at) for row in rows
    ]


def read_topic(topic: str, after: int, limit: int) -> list[Event]:
    """Events of one topic inside a project's feed, ascending; their numbers are the project's, so they may skip."""
    rows = FeedEvent.objects.filter(topic=topic, seq__gt=after).order_by("seq")[:limit]
    return [Event(topic, row.seq, row.kind, row.payload, row.at) for row in rows]


def project_head(project_id: str) -> int:
    """The last number of a project's feed, 0 when nothing happened yet."""
    return FeedHead.objects.filter(pk=project_id).values_list("last_seq", flat=True).first() or 0


def topic_head(topic: str) -> int:
    """The number of the last event of one topic, 0 when nothing happened yet."""
    return FeedEvent.objects.filter(topic=topic).order_by("-seq").values_list("seq", flat=True).first() or 0
