"""A turn's clock: the time in which it waits for a person, or for a known moment, is neither work nor silence."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from django.db.models import Case, FloatField, Q, Value, When

from sessions_app.models import Turn
from studio.kernel.clock import now

BATCH = 100  # turns of one statement


def hold(turn_id: uuid.UUID | str) -> None:
    """Stop the clock; idempotent. Belongs into the transaction that begins the waiting."""
    Turn.objects.filter(pk=turn_id, waiting_since__isnull=True).update(waiting_since=now())


def go(turn_id: uuid.UUID | str) -> None:
    """Let the clock go on; idempotent. Belongs into the transaction that ends the waiting."""
    turn = Turn.objects.filter(pk=turn_id, waiting_since__isnull=False).only("waiting_since", "waited_seconds").first()
    if turn is None or turn.waiting_since is None:
        return
    waited = max(0.0, (now() - turn.waiting_since).total_seconds())
    # Conditional on what was read, so that two callers do not count the same stretch twice.
    Turn.objects.filter(pk=turn_id, waiting_since=turn.waiting_since).update(
        waiting_since=None, waited_seconds=turn.waited_seconds + waited, last_event_at=now()
    )


def go_many(turns: Sequence[Turn]) -> None:
    """The same for many turns, as they were read, in a few statements."""
    at = now()
    for start in range(0, len(turns), BATCH):
        batch = [turn for turn in turns[start : start + BATCH] if turn.waiting_since is not None]
        waited = [
            When(pk=turn.pk, then=Value(turn.waited_seconds + max(0.0, (at - turn.waiting_since).total_seconds())))
            for turn in batch
            if turn.waiting_since is not None
        ]
        if not waited:
            continue
        # Conditional on what was read, as above: a turn whose clock was started or stopped since is left alone.
        unchanged = Q()
        for turn in batch:
            unchanged |= Q(pk=turn.pk, waiting_since=turn.waiting_since)
        Turn.objects.filter(unchanged).update(
            waited_seconds=Case(*waited, output_field=FloatField()), waiting_since=None, last_event_at=at
        )


def worked(turn: Turn, at: datetime | None = None) -> float:
    """Seconds that the turn has worked so far: since its start, without what it waited."""
    if turn.started_at is None:
        return 0.0
    at = at or now()
    waiting = (at - turn.waiting_since).total_seconds() if turn.waiting_since else 0.0
    return max(0.0, (at - turn.started_at).total_seconds() - turn.waited_seconds - max(0.0, waiting))
