"""A batch of stream items becomes log entries, live deltas, and a list of what must be looked at.

The stream is a hint: everything here may be lost or doubled, and `services.reconcile` repairs it.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError

from agents.asks import AskEnded, PermissionAsked, QuestionAsked
from agents.backend import (
    Busy,
    ChildOpened,
    Connected,
    Cursor,
    Delta,
    Entry,
    Failed,
    Heartbeat,
    Idle,
    InstanceGone,
    LogEntry,
    PartReset,
    Replayed,
    Retrying,
    Skipped,
    StreamItem,
)
from sessions_app import log as session_log
from sessions_app.bridge.deltas import Deltas
from sessions_app.bridge.places import Cursors, Place, Places
from sessions_app.bridge.tally import FLOOD, FOREIGN, GAP, HEARTBEAT, TAKEN, UNSTORABLE, Tally
from sessions_app.services import retries

log = structlog.get_logger(__name__)

OUTSIDE = (Connected, Heartbeat, InstanceGone, Skipped)  # items that belong to no session
AWAY = (OperationalError, InterfaceError)  # the database itself: nothing is wrong with what was to be written
UNWRITABLE = (DatabaseError, TypeError, ValueError, RecursionError)

ACTIVITY_PERIOD = 5.0  # seconds between two writes of "it is still writing"

Entries = dict[uuid.UUID, list[LogEntry]]


@dataclass(slots=True)
class Noticed:
    """What a batch asks to be done outside it."""

    look_at: set[uuid.UUID] = field(default_factory=set)  # sessions whose turn may have ended
    asks: list[PermissionAsked | QuestionAsked | AskEnded] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # directories


class Ingest:
    """Writes the stream of one server. Not thread-safe: it belongs to its server's loop.

    Raises only when the database is away; nothing that a server sends makes it raise.
    """

    def __init__(self, server_id: uuid.UUID) -> None:
        self.places = Places(server_id)
        self.cursors = Cursors(self.places)
        self.tally = Tally(server_id)
        self._deltas = Deltas()
        self._alive: set[uuid.UUID] = set()  # sessions whose sign of life is not written yet
        self._alive_due = 0.0
        self._waiting: set[uuid.UUID] = set()  # sessions whose provider is asked again later

    def forget(self) -> None:
        """Drop what only the lost stream could have told."""
        self._deltas.clear()

    def replay(self, page: Replayed) -> None:
        """Write a page of what a lost stream carried."""
        self.take(page.items)
        if self.places.find(page.session):
            self.cursors.reached(page.session, page.seq)

    def take(self, items: Iterable[StreamItem]) -> Noticed:
        """Write `items`; what they ask for. Items of sessions that are not the studio's are counted and skipped."""
        batch = list(items)
        self.places.learn(
            name
            for item in batch
            if not isinstance(item, OUTSIDE)
            for name in ((item.session, item.parent) if isinstance(item, ChildOpened) else (item.session,))
        )
        noticed = Noticed()
        entries: Entries = defaultdict(list)
        for item in batch:
            self._sort(item, entries, noticed)
        if entries:
            self._append(entries)
        return noticed

    def _sort(self, item: StreamItem, entries: Entries, noticed: Noticed) -> None:
        match item:
            case Heartbeat():
                self.tally.note(HEARTBEAT)
            case Skipped(reason=reason):
                self.tally.note(reason)
            case InstanceGone(directory=directory):
                noticed.gone.append(directory)
            case Connected():
                pass
            case ChildOpened():
                self.places.adopt(item)
            case _:
                place = self.places.find(item.session)
                if place is None:
                    self.tally.note(FOREIGN, not isinstance(item, Cursor | Busy))
                elif place.child:
                    self._of_child(item, place, entries, noticed)
                else:
                    self._of_session(item, place, entries, noticed)

    def _of_session(self, item: StreamItem, place: Place, entries: Entries, noticed: Noticed) -> None:
        session_id = place.session
        if session_id in self._waiting and _goes_on(item):
            self._waiting.discard(session_id)
            retries.wait_is_over(session_id)
        match item:
            case Cursor():
                self._pass(item)
            case Entry(entry=entry):
                self.tally.note(TAKEN)
                entries[session_id].append(entry)
                if part := entry.data.get("part"):
                    self._deltas.drop(session_id, part)
            case Delta(part=part, text=text, reasoning=reasoning):
                self._alive.add(session_id)
                self.tally.note(FLOOD, not self._deltas.add(session_id, part, text, reasoning))
            case PartReset(part=part):
                self._deltas.void(session_id, part)
            case Retrying(at=at, message=message):
                self._waiting.add(session_id)
                retries.note_wait(session_id, message, at)
            case PermissionAsked() | QuestionAsked() | AskEnded():
                noticed.asks.append(item)
            case Idle() | Failed():
                noticed.look_at.add(session_id)
            case _:
                self._alive.add(session_id)

    def _of_child(self, item: StreamItem, place: Place, entries: Entries, noticed: Noticed) -> None:
        """What a sub-agent does shows in the log of the session above it, and is a sign of life of its turn."""
        match item:
            case Cursor():
                self._pass(item)
            case Entry(entry=entry, session=session):
                self.tally.note(TAKEN)
                if entry.kind != "user":  # its prompt is in the call that opened it
                    entries[place.session].append(replace(entry, data={**entry.data, "child": session}))
            case PermissionAsked() | QuestionAsked() | AskEnded():
                noticed.asks.append(item)
            case _:
                self._alive.add(place.session)

    def _pass(self, item: Cursor) -> None:
        self.tally.note(GAP, self.cursors.passed(item.session, item.seq))

    def _append(self, entries: Entries) -> None:
        """All entries at once; where they cannot be stored together, one by one, so that one bad entry costs only itself."""
        try:
            session_log.append_many(entries)
        except AWAY:
            raise
        except UNWRITABLE as error:
            log.warning("entries_refused", sessions=len(entries), error=str(error))
            for session_id, new in entries.items():
                self._append_singly(session_id, new)

    def _append_singly(self, session_id: uuid.UUID, entries: Sequence[LogEntry]) -> None:
        for entry in entries:
            try:
                session_log.append_many({session_id: [entry]})
            except AWAY:
                raise
            except UNWRITABLE as error:
                self.tally.note(UNSTORABLE)
                log.debug("entry_dropped", session=str(session_id), key=entry.key[:80], error=str(error))

    def flush(self) -> set[uuid.UUID]:
        """What is due now and then: text in pieces, signs of life, cursors, counts. The sessions that must be looked at."""
        self._deltas.flush()
        at = time.monotonic()
        if self._alive and at >= self._alive_due:
            self._alive_due = at + ACTIVITY_PERIOD
            alive, self._alive = self._alive, set()
            session_log.note_activity(alive)
        self.tally.save()
        return self.cursors.save()


def _goes_on(item: StreamItem) -> bool:
    """Whether the item shows that the server has asked the provider again."""
    return isinstance(item, Busy | Delta) or (isinstance(item, Entry) and item.entry.kind != "retry")
