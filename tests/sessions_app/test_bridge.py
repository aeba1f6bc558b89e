"""What the bridge makes of a batch, and the limits it watches."""

from __future__ import annotations

import pytest

from agents.asks import PermissionAsked
from agents.backend import (
    ChildOpened,
    Delta,
    Entry,
    Failed,
    Heartbeat,
    Idle,
    InstanceGone,
    LogEntry,
    PartReset,
    Retrying,
)
from sessions_app import selectors
from sessions_app.bridge.ingest import Ingest
from sessions_app.models import Turn
from studio.kernel.clock import later, now


@pytest.fixture
def ingest(session):
    session.external_id = "ses_a"
    session.save(update_fields=["external_id"])
    return Ingest(session.server_id)


def entry(key: str, kind: str = "text", **data) -> LogEntry:
    return LogEntry(kind, f"{kind}:{key}", {"text": key, **data}, now())


def test_take__stores_entries_of_known_sessions_only(ingest, session):
    ingest.take([Entry("ses_a", entry("one")), Entry("ses_other", entry("two")), Heartbeat()])
    assert [event.data["text"] for event in selectors.read_session(str(session.pk), 0)] == ["one"]
    assert ingest.tally.total == {"taken": 1, "foreign_session": 1, "heartbeat": 1}


def test_take__says_what_to_look_at(ingest, session):
    noticed = ingest.take([Idle("ses_a"), Idle("ses_a"), Failed("ses_b", "x", "y"), InstanceGone("/srv/tree")])
    assert noticed.look_at == {session.pk}
    assert noticed.gone == ["/srv/tree"]


def test_take__a_sub_agents_work_shows_in_its_parent(ingest, session):
    noticed = ingest.take(
        [
            ChildOpened("ses_child", "ses_a"),
            ChildOpened("ses_grandchild", "ses_child"),
            Entry("ses_grandchild", entry("deep")),
            Entry("ses_child", entry("prompt", "user")),
            Idle("ses_child"),
            PermissionAsked("ses_child", "per_1", "/srv/tree", "bash", "ls"),
        ]
    )
    events = selectors.read_session(str(session.pk), 0)
    assert [(event.data["text"], event.data["child"]) for event in events] == [("deep", "ses_grandchild")]
    assert noticed.look_at == set()  # a child's idle is not the end of the turn
    assert [ask.id for ask in noticed.asks] == ["per_1"]


def test_take__one_entry_that_cannot_be_stored_costs_only_itself(ingest, session):
    ingest.take(
        [Entry("ses_a", entry("good")), Entry("ses_a", entry("bad", value=object())), Entry("ses_a", entry("also"))]
    )
    assert [event.data["text"] for event in selectors.read_session(str(session.pk), 0)] == ["good", "also"]


def test_deltas__are_joined_and_sent_on(ingest, session, monkeypatch):
    sent = []
    monkeypatch.setattr("studio.doorbell.send_pieces", sent.extend)
    ingest.take([Delta("ses_a", "p", "Hel", False), Delta("ses_a", "p", "lo", False)])
    ingest.flush()
    ingest.take([PartReset("ses_a", "p")])
    assert sent == [(f"session:{session.pk}", "p", "Hello", False), (f"session:{session.pk}", "p", None, False)]


def test_retry__is_noted_on_the_turn(ingest, turn):
    Turn.objects.filter(pk=turn.pk).update(state="running")
    at = later(30)
    ingest.take([Retrying("ses_a", 1, "rate limited", at)])
    turn.refresh_from_db()
    assert (turn.retry_note, turn.retry_at) == ("rate limited", at)
