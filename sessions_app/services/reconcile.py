"""Holding a turn against the server: the one way a turn ends, whether the stream said "idle" or was lost.

By what the server says, never by a guess (opencode.md, section 6).
"""

from __future__ import annotations

import uuid
from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import F

from agents.backend import TurnView
from agents.services import backend_for
from sessions_app import log as session_log
from sessions_app.models import AskState, InboxItem, InboxState, Turn, TurnOutcome, TurnState
from sessions_app.services import ask_rows
from sessions_app.services.pause import park
from sessions_app.services.retries import mark_unknown, plan_retry
from sessions_app.services.settle import WATCHDOG_CODES, settle, settle_stopped
from sessions_app.services.turns import lock_session
from sessions_app.signals import turn_changed
from studio.kernel.clock import now
from studio.kernel.errors import NotFound, Upstream
from studio.kernel.faultpoints import reach
from studio.kernel.text import clean
from studio.queue import Names, enqueue

log = structlog.get_logger(__name__)

MAX_RESUMES = 5
# A prompt that was just accepted may not be visible yet; only after this long is its absence believed.
SETTLING_IN = timedelta(seconds=5)
LOST = "The agent server no longer knows this session, so nobody can say how far the turn came."


def reconcile(turn_id: uuid.UUID | str) -> None:
    """Fill the log from the server's messages, then settle the turn, resume it, plan a retry, or leave it. Idempotent."""
    turn = Turn.objects.select_related("session__server").filter(pk=turn_id).first()
    if turn is None or turn.state not in (TurnState.DISPATCHING, TurnState.RUNNING) or not turn.session.external_id:
        return
    session = turn.session
    try:
        view = backend_for(session.server).view_turn(
            session=session.external_id,
            directory=session.directory,
            message_id=turn.message_id,
            steers=_steers(turn),
            answered_until=turn.answered_until,
        )
    except NotFound:
        view = TurnView(state="absent")
    except Upstream as error:
        log.info("reconcile_postponed", turn=str(turn.pk), error=error.message)
        return
    reach("reconcile.before_append")
    session_log.append(session.pk, view.events)
    reach("reconcile.after_append")
    if view.state == "running":
        note_retry(turn, view)
    elif view.state == "absent":
        _absent(turn)
    elif view.missing and not turn.abort_requested_at and turn.state == TurnState.RUNNING and send_again(turn, view):
        return
    elif view.state == "died":
        _dead(turn, view)
    else:
        _ended(turn, view)


def _steers(turn: Turn) -> list[str]:
    """The ids of the messages that were sent to the turn while it ran, in order."""
    sent = InboxItem.objects.filter(turn=turn, state__in=[InboxState.SENDING, InboxState.DELIVERED])
    ids = sent.exclude(message_id__in=["", turn.message_id]).order_by("position").values_list("message_id", flat=True)
    return list(dict.fromkeys(ids))


def note_retry(turn: Turn, view: TurnView) -> None:
    """Write down what the server waits for; who shows it hears of a change."""
    note, at = clean(view.retry_note), view.retry_at
    if (turn.retry_note, turn.retry_at) == (note, at):
        return
    with transaction.atomic():
        running = Turn.objects.filter(pk=turn.pk).exclude(state=TurnState.SETTLED)
        if running.update(retry_note=note, retry_at=at):
            turn_changed.send(sender=Turn, turn=turn)


def send_again(turn: Turn, view: TurnView) -> bool:
    """Ask for messages again that the server accepted and then lost (it died before it stored them); whether there were."""
    lost = InboxItem.objects.filter(turn=turn, state=InboxState.DELIVERED, message_id__in=view.missing)
    settling_in = now() - SETTLING_IN
    if lost.filter(delivered_at__gt=settling_in).exists():
        return True  # it may not be visible yet
    if lost.filter(attempts__lt=MAX_RESUMES).update(state=InboxState.SENDING, next_try_at=None):
        enqueue(Names.DELIVER_MESSAGES, turn.session_id)
        return True
    return InboxItem.objects.filter(turn=turn, state=InboxState.SENDING).exists()


