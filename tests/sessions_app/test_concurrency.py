"""Real threads with connections of their own, on one session: what must happen once happens once, and in one order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError
from unittest.mock import patch

import pytest
from django.db import connections, transaction

from agents.backend import LogEntry
from sessions_app import log
from sessions_app.models import InboxItem, SessionEvent, Turn, TurnOutcome
from sessions_app.services import dispatch, follow_up, inbox, settle, steer, turns
from sessions_app.signals import turn_settled
from studio.kernel.claim import claim
from studio.kernel.clock import now
from studio.kernel.errors import StudioError
from tests.factories import make_profiles, make_project, make_server, make_workspace
from tests.fakes.model_server import ModelServer

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 6


def at_once(do: Callable[[int], object], count: int = THREADS) -> list[object]:
    """Call `do` in `count` threads at the same moment; results and StudioErrors, in no order."""
    barrier = Barrier(count)

    def one(number: int) -> object:
        try:
            barrier.wait(20)
            return do(number)
        except StudioError as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.fixture
def server():
    model = ModelServer()
    patches = [
        patch(f"sessions_app.services.{module}.backend_for", lambda _: model)
        for module in ("dispatch", "reconcile", "abort", "pause", "steer")
    ]
    for one in patches:
        one.start()
    yield model
    for one in patches:
        one.stop()


@pytest.fixture
def session(server):
    make_profiles()
    return turns.open_session(
        workspace=make_workspace(make_project()),
        server=make_server(),
        role="planner",
        title="S",
        agent="studio-planner",
        model="",
    )


@pytest.fixture
def turn(session):
    return turns.admit_turn(session=session, prompt="<0>", max_steps=9, wall_seconds=99, idle_seconds=99)


def entries(prefix: str, count: int) -> list[LogEntry]:
    return [LogEntry("text", f"{prefix}:{number}", {"text": "x"}, now()) for number in range(count)]


def test_append__by_many_writers_leaves_neither_gap_nor_double(session):
    """Half of what each writes is its own, half is what all of them heard of."""

    def write(number: int) -> int:
        new = 0
        for start in range(0, 20, 4):
            shared = entries("shared", 20)[start : start + 4]
            new += len(log.append(session.pk, [*shared, *entries(f"own-{number}-{start}", 4)]))
        return new

    written = at_once(write)
    rows = list(SessionEvent.objects.filter(session=session).order_by("seq").values_list("seq", "upstream_key"))
    assert [seq for seq, _ in rows] == list(range(1, 20 + THREADS * 20 + 1))
    assert len({key for _, key in rows}) == len(rows) == sum(written)


def test_claim__one_of_many_wins(turn):
    epochs = at_once(lambda _: claim(Turn.objects.filter(pk=turn.pk), seconds=30))
    assert sorted(epoch is not None for epoch in epochs) == [False] * (THREADS - 1) + [True]


def test_dispatch__by_many_workers_sends_one_prompt(session, turn, server):
    at_once(lambda _: dispatch.dispatch(turn.pk))
    session.refresh_from_db()
    assert server.said(session.external_id) == ["<0>"]
    assert len(server.messages) == 1


def test_dispatch__of_two_sessions_sends_one_into_their_workspace(session, turn, server):
    other = turns.open_session(
        workspace=session.workspace, server=session.server, role="implementer", title="I", agent="a", model=""
    )
    another = turns.admit_turn(session=other, prompt="<1>", max_steps=9, wall_seconds=99, idle_seconds=99)
    ready = Barrier(2)

    def looks(one: Turn) -> bool:
        found = occupied(one)
        with suppress(BrokenBarrierError):
            ready.wait(0.5)  # each has looked before either says that it is at work: where nothing keeps them apart
        return found

    occupied = dispatch._occupied
    with patch("sessions_app.services.dispatch._occupied", looks):
        at_once(lambda number: dispatch.dispatch((turn, another)[number].pk), 2)
    assert sorted(Turn.objects.values_list("state", flat=True)) == ["admitted", "running"]
    assert len(server.messages) == 1


def test_post__by_many_people_keeps_every_message_in_one_order(session, turn):
    at_once(lambda number: inbox.post(session=session, text=f"<{number + 1}>", delivery="queue"))
    positions = InboxItem.objects.filter(session=session).order_by("position").values_list("position", flat=True)
    assert list(positions) == list(range(1, THREADS + 1))


def test_deliver__by_many_workers_sends_a_steer_once(session, turn, server):
    dispatch.dispatch(turn.pk)
    log.append(session.pk, [LogEntry("user", f"user:{turn.message_id}", {"text": "<0>"}, now())])
    inbox.post(session=session, text="<1>", delivery="steer")
    at_once(lambda _: steer.deliver(session.pk))
    session.refresh_from_db()
    assert server.said(session.external_id) == ["<0>", "<1>"]
    assert session.events.filter(kind="inbox.delivered").count() == 1


def test_open_next__by_many_jobs_opens_one_turn(session):
    inbox.post(session=session, text="<1>", delivery="queue")
    inbox.post(session=session, text="<2>", delivery="queue")

    def open_next(_: int) -> object:
        with transaction.atomic():
            return follow_up.open_next(session.pk)

    opened = [turn for turn in at_once(open_next) if turn is not None]
    assert [turn.prompt for turn in opened] == ["<1>"]


def test_change_and_send__one_of_them_wins(session, turn, server):
    """A message that is being sent cannot be changed any more, and one that was taken back is never sent."""
    dispatch.dispatch(turn.pk)
    log.append(session.pk, [LogEntry("user", f"user:{turn.message_id}", {"text": "<0>"}, now())])
    for number in range(1, 6):
        item = inbox.post(session=session, text=f"<{number}>", delivery="steer")
        jobs = [lambda: steer.deliver(session.pk), lambda item=item: inbox.remove(item_id=item.pk)]
        at_once(lambda which, jobs=jobs: jobs[which](), 2)
    session.refresh_from_db()
    said = set(server.said(session.external_id)) - {"<0>"}
    removed = set(InboxItem.objects.filter(session=session, state="removed").values_list("text", flat=True))
    assert not said & removed
    assert said | removed == {f"<{number}>" for number in range(1, 6)}


def test_settle__by_many_is_told_once(session, turn):
    heard: list[int] = []

    def receiver(**_: object) -> None:
        heard.append(1)

    turn_settled.connect(receiver)
    try:
        answers = at_once(lambda _: settle.settle(turn.pk, TurnOutcome.COMPLETED))
    finally:
        turn_settled.disconnect(receiver)
    assert sorted(answers) == [False] * (THREADS - 1) + [True]
    assert len(heard) == 1
    assert session.events.filter(kind="turn.settled").count() == 1
