"""What a lost stream carried, fetched from the server's history while the loop goes on, and handed to it in pages."""

from __future__ import annotations

import queue
import threading
import time
import uuid

import structlog
from django.db import close_old_connections

from agents.backend import Replayed
from agents.models import AgentServer
from agents.services import backend_for
from sessions_app.models import AgentSession, SubSession, TurnState
from studio.kernel.errors import StudioError

log = structlog.get_logger(__name__)

PATIENCE = 5.0  # seconds that live events wait for it; the messages, read afterwards, have everything too
WAITING_PAGES = 4


class Replay:
    """One replay, of the sessions with an active turn and the sub-agents' below them. Does not raise."""

    def __init__(self, server_id: uuid.UUID) -> None:
        self.server_id = server_id
        self.cursors: dict[str, int] = {}  # where it began, once the first page is there
        self._pages: queue.Queue[Replayed] = queue.Queue(maxsize=WAITING_PAGES)
        self._until = time.monotonic() + PATIENCE
        self._dropped = threading.Event()
        self._thread = threading.Thread(target=self._fetch, name="replay", daemon=True)
        self._thread.start()

    def page(self, timeout: float) -> Replayed | None:
        """The next page, waiting at most `timeout` seconds."""
        try:
            return self._pages.get(timeout=timeout)
        except queue.Empty:
            return None

    def over(self) -> bool:
        """Whether nothing more comes, or it took too long: then it is given up."""
        if time.monotonic() > self._until:
            self._dropped.set()
            return True
        return not self._thread.is_alive() and self._pages.empty()

    def _fetch(self) -> None:
        try:
            self.cursors = cursors_of(self.server_id)
            if not self.cursors:
                return
            for page in backend_for(AgentServer.objects.get(pk=self.server_id)).history(self.cursors):
                while not self._hand_over(page):
                    if self._dropped.is_set():
                        return
        except StudioError as error:
            log.info("history_unread", server=str(self.server_id), error=error.message)
        except Exception:
            log.exception("replay_failed", server=str(self.server_id))
        finally:
            close_old_connections()

    def _hand_over(self, page: Replayed) -> bool:
        try:
            self._pages.put(page, timeout=0.5)
        except queue.Full:
            return False
        return True


def cursors_of(server_id: uuid.UUID) -> dict[str, int]:
    """How far the sessions with an active turn were read, and the sub-agents' below them: session -> number."""
    active = AgentSession.objects.filter(
        server_id=server_id, turns__state__in=[TurnState.DISPATCHING, TurnState.RUNNING]
    ).exclude(external_id="")
    own = dict(active.values_list("external_id", "upstream_seq"))
    return own | dict(SubSession.objects.filter(session__in=active).values_list("external_id", "upstream_seq"))
