"""Ending a turn, once: what was said is kept, the log says how, the inbox goes on, and the news travels upwards."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import F

from agents.backend import LogEntry
from sessions_app import log as session_log
from sessions_app.models import InboxItem, InboxState, Turn, TurnOutcome, TurnState
from sessions_app.services import clock, follow_up
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
INTERRUPTED = "interrupted"  # by a person who has something else to say: their message opens the next turn


def settle(
    turn_id: uuid.UUID | str,
    outcome: TurnOutcome,
    *,
    error_code: str = "",
    error_message: str = "",
    result_text: str = "",
) -> bool:
    """Settle the turn; False when it was settled already. The epoch grows, so whoever still works on it is fenced off.

    A turn does not complete while a steer is on its way to it: that message is its business too (False, and the delivery
    is asked for again). After a completed or interrupted turn the inbox opens the next one in the same transaction.
    """
    reach("settle.before")
    with transaction.atomic():
        found = Turn.objects.filter(pk=turn_id).values_list("session_id", flat=True).first()
        if found is None:
            return False
        lock_session(found)
        on_its_way = InboxItem.objects.filter(turn_id=turn_id, state=InboxState.SENDING)
        if outcome == TurnOutcome.COMPLETED and on_its_way.exists():
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
        # What did not reach the agent waits on, under the ids that it was sent with.
        on_its_way.update(state=InboxState.WAITING, next_try_at=None)
        if outcome == TurnOutcome.COMPLETED or turn.abort_reason == INTERRUPTED:
            follow_up.open_next(turn.session_id, after=turn)
        turn_settled.send(sender=Turn, turn=turn)
        reach("settle.in_transaction")
    return True
