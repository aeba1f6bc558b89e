"""Sub-agents, cursors, counts and pieces of text: what the bridge keeps besides the log."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError

from agents.backend import (
    Busy,
    ChildOpened,
    Connected,
    Cursor,
    Delta,
    Entry,
    Heartbeat,
    LogEntry,
    PartReset,
    Replayed,
    Skipped,
)
from sessions_app import selectors
from sessions_app.bridge import deltas as deltas_module
from sessions_app.bridge import places as places_module
from sessions_app.bridge import tally as tally_module
from sessions_app.bridge.deltas import Deltas
from sessions_app.bridge.ingest import Ingest
from sessions_app.models import StreamCount, SubSession, Turn
from studio import doorbell
from studio.kernel.clock import now


@pytest.fixture
def ingest(session):
    session.external_id = "ses_a"
    session.save(update_fields=["external_id"])
    return Ingest(session.server_id)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """What is written now and then is written at each flush."""
    for module, name in (
        (places_module, "SAVE_SECONDS"),
        (tally_module, "SAVE_SECONDS"),
        (deltas_module, "DELTA_PERIOD"),
    ):
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(places_module, "UNKNOWN_SECONDS", 0.0)


@pytest.fixture
def pieces(monkeypatch):
    """The pieces of text that were sent."""
    sent: list[doorbell.Piece] = []
    monkeypatch.setattr("studio.doorbell.send_pieces", sent.extend)
    return sent


def text(key: str) -> LogEntry:
    return LogEntry("text", f"text:{key}", {"text": key, "part": key}, now())


def stored(session) -> list[str]:
    return [event.data["text"] for event in selectors.read_session(str(session.pk), 0)]


def test_child__is_remembered_for_a_bridge_that_starts_later(ingest, session):
    ingest.take([ChildOpened("ses_kid", "ses_a", "Look around"), ChildOpened("ses_grand", "ses_kid", "Deeper")])
    rows = SubSession.objects.filter(session=session).order_by("pk")
    assert [(row.external_id, row.parent_external_id, row.title) for row in rows] == [
        ("ses_kid", "ses_a", "Look around"),
        ("ses_grand", "ses_kid", "Deeper"),
    ]
    later = Ingest(session.server_id)
    later.take([Entry("ses_grand", text("deep")), Entry("ses_kid", text("less"))])
    assert [event.data["child"] for event in selectors.read_session(str(session.pk), 0)] == ["ses_grand", "ses_kid"]


def test_child__of_a_session_that_is_not_ours_is_nobodys(ingest):
    ingest.take([ChildOpened("ses_kid", "ses_foreign")])
    assert not SubSession.objects.exists()


def test_child__what_it_does_is_a_sign_of_life_of_the_turn(ingest, turn):
    before = now() - timedelta(minutes=5)
    ingest.take([ChildOpened("ses_kid", "ses_a")])
    for item in (Delta("ses_kid", "p", "x", False), Busy("ses_kid")):
        Turn.objects.filter(pk=turn.pk).update(state="running", last_event_at=before)
        ingest._alive_due = 0.0
        ingest.take([item])
        ingest.flush()
        turn.refresh_from_db()
        assert turn.last_event_at > before


def test_child__its_text_is_not_shown_while_it_is_written(ingest, pieces):
    ingest.take([ChildOpened("ses_kid", "ses_a"), Delta("ses_kid", "p", "x", False)])
    ingest.flush()
    assert pieces == []


def test_cursors__are_written_now_and_then_and_only_forward(ingest, session):
    ingest.take([ChildOpened("ses_kid", "ses_a"), Cursor("ses_a", 4), Cursor("ses_a", 5), Cursor("ses_kid", 0)])
    ingest.flush()
    session.refresh_from_db()
    assert session.upstream_seq == 5
    assert SubSession.objects.get().upstream_seq == 0
    ingest.take([Cursor("ses_a", 3)])
    ingest.flush()
    session.refresh_from_db()
    assert session.upstream_seq == 5


def test_cursors__a_gap_is_counted_and_its_session_is_looked_at(ingest, session):
    ingest.take([Cursor("ses_a", 4), Cursor("ses_a", 5)])
    assert ingest.flush() == set()
    ingest.take([Cursor("ses_a", 8)])
    assert ingest.flush() == {session.pk}
    assert ingest.flush() == set()
    assert ingest.tally.total["gap"] == 1


def test_replay__its_end_is_the_cursor(ingest, session):
    ingest.cursors.seed({"ses_a": 3})
    ingest.replay(Replayed("ses_a", 9, [Entry("ses_a", text("missed"))]))
    ingest.take([Cursor("ses_a", 7), Cursor("ses_a", 10)])  # what the stream carried meanwhile, and what follows
    assert ingest.flush() == set()
    session.refresh_from_db()
    assert (stored(session), session.upstream_seq) == (["missed"], 10)


def test_replay__of_what_came_already_changes_nothing(ingest, session):
    ingest.take([Entry("ses_a", text("one")), Cursor("ses_a", 1)])
    ingest.replay(Replayed("ses_a", 1, [Entry("ses_a", text("one"))]))
    assert stored(session) == ["one"]


def test_counts__are_rows_by_reason(ingest, session):
    ingest.take([Connected(), Heartbeat(), Heartbeat(), Skipped("unknown_type"), Entry("ses_a", text("one"))])
    ingest.flush()
    ingest.take([Skipped("unknown_type"), Entry("ses_foreign", text("two"))])
    ingest.flush()
    rows = StreamCount.objects.filter(server=session.server_id)
    assert dict(rows.values_list("reason", "count")) == {
        "heartbeat": 2,
        "unknown_type": 2,
        "taken": 1,
        "foreign_session": 1,
    }


def test_entries__that_cannot_be_stored_are_counted_and_the_others_stay(ingest, session):
    deep: list = []
    for _ in range(5_000):
        deep = [deep]
    bad = [
        LogEntry("text", f"text:{n}", {"text": "bad", "value": value}, now())
        for n, value in enumerate([object(), deep])
    ]
    ingest.take([Entry("ses_a", text("one")), *(Entry("ses_a", entry) for entry in bad), Entry("ses_a", text("two"))])
    assert stored(session) == ["one", "two"]
    assert ingest.tally.total["unstorable"] == 2


def test_database_that_is_away__is_not_the_entries_fault(ingest, monkeypatch):
    """They are neither dropped nor counted as read: the bridge begins anew and replays them."""

    def away(batches):
        raise OperationalError("the database is gone")

    monkeypatch.setattr("sessions_app.log.append_many", away)
    with pytest.raises(OperationalError):
        ingest.take([Entry("ses_a", text("one")), Cursor("ses_a", 3)])
    assert ingest.tally.total["unstorable"] == 0


def test_deltas__at_most_one_frame_of_a_session_at_a_time(pieces, session):
    deltas = Deltas()
    for part in ("p", "q"):
        deltas.add(session.pk, part, "a", reasoning=False)
        deltas.add(session.pk, part, "b", reasoning=False)
    deltas.flush()
    assert pieces == [(f"session:{session.pk}", "p", "ab", False)]
    deltas.flush()
    deltas.flush()
    assert pieces[1:] == [(f"session:{session.pk}", "q", "ab", False)]


def test_deltas__what_is_finished_is_not_sent_any_more(ingest, pieces):
    ingest.take([Delta("ses_a", "p", "Hel", False), Entry("ses_a", text("p"))])
    ingest.flush()
    assert pieces == []


def test_deltas__of_a_server_that_floods_are_bounded(ingest, pieces):
    ingest.take([Delta("ses_a", "p", "x" * 300_000, False) for _ in range(10)])
    for _ in range(20):
        ingest.flush()
    assert max(len(text or "") for _, _, text, _ in pieces) <= deltas_module.FRAME_CHARS
    assert sum(len(text or "") for _, _, text, _ in pieces) <= 2 * deltas_module.WAITING_CHARS
    assert ingest.tally.total["too_much_text"] > 0


def test_deltas__a_new_try_voids_what_was_sent(ingest, session, pieces):
    ingest.take([Delta("ses_a", "p", "x", False), PartReset("ses_a", "p")])
    ingest.flush()
    assert pieces == [(f"session:{session.pk}", "p", None, False)]
