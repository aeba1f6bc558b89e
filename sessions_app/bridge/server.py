"""Follows one agent server: its event stream, and what must happen whether or not the stream says anything.

Three threads: the reader blocks on the stream and fills a queue; the loop writes batches and ticks; a small pool holds
turns against the server, so that one slow answer delays no other session.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog
from django.db import close_old_connections
from django.db.models import F, Q, QuerySet

from agents.backend import Connected, PermissionAsked, QuestionAsked, StreamItem
from agents.models import AgentServer
from agents.services import backend_for, sync_server
from sessions_app.bridge.ingest import Ingest
from sessions_app.bridge.watchdogs import watch
from sessions_app.models import AgentSession, Turn, TurnState
from sessions_app.services.reconcile import reconcile
from studio.kernel.claim import claim, release, release_dead, renew
from studio.kernel.clock import now
from studio.kernel.errors import StudioError
from studio.kernel.faultpoints import reach

log = structlog.get_logger(__name__)

LEASE_SECONDS = 8.0
RENEW_SECONDS = 2.0
BATCH_SECONDS = 0.02
BATCH_ITEMS = 500
TICK_SECONDS = 2.0
# A running turn that said nothing for this long is looked at over REST.
QUIET = timedelta(seconds=10)
RECONNECT_FIRST, RECONNECT_CAP = 0.25, 3.0  # seconds
REFUSAL = "This studio decides permissions by rule, and the rule for this is: no. Go on without it."


class ServerBridge:
    """The bridge of one server. `run` returns when `stop` is set or the lease went to somebody else."""

    def __init__(self, server_id: uuid.UUID, stop: threading.Event) -> None:
        self.server_id = server_id
        self.stop = stop
        self.done = threading.Event()
        self.items: queue.Queue[StreamItem] = queue.Queue(maxsize=20_000)
        self.ingest = Ingest(server_id)
        self.pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="reconcile")
        self.in_flight: set[uuid.UUID] = set()
        self.again: set[uuid.UUID] = set()
        self.guard = threading.Lock()

    def run(self) -> None:
        """Wait for the lease, then follow the server until told to stop. Does not raise."""
        epoch = self._take_lease()
        if epoch is None:
            return
        log.info("bridge_follows", server=str(self.server_id), epoch=epoch)
        reader = threading.Thread(target=self._read, name="stream", daemon=True)
        reader.start()
        try:
            self._loop(epoch)
        except Exception:
            log.exception("bridge_failed", server=str(self.server_id))  # the runner starts it anew
        finally:
            self.done.set()
            self.pool.shutdown(wait=False, cancel_futures=True)
            release(AgentServer, self.server_id, epoch)
            close_old_connections()

    def _take_lease(self) -> int | None:
        while not self.stop.is_set():
            release_dead(AgentServer)
            epoch = claim(AgentServer.objects.filter(pk=self.server_id, enabled=True), seconds=LEASE_SECONDS)
            if epoch is not None:
                return epoch
            if not AgentServer.objects.filter(pk=self.server_id, enabled=True).exists():
                return None
            self.stop.wait(1.0)
        return None

    def _loop(self, epoch: int) -> None:
        next_renewal = next_tick = 0.0
        while not self.stop.is_set():
            at = time.monotonic()
            if at >= next_renewal:
                close_old_connections()
                if not renew(AgentServer, self.server_id, epoch, seconds=LEASE_SECONDS):
                    log.warning("bridge_lost_lease", server=str(self.server_id))
                    return
                next_renewal = at + RENEW_SECONDS
            if at >= next_tick:
                self._tick()
                next_tick = at + TICK_SECONDS
            self._batch()

    def _batch(self) -> None:
        """Collect for a moment and write at once: an insert of 50 costs little more than an insert of one."""
        try:
            items = [self.items.get(timeout=BATCH_SECONDS)]
        except queue.Empty:
            self.ingest.flush_deltas()
            return
        while len(items) < BATCH_ITEMS:
            try:
                items.append(self.items.get_nowait())
            except queue.Empty:
                break
        if any(isinstance(item, Connected) for item in items):
            self.ingest.forget()
            self._reconcile(Turn.objects.filter(state__in=[TurnState.DISPATCHING, TurnState.RUNNING]))
            self.pool.submit(self._refuse_pending)
        reach("bridge.before_batch")
        noticed = self.ingest.take(items)
        reach("bridge.after_batch")
        self.ingest.flush_deltas()
        if noticed.look_at:
            reach("bridge.idle")
            self._reconcile(Turn.objects.filter(session_id__in=noticed.look_at))
        for directory in noticed.gone:
            here = {"session__directory": directory} if directory else {}
            self._reconcile(Turn.objects.filter(state=TurnState.RUNNING, **here))
        for ask in noticed.asks:
            self.pool.submit(self._refuse, ask)

    def _tick(self) -> None:
        """What must happen even when the stream is silent or lies."""
        watch(self.server_id)
        quiet = Q(last_event_at__lte=now() - QUIET) | Q(last_event_at__isnull=True)
        rebooted = ~Q(server_boot=F("session__server__boot"))
        self._reconcile(Turn.objects.filter(quiet | rebooted, state=TurnState.RUNNING))

    def _reconcile(self, turns: QuerySet[Turn]) -> None:
        """Hold turns against the server, each once at a time; one that is asked for meanwhile is looked at again."""
        active = turns.filter(session__server_id=self.server_id).exclude(state=TurnState.SETTLED)
        for turn_id in active.values_list("pk", flat=True):
            with self.guard:
                if turn_id in self.in_flight:
                    self.again.add(turn_id)
                    continue
                self.in_flight.add(turn_id)
            self.pool.submit(self._reconcile_one, turn_id)

    def _reconcile_one(self, turn_id: uuid.UUID) -> None:
        while True:
            try:
                reconcile(turn_id)
            except Exception:
                log.exception("reconcile_failed", turn=str(turn_id))  # the next tick tries again
            finally:
                close_old_connections()
            with self.guard:
                if turn_id not in self.again:
                    self.in_flight.discard(turn_id)
                    return
                self.again.discard(turn_id)

    def _refuse(self, ask: PermissionAsked | QuestionAsked) -> None:
        """An agent that asks would wait for ever: the studio's rules decide, and nobody is asked in this version."""
        server = AgentServer.objects.get(pk=self.server_id)
        try:
            backend = backend_for(server)
            if isinstance(ask, PermissionAsked):
                backend.reject_permission(ask.id, ask.directory, REFUSAL)
            else:
                backend.reject_question(ask.id, ask.directory)
            log.info("ask_refused", session=ask.session, id=ask.id)
        except StudioError as error:
            log.warning("ask_not_refused", session=ask.session, id=ask.id, error=error.message)
        finally:
            close_old_connections()

    def _refuse_pending(self) -> None:
        """Asks that came while nobody listened."""
        active = AgentSession.objects.filter(server_id=self.server_id, turns__state=TurnState.RUNNING)
        try:
            backend = backend_for(AgentServer.objects.get(pk=self.server_id))
            for directory in set(active.values_list("directory", flat=True)):
                for ask in backend.pending_asks(directory):
                    self._refuse(ask)
        except StudioError as error:
            log.warning("pending_asks_unread", server=str(self.server_id), error=error.message)
        finally:
            close_old_connections()

    def _read(self) -> None:
        """Keep a stream open; after each loss wait a little longer, and learn where the server is now."""
        delay = RECONNECT_FIRST
        while not (self.stop.is_set() or self.done.is_set()):
            opened = time.monotonic()
            try:
                server = AgentServer.objects.get(pk=self.server_id)
                for item in backend_for(server).stream():
                    self.items.put(item)
                    if self.stop.is_set() or self.done.is_set():
                        return
            except StudioError as error:
                log.info("stream_lost", server=str(self.server_id), error=error.message)
            except Exception:
                log.exception("stream_failed", server=str(self.server_id))
            delay = RECONNECT_FIRST if time.monotonic() - opened > RECONNECT_CAP else min(delay * 2, RECONNECT_CAP)
            self.stop.wait(delay)
            try:
                sync_server(self.server_id)
            except Exception:
                log.exception("sync_failed", server=str(self.server_id))
            finally:
                close_old_connections()
