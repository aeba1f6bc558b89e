"""Ending a turn: by what the server says, never by a guess. A turn is settled once; later calls change nothing."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F

from agents.backend import LogEntry, TurnView
from agents.services import backend_for
from sessions_app import log as session_log
from sessions_app.models import Turn, TurnOutcome, TurnState
from sessions_app.signals import turn_settled
from studio.kernel.clock import now
from studio.kernel.errors import NotFound, Upstream
from studio.kernel.text import clean
from studio.queue import Names, enqueue

log = structlog.get_logger(__name__)

MAX_RESUMES = 5
# A prompt that was just accepted may not be visible yet; only after this long is its absence believed.
SETTLING_IN = timedelta(seconds=5)
# Reasons for which the studio itself ended a turn; any other abort was a person's.
WATCHDOG_CODES = {"stalled", "time_limit", "step_limit", "provider_error"}
NO_ANSWER = "It answered several times in a row without any content."


def settle(
    turn_id: uuid.UUID | str,
    outcome: TurnOutcome,
    *,
    error_code: str = "",
    error_message: str = "",
    result_text: str = "",
) -> bool:
    """Settle the turn; False when it was settled already. The epoch grows, so whoever still works on it is fenced off."""
    with transaction.atomic():
        changed = (
            Turn.objects.filter(pk=turn_id)
            .exclude(state=TurnState.SETTLED)
            .update(
                state=TurnState.SETTLED,
                outcome=outcome,
                error_code=error_code,
                error_message=clean(error_message),
                result_text=clean(result_text),
                retry_note="",
                retry_at=None,
                settled_at=now(),
                lease_owner="",
                lease_until=None,
                lease_epoch=F("lease_epoch") + 1,
            )
        )
        if not changed:
            return False
        turn = Turn.objects.select_related("session").get(pk=turn_id)
        data: dict[str, Any] = {"turn": turn.number, "outcome": outcome.value}
        if error_code:
            data |= {"error_code": error_code, "message": turn.error_message[:2000]}
        session_log.append(
            turn.session_id, [LogEntry(kind="turn.settled", key=f"turn.settled:{turn.pk}", data=data, at=now())]
        )
        turn_settled.send(sender=Turn, turn=turn)
    return True


def reconcile(turn_id: uuid.UUID | str) -> None:
    """Hold the turn against the server: fill the log, then settle it, resume it, or leave it running.

    This is the one way a turn ends, whether the stream said "idle" or was lost (opencode.md, section 6). Idempotent.
    """
    turn = Turn.objects.select_related("session__server").filter(pk=turn_id).first()
    if turn is None or turn.state not in (TurnState.DISPATCHING, TurnState.RUNNING) or not turn.session.external_id:
        return
    session = turn.session
    try:
        view = backend_for(session.server).view_turn(
            session=session.external_id, directory=session.directory, message_id=turn.message_id
        )
    except NotFound:
        settle(turn.pk, TurnOutcome.FAILED, error_code="session_lost")
        return
    except Upstream as error:
        log.info("reconcile_postponed", turn=str(turn.pk), error=error.message)
        return
    session_log.append(session.pk, view.events)
    if view.state == "running":
        Turn.objects.filter(pk=turn.pk).exclude(state=TurnState.SETTLED).update(
            retry_note=clean(view.retry_note), retry_at=view.retry_at
        )
    elif view.state in ("died", "absent"):
        _dead(turn, view)
    else:
        _ended(turn, view)


def _ended(turn: Turn, view: TurnView) -> None:
    """The server says how it ended; an abort is a failure when the studio's watchdog asked for it."""
    outcome = TurnOutcome(view.state)
    code, message = view.error_code, view.error_message
    if outcome == TurnOutcome.ABORTED and turn.abort_reason in WATCHDOG_CODES:
        outcome, code = TurnOutcome.FAILED, turn.abort_reason
        message = NO_ANSWER if code == "provider_error" else ""
    elif outcome == TurnOutcome.ABORTED:
        code = code or "aborted"
    settle(turn.pk, outcome, error_code=code, error_message=message, result_text=view.result_text)


def _dead(turn: Turn, view: TurnView) -> None:
    """The server is idle but never answered: it died in the turn, or the prompt never arrived. Send the same ids again."""
    if turn.abort_requested_at:
        failed = turn.abort_reason in WATCHDOG_CODES
        settle(
            turn.pk,
            TurnOutcome.FAILED if failed else TurnOutcome.ABORTED,
            error_code=turn.abort_reason if failed else "aborted",
            result_text=view.result_text,
        )
        return
    if view.state == "absent":
        settle(turn.pk, TurnOutcome.FAILED, error_code="session_lost")
        return
    dispatched = turn.last_event_at or turn.started_at
    same_boot = turn.server_boot == turn.session.server.boot
    if turn.state == TurnState.DISPATCHING or (same_boot and dispatched and now() - dispatched < SETTLING_IN):
        return
    if turn.resumes >= MAX_RESUMES:
        settle(
            turn.pk,
            TurnOutcome.FAILED,
            error_code="server_unreachable",
            error_message=f"The agent server ended {MAX_RESUMES + 1} times in the middle of this turn.",
        )
        return
    resume(turn)


def resume(turn: Turn) -> bool:
    """Send the turn's prompt again under its own ids; False when somebody else moved it on meanwhile."""
    with transaction.atomic():
        moved = Turn.objects.filter(pk=turn.pk, state=TurnState.RUNNING, lease_epoch=turn.lease_epoch).update(
            state=TurnState.ADMITTED,
            resumes=F("resumes") + 1,
            lease_epoch=F("lease_epoch") + 1,
            next_try_at=None,
            retry_note="",
            retry_at=None,
        )
        if moved:
            enqueue(Names.DISPATCH_TURN, turn.pk)
    return bool(moved)
