"""Hands what agents ask to the services, in threads of its own: an agent waits, and a slow turn must not make it wait longer."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog
from django.db import close_old_connections

from agents.asks import AskEnded, PermissionAsked, QuestionAsked
from agents.models import AgentServer
from sessions_app.services import asks
from studio.kernel.errors import StudioError

log = structlog.get_logger(__name__)

THREADS = 4
# What the stream did not tell, or what could not be stored at once, is found by asking the server this often.
SYNC_SECONDS = 15.0
SYNC_DIRECTORIES = 60  # each time, those not asked about for longest; all of them after a lost stream

Asked = PermissionAsked | QuestionAsked | AskEnded


class AskDesk:
    """What is asked on one server. `take`, `sync` and `tick` belong to the bridge's loop."""

    def __init__(self, server_id: uuid.UUID) -> None:
        self.server_id = server_id
        self.pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="asks")
        self._syncing = threading.Lock()
        self._synced = time.monotonic()
        self._asked: dict[str, float] = {}  # directory -> when the server was last asked about it

    def close(self) -> None:
        """Begin nothing more."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def take(self, items: list[Asked]) -> None:
        """What the stream told."""
        for item in items:
            self.pool.submit(self._guarded, partial(_take, item))

    def sync(self) -> None:
        """Hold everything that is asked against the server, once at a time."""
        self._begin(None)

    def _begin(self, limit: int | None) -> None:
        self._synced = time.monotonic()
        self.pool.submit(self._guarded, partial(self._sync, limit))

    def tick(self) -> None:
        """Find what no event has told."""
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._begin(SYNC_DIRECTORIES)

    def _sync(self, limit: int | None, server: AgentServer) -> None:
        if not self._syncing.acquire(blocking=False):
            return
        try:
            self._asked = {name: self._asked.get(name, 0.0) for name in asks.turns_at_work(server)}
            due = sorted(self._asked, key=self._asked.__getitem__)[:limit]
            self._asked |= dict.fromkeys(due, time.monotonic())
            asks.sync(server, set(due))
        finally:
            self._syncing.release()

    def _guarded(self, work: Callable[[AgentServer], object]) -> None:
        try:
            work(AgentServer.objects.get(pk=self.server_id))
        except StudioError as error:
            log.info("ask_postponed", server=str(self.server_id), error=error.message)
        except Exception:
            log.exception("ask_failed", server=str(self.server_id))  # the next sync finds it again
        finally:
            close_old_connections()


def _take(item: Asked, server: AgentServer) -> None:
    if isinstance(item, AskEnded):
        asks.ended(server, item)
    else:
        asks.take(server, item)
