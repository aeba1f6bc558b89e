"""The log of a session: the only writer of SessionEvent.

Numbers are taken under the lock of the session's row, so a log has no gap and its order is the order of the commits.
An entry carries a semantic key (`tool.finished:prt_…`), the same whether it came from the event stream or from the
server's messages: appending it again is a no-op, and a replay after a lost stream fills in exactly what is missing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from decimal import Decimal

from django.db import transaction
from django.db.models import F

from agents.backend import LogEntry
from sessions_app.models import AgentSession, SessionEvent, Turn, TurnState
from studio import doorbell
from studio.kernel.clock import now

STEP = "step.finished"


def append(session_id: uuid.UUID, entries: Iterable[LogEntry]) -> list[LogEntry]:
    """Append what the log does not have yet; the entries that were new, in order. Idempotent by key.

    Tokens, cost and the running turn's step count follow from the new entries in the same transaction, so they are
    counted exactly once.
    """
    wanted = {entry.key: entry for entry in entries}
    if not wanted:
        return []
    with transaction.atomic():
        session = AgentSession.objects.select_for_update().get(pk=session_id)
        known = set(
            SessionEvent.objects.filter(session=session, upstream_key__in=wanted).values_list("upstream_key", flat=True)
        )
        new = [entry for key, entry in wanted.items() if key not in known]
        if not new:
            return []
        SessionEvent.objects.bulk_create(
            SessionEvent(
                session=session, seq=seq, kind=entry.kind, upstream_key=entry.key, data=entry.data, at=entry.at
            )
            for seq, entry in enumerate(new, start=session.last_seq + 1)
        )
        session.last_seq += len(new)
        _count_usage(session, new)
        session.save(
            update_fields=["last_seq", "cost", "tokens_input", "tokens_output", "tokens_reasoning", "tokens_cached"]
        )
        steps = sum(1 for entry in new if entry.kind == STEP and "child" not in entry.data)
        Turn.objects.filter(session=session, state__in=[TurnState.DISPATCHING, TurnState.RUNNING]).update(
            last_event_at=now(), steps=F("steps") + steps
        )
        transaction.on_commit(lambda: doorbell.ring(f"session:{session_id}"), robust=True)
    return new


def _count_usage(session: AgentSession, entries: list[LogEntry]) -> None:
    for entry in entries:
        if entry.kind != STEP:
            continue
        tokens = entry.data.get("tokens", {})
        session.cost += Decimal(str(entry.data.get("cost", 0)))
        session.tokens_input += int(tokens.get("input", 0))
        session.tokens_output += int(tokens.get("output", 0))
        session.tokens_reasoning += int(tokens.get("reasoning", 0))
        session.tokens_cached += int(tokens.get("cached", 0))


def note_activity(session_id: uuid.UUID) -> None:
    """The running turn of the session showed a sign of life that is no entry."""
    Turn.objects.filter(session_id=session_id, state__in=[TurnState.DISPATCHING, TurnState.RUNNING]).update(
        last_event_at=now()
    )
