"""Which turns are held against the server, and how many at once."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from agents.backend import ChildOpened, Entry, LogEntry, Replayed
from sessions_app import selectors
from sessions_app.bridge import reconciler as module
from sessions_app.bridge.asks import AskDesk
from sessions_app.bridge.ingest import Ingest
from sessions_app.bridge.reconciler import Reconciler
from sessions_app.bridge.replay import Replay, cursors_of
from sessions_app.bridge.server import ServerBridge
from sessions_app.models import SubSession, Turn
from sessions_app.services import turns
from studio.kernel.clock import now
from studio.kernel.errors import Upstream
from tests.fakes.agent_backend import FakeBackend


class Pool:
    """Keeps what was submitted instead of running it."""

    def __init__(self):
        self.submitted = []

    def submit(self, _function, *arguments):
        self.submitted += arguments


@pytest.fixture
def running(workspace, server):
    """Makes turns that run, silent for so many seconds."""

    def make(*silences: float) -> list[Turn]:
        made = []
        for silence in silences:
            session = turns.open_session(
                workspace=workspace, server=server, role="planner", title="t", agent="studio-planner", model=""
            )
            session.external_id = f"ses_{len(session.title)}{session.pk.hex[-8:]}"
            session.save(update_fields=["external_id"])
            turn = turns.admit_turn(session=session, prompt="x", max_steps=3, wall_seconds=600, idle_seconds=300)
            at = now() - timedelta(seconds=silence)
            Turn.objects.filter(pk=turn.pk).update(state="running", last_event_at=at, server_boot=server.boot)
            made.append(turn)
        return made

    return make


@pytest.fixture
def reconciler(server):
    one = Reconciler(server.pk)
    one.close()
    one.pool = Pool()
    return one


def test_tick__looks_at_silent_turns_only_longest_first(reconciler, running):
    silent, _fresh, longest = running(20, 1, 60)
    reconciler.tick()
    assert reconciler.pool.submitted == [longest.pk, silent.pk]


def test_tick__is_bounded_and_comes_round(reconciler, running, monkeypatch):
    monkeypatch.setattr(module, "QUIET_PER_TICK", 2)
    made = running(50, 40, 30, 20)
    for expected in ([0, 1], [2, 3], []):
        reconciler.pool.submitted = []
        reconciler._in_flight.clear()
        reconciler.tick()
        assert reconciler.pool.submitted == [made[index].pk for index in expected]


def test_tick__turns_of_a_server_that_was_started_again_are_due_at_once(reconciler, running, server):
    (turn,) = running(0)
    server.boot = "another"
    server.save(update_fields=["boot"])
    reconciler.tick()
    assert reconciler.pool.submitted == [turn.pk]


def test_backlog__leaves_room_for_a_turn_that_has_just_ended(reconciler, running, monkeypatch):
    monkeypatch.setattr(module, "ROOM", 2)
    made = running(*[0] * 5)
    reconciler.look_at_all()
    assert len(reconciler.pool.submitted) == 2
    waiting = next(turn for turn in made if turn.pk not in reconciler.pool.submitted)
    reconciler.look_at(Turn.objects.filter(pk=waiting.pk))
    assert reconciler.pool.submitted[-1] == waiting.pk
    reconciler._in_flight.clear()
    reconciler.refill()
    assert len(reconciler.pool.submitted) == 5


def test_look_at__a_turn_that_is_being_looked_at_is_looked_at_again(server, running, monkeypatch):
    (turn,) = running(0)
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()
    looked = []

    def reconcile(turn_id):
        looked.append(turn_id)
        begun.set()
        go_on.wait(10)
        if len(looked) == 2:
            done.set()

    monkeypatch.setattr(module, "reconcile", reconcile)
    one = Reconciler(server.pk)
    one.look_at(Turn.objects.filter(pk=turn.pk))
    assert begun.wait(10)
    for _ in range(3):
        one.look_at(Turn.objects.filter(pk=turn.pk))
    go_on.set()
    assert done.wait(10)
    one.pool.shutdown(wait=True)
    assert looked == [turn.pk] * 2


def test_cursors__of_active_sessions_and_their_sub_agents(server, running):
    active, over = running(0, 0)
    Turn.objects.filter(pk=over.pk).update(state="settled")
    active.session.upstream_seq = 7
    active.session.save(update_fields=["upstream_seq"])
    for turn in (active, over):
        SubSession.objects.create(session=turn.session, external_id=f"{turn.session.external_id}_kid", upstream_seq=2)
    assert cursors_of(server.pk) == {active.session.external_id: 7, f"{active.session.external_id}_kid": 2}


class HistoryBackend(FakeBackend):
    def history(self, cursors):
        self._maybe_fail("history")
        for session in cursors:
            kid = f"{session}_kid"
            yield Replayed(kid, -1, [ChildOpened(kid, session)])
            for seq in range(3):
                yield Replayed(kid, seq, [Entry(kid, LogEntry("text", f"text:{seq}", {"text": str(seq)}, now()))])


@pytest.fixture
def follower(server, monkeypatch):
    """A bridge that has just lost and found its stream; its loop is driven by the test."""
    backend = HistoryBackend()
    monkeypatch.setattr("sessions_app.bridge.replay.backend_for", lambda server: backend)
    bridge = ServerBridge(server.pk, threading.Event())
    bridge.reconciler.close()
    bridge.reconciler.pool = Pool()
    bridge.backend = backend
    return bridge


def drive(bridge) -> None:
    for _ in range(500):
        bridge._batch()
        if bridge.replay is None:
            return
    raise AssertionError("the replay does not end")


@pytest.mark.django_db(transaction=True)
def test_replay__is_written_before_the_turns_are_looked_at(follower, running):
    (turn,) = running(0)
    follower.replay = Replay(follower.server_id)
    drive(follower)
    events = selectors.read_session(str(turn.session_id), 0)
    assert [event.data["text"] for event in events] == ["0", "1", "2"]
    assert turn.pk in follower.reconciler.pool.submitted
    assert follower.ingest.cursors._seqs[f"{turn.session.external_id}_kid"] == 2


@pytest.mark.django_db(transaction=True)
def test_replay__that_fails_leaves_it_to_the_messages(follower, running):
    (turn,) = running(0)
    follower.backend.fail["history"] = Upstream("no answer", code="server_unreachable", transient=True)
    follower.replay = Replay(follower.server_id)
    drive(follower)
    assert turn.pk in follower.reconciler.pool.submitted


@pytest.mark.django_db(transaction=True)
def test_replay__live_events_wait_until_it_is_over(follower, running, monkeypatch):
    (turn,) = running(0)
    follower.items.put(Entry(turn.session.external_id, LogEntry("text", "text:live", {"text": "live"}, now())))
    follower.replay = Replay(follower.server_id)
    drive(follower)
    follower._batch()
    texts = [event.data["text"] for event in selectors.read_session(str(turn.session_id), 0)]
    assert texts == ["0", "1", "2", "live"]


@pytest.mark.django_db(transaction=True)
def test_replay__that_takes_too_long_is_given_up(follower, running, monkeypatch):
    (turn,) = running(0)
    held = threading.Event()
    monkeypatch.setattr(HistoryBackend, "history", lambda self, cursors: held.wait(20) and iter(()))
    follower.replay = Replay(follower.server_id)
    follower.replay._until = 0.0
    drive(follower)
    held.set()
    assert turn.pk in follower.reconciler.pool.submitted
    assert isinstance(follower.ingest, Ingest)


def test_asks__of_many_directories_are_looked_for_in_turn(server, running, monkeypatch):
    looked: list[set[str]] = []
    monkeypatch.setattr("sessions_app.bridge.asks.SYNC_DIRECTORIES", 2)
    monkeypatch.setattr("sessions_app.bridge.asks.asks.sync", lambda server, names: looked.append(names))
    monkeypatch.setattr("sessions_app.bridge.asks.asks.turns_at_work", lambda server: {"/a", "/b", "/c"})
    desk = AskDesk(server.pk)
    desk.close()
    for limit in (2, 2, None):
        desk._sync(limit, server)
    assert [len(names) for names in looked] == [2, 2, 3]
    assert looked[0] | looked[1] == {"/a", "/b", "/c"}