def _ended(turn: Turn, view: TurnView) -> None:
    """The server says how it ended; an abort is a failure when the studio's watchdog asked for it."""
    outcome = TurnOutcome(view.state)
    code, message = view.error_code, view.error_message
    if outcome == TurnOutcome.COMPLETED and view.cut_off and turn.abort_requested_at:
        # The server may let an agent go on whose sub-agent was just stopped; a quick model then answers to half the work.
        outcome = TurnOutcome.ABORTED
    if outcome == TurnOutcome.ABORTED and turn.hold and not turn.abort_requested_at:
        park(turn, view.last_answer)
        return
    if outcome == TurnOutcome.ABORTED and not turn.abort_requested_at and _stopped_with_its_server(turn, view):
        return
    if outcome == TurnOutcome.ABORTED and turn.abort_reason in WATCHDOG_CODES:
        outcome, code = TurnOutcome.FAILED, turn.abort_reason
        message = turn.error_message
        passing = code == "stalled"
    elif outcome == TurnOutcome.ABORTED:
        code, passing = code or "aborted", False
    else:
        passing = view.retryable and not turn.abort_requested_at
    if outcome == TurnOutcome.FAILED and passing and plan_retry(turn, code, message, answered_until=view.last_answer):
        return
    settle(
        turn.pk,
        outcome,
        error_code=code,
        error_message=message,
        result_text=view.result_text,
        not_stored=view.missing,
    )


def _stopped_with_its_server(turn: Turn, view: TurnView) -> bool:
    """Whether a turn that nobody stopped was aborted because its server was stopped in good order, or may have been.

    Such a turn goes on on the new process. While the old one still answers, it is looked at again a moment later.
    """
    try:
        boot = backend_for(turn.session.server).health().boot
    except Upstream as error:
        log.info("reconcile_postponed", turn=str(turn.pk), error=error.message)
        return True
    if boot == turn.server_boot:
        seen = Turn.objects.filter(pk=turn.pk).values_list("last_event_at", flat=True).first()
        return seen is not None and now() - seen < SETTLING_IN
    resume(turn, answered_until=view.last_answer)
    return True


def _absent(turn: Turn) -> None:
    """The session is gone from the server. An end that was asked for is reached; anything else only a person can decide."""
    if turn.abort_requested_at:
        settle_stopped(turn)
    elif turn.server_boot != turn.session.server.boot or turn.state == TurnState.RUNNING:
        mark_unknown(turn, LOST)


def _dead(turn: Turn, view: TurnView) -> None:
    """The server is idle but never answered: it died in the turn, or the prompt never arrived. Send the same ids again."""
    if turn.abort_requested_at:
        settle_stopped(turn, result_text=view.result_text, not_stored=view.missing)
        return
    dispatched = turn.last_event_at or turn.started_at
    same_boot = turn.server_boot == turn.session.server.boot
    if turn.state == TurnState.DISPATCHING or (same_boot and dispatched and now() - dispatched < SETTLING_IN):
        return
    if turn.hold:
        park(turn, view.last_answer)
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


def resume(turn: Turn, *, answered_until: str = "") -> bool:
    """Send the turn's prompt again under its own ids; False when somebody else moved it on meanwhile.

    `answered_until` names the answer with which the server was stopped in good order. Neither that nor a server's death
    under a turn that waited for a person counts: nothing has failed.
    """
    with transaction.atomic():
        lock_session(turn.session_id)
        waited = turn.asks.filter(state=AskState.PENDING).exists()
        moved = Turn.objects.filter(pk=turn.pk, state=TurnState.RUNNING, lease_epoch=turn.lease_epoch).update(
            state=TurnState.ADMITTED,
            resumes=F("resumes") + (0 if waited or answered_until else 1),
            answered_until=answered_until or F("answered_until"),
            lease_epoch=F("lease_epoch") + 1,
            attempts=0,
            next_try_at=None,
            retry_note="",
            retry_at=None,
        )
        if moved:
            ask_rows.lose(turn.pk)
            enqueue(Names.DISPATCH_TURN, turn.pk)
    return bool(moved)
