"""Ending a turn, once: what was said is kept, the log says how, the inbox goes on, and the news travels upwards."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import Case, F, Q, When

from agents.backend import LogEntry
from sessions_app import log as session_log
from sessions_app.models import InboxItem, InboxState, Turn, TurnOutcome, TurnState
from sessions_app.services import ask_rows, clock, follow_up
from sessions_app.services.pause import NOT_HELD
from sessions_app.services.turns import lock_session
from sessions_app.signals import turn_settled
from studio.kernel.clock import now
from studio.kernel.faultpoints import reach
from studio.kernel.text import clean
from studio.queue import Names, enqueue

# Reasons for which the studio itself ended a turn; any other abort was a person's.
WATCHDOG_CODES = {
    "stalled",
    "time_limit",
    "step_limit",
    "provider_error",
    "looping",
    "budget_exceeded",
    "ask_expired",
}
# What the server has heard of and somebody has stopped.
STOPPED_AT_WORK = Q(abort_requested_at__isnull=False) & (Q(started_at__isnull=False) | Q(attempts__gt=0))
INTERRUPTED = "interrupted"  # by a person who has something else to say: their message opens the next turn
STOPPED_BY_PERSON, STOPPED_BY_OPERATOR = "stopped", "operator"  # who want no more of it
BY_PERSON = frozenset({STOPPED_BY_PERSON, STOPPED_BY_OPERATOR})


def settle(
    turn_id: uuid.UUID | str,
    outcome: TurnOutcome,
    *,
    error_code: str = "",
    error_message: str = "",
    result_text: str = "",
    unconfirmed: bool = False,
    not_stored: Sequence[str] = (),
) -> bool:
    """Settle the turn; False when it was settled already. The epoch grows, so whoever still works on it is fenced off.

    `not_stored` names messages that the server accepted and then lost: they wait again, under the same ids.
    `unconfirmed`: it may still run on the server. That is held against the server for every turn whose end was asked for.

    A turn does not complete while a steer is on its way to it: that message is its business too (False, and the delivery
    is asked for again), unless the turn is held or its end was asked for, for then nothing is delivered. After a completed or
    interrupted turn that no person has stopped the inbox opens the next one in the same transaction.
    """
    reach("settle.before")
    with transaction.atomic():
        found = Turn.objects.filter(pk=turn_id).values_list("session_id", flat=True).first()
        if found is None:
            return False
        lock_session(found)
        on_its_way = InboxItem.objects.filter(turn_id=turn_id, state=InboxState.SENDING)
        overtaken = on_its_way.exists()
        taking = Turn.objects.filter(pk=turn_id, abort_requested_at__isnull=True, hold__in=NOT_HELD)
        if outcome == TurnOutcome.COMPLETED and overtaken and taking.exists():
            enqueue(Names.DELIVER_MESSAGES, found)
            return False
        clock.go(turn_id)
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
                hold="",
                next_try_at=None,
                # A steer that still arrives lets an idle server begin anew.
                unconfirmed=unconfirmed or overtaken or Case(When(STOPPED_AT_WORK, then=True), default=False),
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
        ask_rows.withdraw(turn.pk)
        # What did not reach the agent waits on, under the ids that it was sent with.
        on_its_way.update(state=InboxState.WAITING, next_try_at=None)
        lost = InboxItem.objects.filter(turn_id=turn_id, state=InboxState.DELIVERED, message_id__in=not_stored)
        lost.update(state=InboxState.WAITING, next_try_at=None, delivered_at=None)
        if goes_on(turn):
            follow_up.open_next(turn.session_id, after=turn)
        if turn.unconfirmed:
            enqueue(Names.CONFIRM_STOPPED, turn.pk)
        turn_settled.send(sender=Turn, turn=turn)
        reach("settle.in_transaction")
    return True


def goes_on(turn: Turn) -> bool:
    """Whether what waits in the inbox opens the next turn by itself after this settled one; else a person decides."""
    if turn.abort_reason in BY_PERSON:
        return False
    return turn.outcome == TurnOutcome.COMPLETED or turn.abort_reason == INTERRUPTED


def settle_stopped(turn: Turn, *, message: str = "", result_text: str = "", not_stored: Sequence[str] = ()) -> bool:
    """Settle a turn whose end was asked for: it failed when the studio itself asked, with what was said then."""
    failed = turn.abort_reason in WATCHDOG_CODES
    return settle(
        turn.pk,
        TurnOutcome.FAILED if failed else TurnOutcome.ABORTED,
        error_code=turn.abort_reason if failed else "aborted",
        error_message=" ".join(part for part in (turn.error_message if failed else "", message) if part),
        result_text=result_text,
        not_stored=not_stored,
    )
