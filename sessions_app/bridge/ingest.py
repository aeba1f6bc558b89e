"""A batch of stream items becomes log entries, live deltas, and a list of what must be looked at.

The stream is a hint: everything here may be lost or doubled, and `services.reconcile` repairs it.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from django.db import DatabaseError

from agents.backend import (
    ChildOpened,
    Connected,
    Delta,
    Entry,
    Failed,
    Heartbeat,
    Idle,
    InstanceGone,
    LogEntry,
    PartReset,
    PermissionAsked,
    QuestionAsked,
    Retrying,
    StreamItem,
)
from sessions_app import log as session_log
from sessions_app.models import AgentSession, Turn, TurnState
from studio import doorbell

log = structlog.get_logger(__name__)

OUTSIDE = (Connected, Heartbeat, InstanceGone)  # items that belong to no session

DELTA_PERIOD = 0.05  # seconds: at most 20 frames a second per part
ACTIVITY_PERIOD = 5.0  # seconds between two writes of "it is still writing"


@dataclass(slots=True)
class Noticed:
    """What a batch asks to be done outside it."""

    look_at: set[uuid.UUID] = field(default_factory=set)  # sessions whose turn may have ended
    asks: list[PermissionAsked | QuestionAsked] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # directories


class Ingest:
    """Writes the stream of one server. Not thread-safe: it belongs to its server's loop."""

    def __init__(self, server_id: uuid.UUID) -> None:
        self.server_id = server_id
        self._sessions: dict[str, uuid.UUID] = {}
        self._children: dict[str, str] = {}  # a sub-agent's session -> the session whose agent opened it
        self._deltas: dict[tuple[uuid.UUID, str], list[str]] = {}
        self._delta_due = 0.0
        self._active: dict[uuid.UUID, float] = {}  # when its activity was last written
        self.skipped = 0

    def forget(self) -> None:
        """Drop what only the lost stream could have told."""
        self._deltas.clear()
        self._children.clear()

    def take(self, items: Iterable[StreamItem]) -> Noticed:
        """Write `items`; what they ask for. Items of sessions that are not the studio's are skipped."""
        batch = list(items)
        for item in batch:
            if isinstance(item, ChildOpened):
                self._children[item.session] = item.parent
        self._learn({self._root(item.session) for item in batch if not isinstance(item, OUTSIDE)})
        noticed = Noticed()
        entries: dict[uuid.UUID, list[LogEntry]] = defaultdict(list)
        for item in batch:
            self._sort(item, entries, noticed)
        for session_id, new in entries.items():
            self._append(session_id, new)
        return noticed

    def _sort(self, item: StreamItem, entries: dict[uuid.UUID, list[LogEntry]], noticed: Noticed) -> None:
        if isinstance(item, InstanceGone):
            noticed.gone.append(item.directory)
            return
        if isinstance(item, OUTSIDE):
            return
        external = item.session
        session_id = self._sessions.get(self._root(external))
        if session_id is None:
            self.skipped += 1
            return
        child = external in self._children
        match item:
            case Entry(entry=entry) if child:
                if entry.kind != "user":
                    entries[session_id].append(replace(entry, data={**entry.data, "child": external}))
            case Entry(entry=entry):
                entries[session_id].append(entry)
            case Delta(part=part, text=text) if not child:
                self._deltas.setdefault((session_id, part), []).append(text)
            case PartReset(part=part) if not child:
                self._deltas.pop((session_id, part), None)
                doorbell.send_pieces([(f"session:{session_id}", part, None)])
            case Retrying(at=at, message=message) if not child:
                self._note_retry(session_id, message, at)
            case PermissionAsked() | QuestionAsked():
                noticed.asks.append(item)
            case Idle() | Failed() if not child:
                noticed.look_at.add(session_id)
            case _:
                pass

    def _root(self, external: str) -> str:
        """The studio's own session behind a sub-agent's, however deep."""
        for _ in range(16):
            parent = self._children.get(external)
            if parent is None:
                break
            external = parent
        return external

    def _learn(self, external_ids: set[str]) -> None:
        unknown = external_ids - self._sessions.keys()
        if unknown:
            rows = AgentSession.objects.filter(server_id=self.server_id, external_id__in=unknown)
            self._sessions.update(rows.values_list("external_id", "pk"))

    def _append(self, session_id: uuid.UUID, entries: list[LogEntry]) -> None:
        """One session's entries; if they cannot be stored together, one by one, so that one bad entry costs itself only."""
        try:
            session_log.append(session_id, entries)
        except (DatabaseError, TypeError, ValueError) as error:
            log.warning("entries_refused", session=str(session_id), count=len(entries), error=str(error))
            for entry in entries:
                try:
                    session_log.append(session_id, [entry])
                except (DatabaseError, TypeError, ValueError) as reason:
                    self.skipped += 1
                    log.warning("entry_dropped", session=str(session_id), key=entry.key, error=str(reason))

    def _note_retry(self, session_id: uuid.UUID, message: str, at: datetime | None) -> None:
        Turn.objects.filter(session_id=session_id, state__in=[TurnState.DISPATCHING, TurnState.RUNNING]).update(
            retry_note=message, retry_at=at
        )

    def flush_deltas(self) -> None:
        """Send the collected pieces of text on, at most every DELTA_PERIOD."""
        at = time.monotonic()
        if not self._deltas or at < self._delta_due:
            return
        self._delta_due = at + DELTA_PERIOD
        waiting, self._deltas = self._deltas, {}
        doorbell.send_pieces(
            (f"session:{session_id}", part, "".join(pieces)) for (session_id, part), pieces in waiting.items()
        )
        for session_id, _ in waiting:
            self._note_activity(session_id, at)

    def _note_activity(self, session_id: uuid.UUID, at: float) -> None:
        """Text that is being written is a sign of life, though no row comes of it yet."""
        if at - self._active.get(session_id, 0.0) < ACTIVITY_PERIOD:
            return
        self._active[session_id] = at
        session_log.note_activity([session_id])
