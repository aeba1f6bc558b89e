"""Finding what a lost doorbell left behind. Any number of sweepers, at any time, is safe: they only ring bells again."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Q, QuerySet

from sessions_app.models import (
    AgentSession,
    Ask,
    AskKind,
    AskState,
    Delivery,
    InboxItem,
    InboxState,
    Turn,
    TurnState,
)
from sessions_app.services import commands, disposal
from sessions_app.services.pause import RELEASED
from sessions_app.services.settle import goes_on
from sessions_app.services.stopping import unconfirmed_now
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
    sendable = Q(state=TurnState.ADMITTED, hold="") | Q(state=TurnState.DISPATCHING)
    due = Turn.objects.filter(free, sendable).filter(
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
    for turn_id in (
        Turn.objects.filter(state=TurnState.RUNNING).exclude(hold__in=["", RELEASED]).values_list("pk", flat=True)
    ):
        enqueue(Names.PAUSE_TURN, turn_id)
        rung += 1
    for turn_id in unconfirmed_now():
        enqueue(Names.CONFIRM_STOPPED, turn_id)
        rung += 1
    if Ask.objects.filter(kind=AskKind.BUDGET, state=AskState.PENDING).exists():
        enqueue(Names.RECONSIDER_BUDGETS)
        rung += 1
    return rung + _sweep_inbox() + commands.sweep() + disposal.ring_for_unused()


def _sweep_inbox() -> int:
    """Ring for messages that should be on their way."""
    at = now()
    moment = Q(next_try_at__isnull=True) | Q(next_try_at__lte=at)
    late = InboxItem.objects.filter(moment, created_at__lte=at - OVERDUE)
    steering = Q(state=InboxState.WAITING, delivery=Delivery.STEER, session__turns__state=TurnState.RUNNING)
    sessions = set(late.filter(Q(state=InboxState.SENDING) | steering).values_list("session_id", flat=True))
    for session_id in sessions:
        enqueue(Names.DELIVER_MESSAGES, session_id)
    waiting = late.filter(state=InboxState.WAITING).exclude(session__turns__in=_unsettled())
    opening = [
        session
        for session in AgentSession.objects.filter(pk__in=waiting.values("session_id"))
        if _goes_on(session.turns.order_by("-number").first())
    ]
    for session in opening:
        enqueue(Names.OPEN_NEXT_TURN, session.pk)
    return len(sessions) + len(opening)


def _unsettled() -> QuerySet[Turn]:
    return Turn.objects.exclude(state=TurnState.SETTLED)


def _goes_on(last: Turn | None) -> bool:
    return last is None or goes_on(last)
