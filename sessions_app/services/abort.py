"""Stopping a turn, for a person or for a watchdog."""

from __future__ import annotations

import uuid
from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import Q

from agents.services import backend_for
from sessions_app.models import Turn, TurnState
from sessions_app.services.reconcile import reconcile
from sessions_app.services.settle import BY_PERSON, WATCHDOG_CODES, settle_stopped
from studio.kernel.clock import now
from studio.kernel.errors import NotFound, Upstream
from studio.kernel.faultpoints import reach
from studio.kernel.text import clean
from studio.queue import Names, enqueue

log = structlog.get_logger(__name__)

# A server that cannot be reached for this long has no running turn that the studio could still follow.
UNREACHABLE_LIMIT = timedelta(seconds=60)


def request_abort(*, turn_id: uuid.UUID | str, reason: str, message: str = "") -> bool:
    """Ask for the turn's end; False when it is settled or was asked before. A turn that was never sent ends at once.

    The first reason counts, but a person who wants no more of it is never overruled: neither is it tried again then, nor does
    another turn follow.
    `message` says more than the reason's own sentence, when the reason is the studio's.
    """
    why = {"error_message": clean(message)} if reason in WATCHDOG_CODES else {}
    free = Q(abort_requested_at__isnull=True)
    if reason in BY_PERSON:
        free |= ~Q(abort_reason__in=BY_PERSON)
    with transaction.atomic():
        asked = (
            Turn.objects.filter(free, pk=turn_id)
            .exclude(state=TurnState.SETTLED)
            .update(abort_requested_at=now(), abort_reason=reason, **why)
        )
        if asked:
            enqueue(Names.ABORT_TURN, turn_id)
    return bool(asked)


def abort(turn_id: uuid.UUID | str) -> None:
    """End a turn whose end was asked for. Idempotent; repeated by the sweeper until the turn is settled."""
    turn = Turn.objects.select_related("session__server").filter(pk=turn_id, abort_requested_at__isnull=False).first()
    if turn is None or turn.state == TurnState.SETTLED:
        return
    if turn.state == TurnState.UNKNOWN:
        settle_stopped(turn)
        return
    if not turn.session.external_id or (turn.state == TurnState.ADMITTED and turn.started_at is None):
        settle_stopped(turn)  # the server never heard of it
        return
    try:
        reach("abort.before_post")
        backend_for(turn.session.server).abort(turn.session.external_id)
        reach("abort.after_post")
    except NotFound:
        settle_stopped(turn, message="The agent server no longer knows this session.")
    except Upstream as error:
        log.info("abort_postponed", turn=str(turn.pk), error=error.message)
        asked = turn.abort_requested_at
        if asked and now() - asked > UNREACHABLE_LIMIT:
            settle_stopped(turn, message="The agent server could not be reached to stop the turn.")
    else:
        if turn.state == TurnState.ADMITTED:
            settle_stopped(turn)
        else:
            reconcile(turn.pk)
