"""A turn's clock: the time in which it waits for a person, or for a known moment, is neither work nor silence."""

from __future__ import annotations

import uuid
from datetime import datetime

from sessions_app.models import Turn
from studio.kernel.clock import now


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


def worked(turn: Turn, at: datetime | None = None) -> float:
    """Seconds that the turn has worked so far: since its start, without what it waited."""
    if turn.started_at is None:
        return 0.0
    at = at or now()
    waiting = (at - turn.waiting_since).total_seconds() if turn.waiting_since else 0.0
    return max(0.0, (at - turn.started_at).total_seconds() - turn.waited_seconds - max(0.0, waiting))
