"""Finding what a lost doorbell left behind. Any number of sweepers, at any time, is safe: they only ring bells again."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Q

from sessions_app.models import Turn, TurnState
from studio.kernel.claim import release_dead
from studio.kernel.clock import now
from studio.queue import Names, enqueue

# A turn that is due for longer than this was missed by its own doorbell.
OVERDUE = timedelta(seconds=2)
# The bridge reconciles running turns itself; without a bridge this long, a job does.
BRIDGE_SILENT = timedelta(seconds=20)


def sweep() -> int:
    """Ring for every due turn; how many bells were rung."""
    at = now()
    release_dead(Turn)
    free = Q(lease_until__isnull=True) | Q(lease_until__lte=at)
    due = Turn.objects.filter(free, state__in=[TurnState.ADMITTED, TurnState.DISPATCHING]).filter(
        Q(next_try_at__lte=at) | Q(next_try_at__isnull=True, created_at__lte=at - OVERDUE)
    )
    rung = 0
    for turn_id in due.values_list("pk", flat=True):
        enqueue(Names.DISPATCH_TURN, turn_id)
        rung += 1
    unread = Q(session__server__lease_until__isnull=True) | Q(session__server__lease_until__lte=at - BRIDGE_SILENT)
    for turn_id in Turn.objects.filter(unread, state=TurnState.RUNNING).values_list("pk", flat=True):
        enqueue(Names.RECONCILE_TURN, turn_id)
        rung += 1
    stopping = Turn.objects.filter(abort_requested_at__lte=at - OVERDUE).exclude(state=TurnState.SETTLED)
    for turn_id in stopping.values_list("pk", flat=True):
        enqueue(Names.ABORT_TURN, turn_id)
        rung += 1
    return rung
