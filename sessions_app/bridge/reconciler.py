"""Which turns are held against the server, and when: at once when an event says so, the others bounded and in turn.

A small pool does it, so that one slow answer delays no other session; what only might have changed waits until the pool has
room, so that a thousand silent turns delay none that has just ended.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog
from django.db import close_old_connections
from django.db.models import F, Q, QuerySet

from sessions_app.models import Turn, TurnState
from sessions_app.services.reconcile import reconcile
from studio.kernel.clock import now

log = structlog.get_logger(__name__)

THREADS = 4
ROOM = 2 * THREADS  # turns in the pool beside which nothing of the backlog is added
# A running turn that said nothing for this long is looked at over REST, so many of them each tick.
QUIET = timedelta(seconds=10)
QUIET_PER_TICK = 20
ACTIVE = [TurnState.DISPATCHING, TurnState.RUNNING]


class Reconciler:
    """The turns of one server. `look_at`, `tick` and `refill` belong to the bridge's loop."""

    def __init__(self, server_id: uuid.UUID) -> None:
        self.server_id = server_id
        self.pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="reconcile")
        self._guard = threading.Lock()
        self._in_flight: set[uuid.UUID] = set()
        self._again: set[uuid.UUID] = set()
        self._backlog: OrderedDict[uuid.UUID, None] = OrderedDict()
        self._looked: dict[uuid.UUID, float] = {}  # quiet turns: when they were last looked at

    def close(self) -> None:
        """Begin nothing more."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def look_at(self, turns: QuerySet[Turn]) -> None:
        """Hold these turns against the server now, each once at a time; one asked for meanwhile is looked at again."""
        for turn_id in self._ids(turns):
            self._submit(turn_id)

    def look_at_all(self) -> None:
        """Hold every active turn against the server, as soon as there is room."""
        self._backlog |= dict.fromkeys(self._ids(Turn.objects.filter(state__in=ACTIVE)))
        self.refill()

    def tick(self) -> None:
        """Find what no event has told: turns of a server that was started again, and silent ones, longest unseen first."""
        running = Turn.objects.filter(state=TurnState.RUNNING)
        self._backlog |= dict.fromkeys(self._ids(running.exclude(server_boot=F("session__server__boot"))))
        silent = Q(last_event_at__lte=now() - QUIET) | Q(last_event_at__isnull=True)
        quiet = self._ids(running.filter(silent).order_by(F("last_event_at").asc(nulls_first=True)))
        at = time.monotonic()
        self._looked = {turn_id: self._looked.get(turn_id, 0.0) for turn_id in quiet}
        due = [turn_id for turn_id in quiet if at - self._looked[turn_id] > QUIET.total_seconds()]
        due.sort(key=self._looked.__getitem__)  # stable: among the never seen the longest silent first
        for turn_id in due[:QUIET_PER_TICK]:
            self._looked[turn_id] = at
            self._backlog[turn_id] = None
        self.refill()

    def refill(self) -> None:
        """Move on with the backlog while the pool has room."""
        while self._backlog and len(self._in_flight) < ROOM:
            self._submit(self._backlog.popitem(last=False)[0])

    def _ids(self, turns: QuerySet[Turn]) -> list[uuid.UUID]:
        return list(turns.filter(session__server_id=self.server_id, state__in=ACTIVE).values_list("pk", flat=True))

    def _submit(self, turn_id: uuid.UUID) -> None:
        with self._guard:
            if turn_id in self._in_flight:
                self._again.add(turn_id)
                return
            self._in_flight.add(turn_id)
        self.pool.submit(self._reconcile, turn_id)

    def _reconcile(self, turn_id: uuid.UUID) -> None:
        while True:
            try:
                reconcile(turn_id)
            except Exception:
                log.exception("reconcile_failed", turn=str(turn_id))  # the next tick tries again
            finally:
                close_old_connections()
            with self._guard:
                if turn_id not in self._again:
                    self._in_flight.discard(turn_id)
                    return
                self._again.discard(turn_id)
