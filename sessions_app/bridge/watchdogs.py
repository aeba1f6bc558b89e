"""The limits that the agent server does not have: wall time, silence, steps of one turn, budgets, and going round in circles.

A tick costs the same few statements for one running turn and for a thousand.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db.models import Exists, F, OuterRef

from sessions_app.bridge.loops import KINDS, SAME_ANSWERS, SAME_CALLS, WINDOW, circling, steps_of
from sessions_app.models import Ask, AskState, SessionEvent, Turn, TurnState
from sessions_app.services import budgets, clock
from sessions_app.services.abort import request_abort
from sessions_app.services.pause import RELEASED
from studio.kernel.clock import now

log = structlog.get_logger(__name__)

NO_ANSWER = "It answered several times in a row without any content."
SAID = {"provider_error": NO_ANSWER}
LOOKED_THROUGH = 100  # logs that one tick reads for repetitions
BUDGET_SECONDS = 10.0  # between two looks at the budgets; a job looks after each step, unless its doorbell was lost


def overrun(turn: Turn, at: datetime | None = None) -> str:
    """The error code of the limit that `turn` has passed, or the empty string.

    The time in which it waits for a person, or for a moment that is known, is neither work nor silence.
    """
    at = at or now()
    if turn.started_at is None:
        return ""
    if clock.worked(turn, at) > turn.wall_seconds:
        return "time_limit"
    if turn.steps > turn.max_steps:
        return "step_limit"
    if turn.waiting_since is not None:
        return ""
    heard = max(turn.started_at, turn.last_event_at or turn.started_at, turn.retry_at or turn.started_at)
    return "stalled" if at - heard > timedelta(seconds=turn.idle_seconds) else ""


class Watchdogs:
    """Watches the turns of one server; what it remembers only spares it work, and may be lost."""

    def __init__(self, server_id: uuid.UUID) -> None:
        self.server_id = server_id
        self._steps_seen: dict[uuid.UUID, int] = {}  # of a turn, when its log was last looked through
        self._heard_seen: dict[uuid.UUID, datetime | None] = {}  # when its budgets were last looked at
        self._budgets_due = 0.0

    def watch(self) -> int:
        """Ask for the end of each turn that has passed a limit; how many."""
        at = now()
        running = self._running()
        self._keep_clocks(running, at)
        circles = self._circling(running)
        ended = 0
        for turn in running:
            code = circles.get(turn.pk) or overrun(turn, at)
            if code and request_abort(turn_id=turn.pk, reason=code, message=SAID.get(code, "")):
                log.warning("turn_overrun", turn=str(turn.pk), code=code)
                ended += 1
        self._check_budgets(running)
        return ended

    def _running(self) -> list[Any]:
        asked = Ask.objects.filter(turn=OuterRef("pk"), state=AskState.PENDING)
        turns = Turn.objects.filter(
            session__server_id=self.server_id, state=TurnState.RUNNING, abort_requested_at__isnull=True
        )
        rows = list(turns.annotate(asked=Exists(asked)).defer("prompt", "system", "result_text", "error_message"))
        known = {turn.pk for turn in rows}
        self._steps_seen = {pk: seen for pk, seen in self._steps_seen.items() if pk in known}
        self._heard_seen = {pk: seen for pk, seen in self._heard_seen.items() if pk in known}
        return rows

    def _keep_clocks(self, running: Sequence[Any], at: datetime) -> None:
        """Stop the clocks of turns that wait for a person or for the server's next try, and let the others go on."""
        waits = {turn.pk for turn in running if turn.asked or turn.hold not in ("", RELEASED) or _retries(turn, at)}
        begin = [turn for turn in running if turn.pk in waits and turn.waiting_since is None]
        if begin:
            Turn.objects.filter(pk__in=[turn.pk for turn in begin], waiting_since=None).update(waiting_since=at)
            for turn in begin:
                turn.waiting_since = at
        over = [turn for turn in running if turn.pk not in waits and turn.waiting_since is not None]
        if over:
            clock.go_many(over)
            for turn in over:
                turn.waited_seconds += max(0.0, (at - turn.waiting_since).total_seconds())
                turn.waiting_since, turn.last_event_at = None, at

    def _circling(self, running: Sequence[Turn]) -> dict[uuid.UUID, str]:
        """The turns that go round in circles, with their code. Only logs that have grown are read, so many in a tick."""
        fewest = min(SAME_ANSWERS, SAME_CALLS)
        grown = [turn for turn in running if turn.steps >= fewest and turn.steps != self._steps_seen.get(turn.pk)]
        turns = {turn.session_id: turn for turn in grown[:LOOKED_THROUGH]}
        if not turns:
            return {}
        entries: dict[uuid.UUID, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        for session_id, kind, data, at in _newest_entries(turns):
            if at >= turns[session_id].created_at:
                entries[session_id].append((kind, data))
        found: dict[uuid.UUID, str] = {}
        for session_id, turn in turns.items():
            self._steps_seen[turn.pk] = turn.steps
            if code := circling(steps_of(entries[session_id])):
                found[turn.pk] = code
        return found

    def _check_budgets(self, running: Sequence[Turn]) -> None:
        """Hold the turns that did something since the last look against their budgets."""
        if time.monotonic() < self._budgets_due:
            return
        self._budgets_due = time.monotonic() + BUDGET_SECONDS
        active = [turn for turn in running if self._heard_seen.get(turn.pk) != turn.last_event_at]
        if active:
            budgets.check([turn.pk for turn in active])
            self._heard_seen |= {turn.pk: turn.last_event_at for turn in active}


def _retries(turn: Turn, at: datetime) -> bool:
    """Whether the server waits until a known moment to ask the provider again."""
    return turn.retry_at is not None and turn.retry_at > at


def _newest_entries(session_ids: Iterable[uuid.UUID]) -> Any:
    """The newest entries of these logs that tell what was answered, each log ascending."""
    newest = SessionEvent.objects.filter(session__in=list(session_ids), kind__in=KINDS)
    newest = newest.filter(seq__gt=F("session__last_seq") - WINDOW).order_by("session_id", "seq")
    return newest.values_list("session_id", "kind", "data", "at")
