"""The log of a session: the only writer of SessionEvent.

Numbers are taken under the lock of the session's row, so a log has no gap and its order is the order of the commits.
An entry carries a semantic key (`tool.finished:prt_…`), the same whether it came from the event stream or from the
server's messages: appending it again is a no-op, and a replay after a lost stream fills in exactly what is missing.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping

from django.db import transaction
from django.db.models import F

from agents.backend import LogEntry
from sessions_app.models import AgentSession, Delivery, InboxItem, InboxState, SessionEvent, Turn, TurnState
from sessions_app.services import usage
from studio import doorbell
from studio.kernel.clock import now
from studio.kernel.faultpoints import reach
from studio.queue import Names, enqueue

STEP = "step.finished"
INSERT_ROWS = 500  # rows of one statement
PAGE_ENTRIES = 1_000  # entries of one transaction


def append(session_id: uuid.UUID, entries: Iterable[LogEntry]) -> list[LogEntry]:
    """Append what the log does not have yet; the entries that were new, in order. Idempotent by key.

    Tokens, cost and the running turn's step count follow from the new entries in the same transaction, so they are
    counted exactly once. A long list is written in pages, so that nobody waits for the whole of it. Raises
    AgentSession.DoesNotExist when the session is gone.
    """
    listed = list(entries)
    new: list[LogEntry] = []
    for start in range(0, len(listed), PAGE_ENTRIES):
        page = append_many({session_id: listed[start : start + PAGE_ENTRIES]})
        if session_id not in page:
            raise AgentSession.DoesNotExist(f"There is no session {session_id}.")
        new += page[session_id]
    return new


def append_many(batches: Mapping[uuid.UUID, Iterable[LogEntry]]) -> dict[uuid.UUID, list[LogEntry]]:
    """Append to several logs in one transaction, as `append` does to one; what was new in each.

    A batch costs a handful of statements, however many sessions it is for. Sessions that do not exist are left out.
    """
    wanted = {session_id: {entry.key: entry for entry in entries} for session_id, entries in batches.items()}
    wanted = {session_id: entries for session_id, entries in wanted.items() if entries}
    if not wanted:
        return {}
    with transaction.atomic():
        # Always in the same order, so that two writers of several logs cannot wait for each other.
        rows = AgentSession.objects.select_for_update().filter(pk__in=wanted).order_by("pk")
        sessions = {session.pk: session for session in rows}
        known = _known(wanted)
        new = {
            pk: [entry for key, entry in wanted[pk].items() if (pk, key) not in known]
            for pk in sessions  # in the order of the locks
        }
        written = {pk: entries for pk, entries in new.items() if entries}
        if written:
            _write(sessions, written)
            topics = [f"session:{pk}" for pk in written]
            transaction.on_commit(lambda: doorbell.ring(*topics), robust=True)
    return new


def _known(wanted: Mapping[uuid.UUID, Mapping[str, LogEntry]]) -> set[tuple[uuid.UUID, str]]:
    """The (session, key) pairs that the logs have already; perhaps some that nobody asked for."""
    keys = list({key for entries in wanted.values() for key in entries})
    # Two lists, which the index on both serves, cost a fraction of a condition for each session.
    found = SessionEvent.objects.filter(session_id__in=list(wanted), upstream_key__in=keys)
    return set(found.values_list("session_id", "upstream_key"))


def _write(sessions: Mapping[uuid.UUID, AgentSession], new: Mapping[uuid.UUID, list[LogEntry]]) -> None:
    """Insert the entries under the locks of their sessions, and what follows from them."""
    SessionEvent.objects.bulk_create(
        [
            SessionEvent(session_id=pk, seq=seq, kind=entry.kind, upstream_key=entry.key, data=entry.data, at=entry.at)
            for pk, entries in new.items()
            for seq, entry in enumerate(entries, start=sessions[pk].last_seq + 1)
        ],
        batch_size=INSERT_ROWS,
    )
    reach("log.in_transaction")
    by_count: dict[int, list[uuid.UUID]] = defaultdict(list)
    for pk, entries in new.items():
        by_count[len(entries)].append(pk)
    for count, pks in by_count.items():  # a few numbers for many sessions
        AgentSession.objects.filter(pk__in=pks).update(last_seq=F("last_seq") + count)
    by_steps: dict[int, list[uuid.UUID]] = defaultdict(list)
    steps_of: dict[uuid.UUID, list[LogEntry]] = {}
    for pk, entries in new.items():
        if finished := [entry for entry in entries if entry.kind == STEP]:
            steps_of[pk] = finished
        by_steps[sum("child" not in entry.data for entry in finished)].append(pk)
    for steps, pks in by_steps.items():
        Turn.objects.filter(session_id__in=pks, state__in=[TurnState.DISPATCHING, TurnState.RUNNING]).update(
            last_event_at=now(), steps=F("steps") + steps
        )
    if steps_of:
        usage.record(sessions, steps_of)
    if begun := [pk for pk, entries in new.items() if any(entry.kind == "user" for entry in entries)]:
        _ring_for_steers(begun)


def _ring_for_steers(session_ids: list[uuid.UUID]) -> None:
    """The server has stored a prompt: what waits to steer its turn may follow it now, and not overtake it."""
    waiting = InboxItem.objects.filter(session_id__in=session_ids, state=InboxState.WAITING, delivery=Delivery.STEER)
    for session_id in waiting.values_list("session_id", flat=True).distinct():
        enqueue(Names.DELIVER_MESSAGES, session_id)


def note_activity(session_ids: Iterable[uuid.UUID]) -> None:
    """The running turns of these sessions showed a sign of life that is no entry."""
    Turn.objects.filter(session_id__in=list(session_ids), state__in=[TurnState.DISPATCHING, TurnState.RUNNING]).update(
        last_event_at=now()
    )
