"""Counting what the agents' steps use: a row for each, written together with the log's entry of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db.models import Q

from agents.backend import LogEntry
from sessions_app.models import AgentSession, Budget, Turn, TurnState, Usage
from sessions_app.usage import Used, day_of
from studio.kernel.clock import now
from studio.queue import Names, enqueue

MAX_COUNT = 2**40  # tokens of one step; more is rubbish
MAX_COST = Decimal(100_000)  # US dollars of one step
MAX_TOTAL = Decimal(999_999)  # US dollars of one session: what its column holds
MAX_CONTEXT = 2**31 - 1
TOTALS = ["cost", "tokens_input", "tokens_output", "tokens_reasoning", "tokens_cached", "context_tokens"]


def used_by(entry: LogEntry) -> Used:
    """What the entry of a finished step says; what is no number counts as nothing."""
    tokens = entry.data.get("tokens")
    counts = tokens if isinstance(tokens, dict) else {}
    names = ("input", "output", "reasoning", "cached")
    numbers = {name: _count(counts.get(name)) for name in names}
    cost = _cost(entry.data.get("cost"))
    return Used(cost, **numbers, steps=1, unpriced=int(cost == 0 and any(numbers.values())))


def record(sessions: Mapping[uuid.UUID, AgentSession], steps: Mapping[uuid.UUID, list[LogEntry]]) -> None:
    """Count finished steps, those of sub-agents too: a row each, and the sums of their sessions.

    Belongs into the transaction that appends `steps` to the logs, under the locks of `sessions`: the log has each key once,
    so each step counts once. Two queries and one insert for all, and an update a session.
    """
    turns = _turns(steps)
    rows: list[Usage] = []
    for pk, entries in steps.items():
        session, turn = sessions[pk], turns.get(pk)
        for entry in entries:
            used = used_by(entry)
            rows.append(_row(session, turn, entry, used))
            session.cost = min(session.cost + used.cost, MAX_TOTAL)
            session.tokens_input += used.input
            session.tokens_output += used.output
            session.tokens_reasoning += used.reasoning
            session.tokens_cached += used.cached
            if "child" not in entry.data and used.input + used.cached:
                session.context_tokens = min(used.input + used.cached, MAX_CONTEXT)
        session.save(update_fields=TOTALS)
    Usage.objects.bulk_create(rows, batch_size=200, ignore_conflicts=True)
    projects = {sessions[pk].project_id for pk in steps}
    if Budget.objects.filter(Q(project__in=projects) | Q(project=None), enabled=True).exists():
        enqueue(Names.CHECK_BUDGETS, *steps)


def _row(session: AgentSession, turn: dict[str, Any] | None, entry: LogEntry, used: Used) -> Usage:
    at = min(entry.at, now())  # a server's clock may be ahead
    known = turn or {}
    return Usage(
        session=session,
        turn_id=known.get("pk"),
        project_id=session.project_id,
        key=entry.key,
        subject=session.subject,
        run=known.get("tool_subject", ""),
        role=session.role,
        model=known.get("model") or session.model or known.get("session__server__default_model", ""),
        cost=used.cost,
        tokens_input=used.input,
        tokens_output=used.output,
        tokens_reasoning=used.reasoning,
        tokens_cached=used.cached,
        day=day_of(at),
        at=at,
    )


def _turns(session_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, dict[str, Any]]:
    """The turn of each session that its steps belong to: the newest that was sent."""
    sent = Q(started_at__isnull=False) | Q(state=TurnState.DISPATCHING)
    fields = ("pk", "session_id", "tool_subject", "model", "session__server__default_model")
    rows = Turn.objects.filter(sent, session_id__in=list(session_ids)).order_by("number").values(*fields)
    return {row["session_id"]: row for row in rows}


def _count(value: Any) -> int:
    """A number of tokens as it may be stored; nothing for what is none."""
    usable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT
    return value if usable else 0


def _cost(value: Any) -> Decimal:
    """A step's cost as it may be stored; nothing for what is none."""
    try:
        cost = Decimal(str(value or 0))
    except InvalidOperation:
        return Decimal(0)
    return cost if cost.is_finite() and 0 <= cost <= MAX_COST else Decimal(0)
