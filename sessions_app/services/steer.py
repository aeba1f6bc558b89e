"""Carrying steers to a running turn, exactly once: the batch and its ids are stored before it is sent.

The server makes a repeated POST of the same message and part ids a no-op, so after a crash the batch is simply sent again.
"""

from __future__ import annotations

import uuid

import structlog
from django.db import transaction
from django.db.models import F, Q, QuerySet

from agents.backend import Prompt
from agents.services import backend_for
from sessions_app.models import AgentSession, Delivery, InboxItem, InboxState, SessionEvent, Turn, TurnState
from sessions_app.services.follow_up import delivered, joined
from sessions_app.services.pause import NOT_HELD
from sessions_app.services.turns import lock_session
from studio.kernel.clock import later, now
from studio.kernel.errors import NotFound, Upstream
from studio.kernel.ids import derived_id
from studio.queue import Names, enqueue

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 5.0  # after a try whose end nobody saw
BACKOFF_CAP = 15.0  # seconds


def deliver(session_id: uuid.UUID | str) -> None:
    """Send what steers the session's running turn. Idempotent; two at once send the same ids, which is harmless."""
    batch = _claim(session_id)
    if not batch:
        return
    turn = batch[0].turn
    assert turn is not None  # noqa: S101 -- for the type checker: the claim set it
    session = AgentSession.objects.select_related("server").get(pk=session_id)
    try:
        backend_for(session.server).admit(steer_prompt(session, turn, batch))
    except NotFound:
        enqueue(
            Names.RECONCILE_TURN, turn.pk
        )  # the session is gone: the turn's end decides what becomes of the messages
    except Upstream as error:
        delay = min(BACKOFF_CAP, 0.5 * 2 ** min(batch[0].attempts, 6))
        _sending(batch).update(next_try_at=later(delay))
        log.info("steer_postponed", session=str(session_id), error=error.message)
    else:
        _mark_delivered(session, turn, batch)


def steer_prompt(session: AgentSession, turn: Turn, batch: list[InboxItem]) -> Prompt:
    """The batch as one message under its stored ids."""
    return Prompt(
        external_session=session.external_id,
        directory=session.directory,
        message_id=batch[0].message_id,
        part_id=batch[0].part_id,
        agent=turn.agent,
        model=turn.model,
        system=turn.system,
        text=joined(batch),
    )


def sent_batches(turn: Turn) -> list[list[InboxItem]]:
    """The batches that were sent to the turn while it ran, oldest first: a resumed turn is given them again."""
    items = InboxItem.objects.filter(turn=turn, state__in=[InboxState.SENDING, InboxState.DELIVERED])
    batches: dict[str, list[InboxItem]] = {}
    for item in items.exclude(message_id__in=["", turn.message_id]).order_by("position"):
        batches.setdefault(item.message_id, []).append(item)
    return list(batches.values())


def _claim(session_id: uuid.UUID | str) -> list[InboxItem]:
    """The batch to send now: one that was cut off, else all steers that wait together, with ids of their own."""
    with transaction.atomic():
        session = lock_session(session_id)
        if session is None:
            return []
        turn = session.turns.exclude(state=TurnState.SETTLED).first()
        if turn is None:
            if session.inbox.filter(state=InboxState.WAITING).exists():
                enqueue(Names.OPEN_NEXT_TURN, session_id)
            return []
        if turn.state != TurnState.RUNNING or turn.abort_requested_at or turn.hold not in NOT_HELD or not _begun(turn):
            return []
        due = Q(next_try_at__isnull=True) | Q(next_try_at__lte=now())
        cut_off = session.inbox.filter(state=InboxState.SENDING, turn=turn).order_by("position").first()
        if cut_off is not None:
            items = list(session.inbox.filter(due, state=InboxState.SENDING, message_id=cut_off.message_id))
        else:
            items = _new_batch(session, turn)
        ids = [item.pk for item in items]
        InboxItem.objects.filter(pk__in=ids).update(attempts=F("attempts") + 1, next_try_at=later(AGAIN_SECONDS))
        return list(InboxItem.objects.select_related("turn").filter(pk__in=ids).order_by("position"))


def _begun(turn: Turn) -> bool:
    """Whether the server has stored the turn's prompt: in a directory that it still loads, a steer would overtake it."""
    return SessionEvent.objects.filter(session_id=turn.session_id, upstream_key=f"user:{turn.message_id}").exists()


def _new_batch(session: AgentSession, turn: Turn) -> list[InboxItem]:
    waiting = session.inbox.filter(state=InboxState.WAITING, delivery=Delivery.STEER).order_by("position")
    items = list(waiting)
    if not items:
        return []
    again = [item for item in items if item.message_id]
    if again:
        items = [item for item in again if item.message_id == again[0].message_id]
    first, at = items[0], now()
    InboxItem.objects.filter(pk__in=[item.pk for item in items]).update(
        state=InboxState.SENDING,
        turn=turn,
        message_id=first.message_id or derived_id("msg", first.pk, at, 1),
        part_id=first.part_id or derived_id("prt", first.pk, at, 2),
    )
    return items


def _mark_delivered(session: AgentSession, turn: Turn, batch: list[InboxItem]) -> None:
    with transaction.atomic():
        lock_session(session.pk)
        if not _sending(batch).update(state=InboxState.DELIVERED, delivered_at=now(), next_try_at=None):
            # The turn may have ended while this was on its way; then an idle server has begun anew with it.
            if Turn.objects.filter(pk=turn.pk, state=TurnState.SETTLED).update(unconfirmed=True, next_try_at=None):
                enqueue(Names.CONFIRM_STOPPED, turn.pk)
            return
        for item in batch:
            delivered(item, session, turn)
        if session.inbox.filter(state=InboxState.WAITING, delivery=Delivery.STEER).exists():
            enqueue(Names.DELIVER_MESSAGES, session.pk)


def _sending(batch: list[InboxItem]) -> QuerySet[InboxItem]:
    return InboxItem.objects.filter(pk__in=[item.pk for item in batch], state=InboxState.SENDING)
