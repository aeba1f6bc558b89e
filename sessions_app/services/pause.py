"""Holding a turn without ending it: stopped on the server, kept here, and sent again under the same ids when released."""

from __future__ import annotations

import uuid

import structlog
from django.db import transaction
from django.db.models import F

from agents.services import backend_for
from sessions_app.models import Turn, TurnState
from sessions_app.services import ask_rows, clock
from sessions_app.services.turns import lock_session
from sessions_app.signals import turn_changed
from studio.kernel.clock import now
from studio.kernel.errors import NotFound, Upstream
from studio.queue import Names, enqueue

log = structlog.get_logger(__name__)

RELEASED = "released"  # it was released before the server had stopped it
NOT_HELD = ("", RELEASED)


def pause_turn(*, turn_id: uuid.UUID | str, reason: str) -> bool:
    """Hold the turn for `reason`; False when it is settled, held already, or being ended.

    A turn that was not sent stays where it is; a running one is stopped on the server by a job, and `reconcile` then
    holds it (see `park`). Idempotent.
    """
    with transaction.atomic():
        free = Turn.objects.filter(pk=turn_id, hold__in=NOT_HELD, abort_requested_at__isnull=True)
        held = free.exclude(state__in=[TurnState.SETTLED, TurnState.UNKNOWN]).update(hold=reason)
        if held:
            clock.hold(turn_id)
            enqueue(Names.PAUSE_TURN, turn_id)
            turn_changed.send(sender=Turn, turn=Turn.objects.get(pk=turn_id))
    return bool(held)


def stop_on_server(turn_id: uuid.UUID | str) -> None:
    """Stop what a held turn runs on the server. Idempotent; repeated by the sweeper until the turn is parked."""
    turn = Turn.objects.select_related("session__server").filter(pk=turn_id, state=TurnState.RUNNING).first()
    if turn is None or turn.hold in NOT_HELD or not turn.session.external_id:
        return
    try:
        backend_for(turn.session.server).abort(turn.session.external_id)
    except NotFound:
        log.info("pause_of_unknown_session", turn=str(turn.pk))
    except Upstream as error:
        log.info("pause_postponed", turn=str(turn.pk), error=error.message)
        return
    enqueue(Names.RECONCILE_TURN, turn.pk)


def park(turn: Turn, answered_until: str) -> bool:
    """The server has stopped a held turn: keep it to be sent again; False when it went on otherwise meanwhile.

    A turn that was released meanwhile is sent again at once.
    """
    released = turn.hold == RELEASED
    with transaction.atomic():
        lock_session(turn.session_id)
        parked = Turn.objects.filter(
            pk=turn.pk, state=TurnState.RUNNING, lease_epoch=turn.lease_epoch, hold=turn.hold
        ).update(
            state=TurnState.ADMITTED,
            hold="" if released else turn.hold,
            answered_until=answered_until,
            attempts=0,
            next_try_at=now() if released else None,
            retry_note="",
            retry_at=None,
            lease_epoch=F("lease_epoch") + 1,
        )
        if parked:
            ask_rows.lose(turn.pk)
        if parked and released:
            enqueue(Names.DISPATCH_TURN, turn.pk)
    return bool(parked)


def release_turn(*, turn_id: uuid.UUID | str) -> bool:
    """Let a held turn go on where it was; False when it is not held. Idempotent."""
    with transaction.atomic():
        held = Turn.objects.filter(pk=turn_id).exclude(hold__in=NOT_HELD)
        unsent = [TurnState.ADMITTED, TurnState.DISPATCHING]
        sent = held.filter(state__in=unsent).update(hold="", next_try_at=now())
        late = 0 if sent else held.filter(state=TurnState.RUNNING).update(hold=RELEASED)
        if not (sent or late):
            return False
        clock.go(turn_id)
        if sent:
            enqueue(Names.DISPATCH_TURN, turn_id)
        turn_changed.send(sender=Turn, turn=Turn.objects.get(pk=turn_id))
    return True
