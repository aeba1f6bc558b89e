"""Follows one agent server: its event stream, and what must happen whether or not the stream says anything.

The reader blocks on the stream and fills a queue; the loop writes batches and ticks; small pools hold turns against the
server and fetch what a lost stream carried.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid

import structlog
from django.db import close_old_connections

from agents.backend import Connected, StreamItem
from agents.models import AgentServer
from agents.services import backend_for, sync_server
from sessions_app.bridge.asks import AskDesk
from sessions_app.bridge.ingest import Ingest, Noticed
from sessions_app.bridge.reconciler import Reconciler
from sessions_app.bridge.replay import Replay
from sessions_app.bridge.watchdogs import Watchdogs
from sessions_app.models import Turn, TurnState
from sessions_app.services.recycling import tend_server
from studio.kernel.claim import claim, release, release_dead, renew
from studio.kernel.errors import StudioError
from studio.kernel.faultpoints import reach

log = structlog.get_logger(__name__)

LEASE_SECONDS = 8.0
RENEW_SECONDS = 2.0
BATCH_SECONDS = 0.025
BATCH_ITEMS = 500
TICK_SECONDS = 2.0
RECONNECT_FIRST, RECONNECT_CAP = 0.25, 1.0  # seconds


class ServerBridge:
    """The bridge of one server. `run` returns when `stop` is set or the lease went to somebody else."""

    def __init__(self, server_id: uuid.UUID, stop: threading.Event) -> None:
        self.server_id = server_id
        self.stop = stop
        self.done = threading.Event()
        self.items: queue.Queue[StreamItem] = queue.Queue(maxsize=20_000)
        self.ingest = Ingest(server_id)
        self.watchdogs = Watchdogs(server_id)
        self.reconciler = Reconciler(server_id)
        self.asks = AskDesk(server_id)
        self.replay: Replay | None = None
        self.due = 0.0  # until when a batch is collected

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
            self.reconciler.close()
            self.asks.close()
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
        if self.replay:
            self._replay(self.replay)
            return
        items = self._collect()
        if items and isinstance(items[-1], Connected):
            self.ingest.forget()
            self.replay = Replay(self.server_id)  # what follows waits until it is over
        noticed = Noticed()
        if items:
            reach("bridge.before_batch")
            noticed = self.ingest.take(items)
            reach("bridge.after_batch")
        noticed.look_at |= self.ingest.flush()
        if noticed.look_at:
            reach("bridge.idle")
            self.reconciler.look_at(Turn.objects.filter(session_id__in=noticed.look_at))
        for directory in noticed.gone:
            here = {"session__directory": directory} if directory else {}
            self.reconciler.look_at(Turn.objects.filter(state=TurnState.RUNNING, **here))
        self.asks.take(noticed.asks)
        self.reconciler.refill()

    def _collect(self) -> list[StreamItem]:
        """What waits, at most BATCH_ITEMS and nothing beyond a Connected; nothing when nothing comes for BATCH_SECONDS.

        After a silence the first item is taken at once; in a busy stream a batch follows the one before by BATCH_SECONDS.
        """
        items: list[StreamItem] = []
        until = time.monotonic() + BATCH_SECONDS
        while len(items) < BATCH_ITEMS and not (items and isinstance(items[-1], Connected)):
            left = until - time.monotonic()
            try:
                items.append(self.items.get(timeout=left) if left > 0 else self.items.get_nowait())
            except queue.Empty:
                break
            until = self.due
        self.due = time.monotonic() + BATCH_SECONDS
        return items

    def _replay(self, replay: Replay) -> None:
        """Write a page of what the lost stream carried; after the last one, hold all turns against the server."""
        page = replay.page(BATCH_SECONDS)
        if page:
            self.ingest.replay(page)
        elif replay.over():
            self.ingest.cursors.seed(replay.cursors)
            self.replay = None
            self.reconciler.look_at_all()
            self.asks.sync()

    def _tick(self) -> None:
        """What must happen even when the stream is silent or lies."""
        tend_server(self.server_id)
        self.watchdogs.watch()
        self.reconciler.tick()
        self.asks.tick()

    def _read(self) -> None:
        """Keep a stream open; after each loss wait a little longer, and learn where the server is now."""
        delay = RECONNECT_FIRST
        while not (self.stop.is_set() or self.done.is_set()):
            opened = time.monotonic()
            try:
                server = AgentServer.objects.get(pk=self.server_id)
                for item in backend_for(server).stream():
                    if not self._hand_over(item):
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

    def _hand_over(self, item: StreamItem) -> bool:
        """Put the item into the queue, waiting while that is full; False when nobody takes it any more."""
        while not (self.stop.is_set() or self.done.is_set()):
            try:
                self.items.put(item, timeout=1.0)
            except queue.Full:
                continue
            return True
        return False
