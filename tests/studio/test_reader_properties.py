"""Hub and readers under random interleavings: whatever happens, what a reader has is gapless and without doubles.

The rows, the doorbell and the moments at which a reading of rows comes back are the test's; hub, replay and queue are real.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from itertools import cycle

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from studio import hub, readers
from studio.access import Identity

TOPICS = ("one", "two")
PEOPLE = 3
ROUNDS = 20_000  # of the event loop; far more than any example takes


def encoded(topic: str, seq: int) -> str:
    """An event's frame; some are much longer than others."""
    return json.dumps({"type": "event", "topic": topic, "seq": seq, "data": "x" * (seq % 5 * 100)})


class Rows:
    """The events of each topic, read with the delays that the example gives."""

    def __init__(self, delays: list[int]) -> None:
        self.rows: dict[str, int] = defaultdict(int)
        self._delays = cycle(delays)

    async def wait(self) -> None:
        """Let others run, before the rows are read and again before what was read comes back."""
        for _ in range(next(self._delays)):
            await asyncio.sleep(0)

    async def page(self, topic: str, after: int, limit: int) -> list[tuple[int, str]]:
        await self.wait()
        found = range(after + 1, min(self.rows[topic], after + limit) + 1)
        await self.wait()
        return [(seq, encoded(topic, seq)) for seq in found]

    async def frames(self, cursors: dict[str, int], limit: int) -> dict[str, list[tuple[int, str]]]:
        await self.wait()
        found, left = {}, limit
        for topic, after in cursors.items():
            seqs = range(after + 1, min(self.rows[topic], after + left) + 1)
            left -= len(seqs)
            if seqs:
                found[topic] = [(seq, encoded(topic, seq)) for seq in seqs]
        await self.wait()
        return found

    async def heads(self, identity: Identity, names: list[str]) -> dict[str, int]:
        await self.wait()
        return {name: self.rows[name] for name in names}


class Person:
    """Somebody with one connection after the other. Checks every event against what it has already."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.last: dict[str, int] = dict.fromkeys(TOPICS, 0)
        self.wanted: set[str] = set()
        self.asked: dict[str, int] = defaultdict(int)  # subscriptions that are not confirmed yet
        self.reader = readers.FeedReader(Identity(1))

    async def subscribe(self, topic: str) -> None:
        self.wanted.add(topic)
        self.asked[topic] += 1
        await self.reader.subscribe([topic], {topic: self.last[topic]})

    def unsubscribe(self, topic: str) -> None:
        self.wanted.discard(topic)
        self.reader.unsubscribe([topic])

    async def reconnect(self) -> None:
        """The connection is cut with whatever was on its way; a new one goes on from the cursors."""
        self.reader.close()
        self.reader = readers.FeedReader(Identity(1))
        self.asked.clear()
        for topic in sorted(self.wanted):
            await self.subscribe(topic)

    async def read(self, count: int) -> None:
        for _ in range(min(count, len(self.reader.queue))):
            frame = json.loads(self.reader.queue.take_now())
            topic = frame["topic"]
            if frame["type"] == "subscribed":
                self.asked[topic] -= 1
            if topic not in self.wanted or self.asked[topic]:
                continue  # of an earlier subscription
            if frame["type"] == "event":
                assert frame["seq"] == self.last[topic] + 1, f"{self.last[topic]} was followed by {frame['seq']}"
                self.last[topic] = frame["seq"]
            else:
                assert frame["seq"] == self.last[topic]
                if frame["type"] == "resync":
                    await self.subscribe(topic)

    def has_all(self) -> bool:
        return all(self.last[topic] == self.rows.rows[topic] for topic in self.wanted)


person = st.integers(0, PEOPLE - 1)
topic = st.sampled_from(("one", "one", "one", "two"))
STEP = {
    "publish": st.tuples(st.just("publish"), topic, st.integers(1, 6), st.booleans()),  # rung, or the ring was lost
    "subscribe": st.tuples(st.just("subscribe"), person, topic),
    "unsubscribe": st.tuples(st.just("unsubscribe"), person, topic),
    "reconnect": st.tuples(st.just("reconnect"), person),
    "read": st.tuples(st.just("read"), person, st.integers(1, 20)),
    "pass": st.tuples(st.just("pass"), st.integers(1, 30)),
    "pause": st.tuples(st.just("pause")),
    "look": st.tuples(st.just("look")),
}
OFTEN = [*["publish", "pass", "read"] * 6, *["subscribe", "reconnect"] * 2, "unsubscribe", "pause", "look"]
STEPS = st.lists(st.sampled_from(OFTEN).flatmap(STEP.__getitem__), min_size=60, max_size=150)
DELAYS = st.lists(st.integers(0, 16), min_size=7, max_size=13)


class World:
    """One example: the hub, its rows and its people, on the running loop."""

    def __init__(self, delays: list[int]) -> None:
        self.rows = Rows(delays)
        self.hub = hub.Hub()
        self.people: list[Person] = []

    async def __aenter__(self) -> World:
        hub._hubs[asyncio.get_running_loop()] = self.hub
        self.hub._tasks = [asyncio.create_task(self.hub._pump())]  # it hears no doorbell but the test's
        self.people = [Person(self.rows) for _ in range(PEOPLE)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for one in self.people:
            one.reader.close()
        self.hub._tasks[0].cancel()
        del hub._hubs[asyncio.get_running_loop()]
        await asyncio.sleep(0)

    async def do(self, step: tuple) -> None:
        match step:
            case ("publish", name, count, is_rung):
                self.rows.rows[name] += count
                if is_rung:
                    self.hub.mark(name)
            case ("subscribe", who, name):
                await self.people[who].subscribe(name)
            case ("unsubscribe", who, name):
                self.people[who].unsubscribe(name)
            case ("reconnect", who):
                await self.people[who].reconnect()
            case ("read", who, count):
                await self.people[who].read(count)
            case ("pass", count):
                for _ in range(count):
                    await asyncio.sleep(0)
            case ("pause",):
                await asyncio.sleep(0.003)  # longer than a reader may be slow
            case ("look",):
                self.look()

    def look(self) -> None:
        """What the hub does by itself every few seconds."""
        for name in list(self.hub._cursor):
            self.hub.mark(name)

    async def settle(self) -> None:
        """Everybody reads until they have everything; the hub looks by itself now and then."""
        for number in range(ROUNDS):
            if all(one.has_all() for one in self.people):
                return
            if number % 50 == 0:
                self.look()
            for one in self.people:
                await one.read(5)
            await asyncio.sleep(0)
        raise AssertionError([(one.wanted, one.last, dict(self.rows.rows)) for one in self.people])


@pytest.fixture
def small(monkeypatch) -> Callable[[Rows], None]:
    """Small bounds, so that short examples reach them, and rows in memory."""
    monkeypatch.setattr(readers, "PAGE", 3)
    monkeypatch.setattr(readers, "QUEUE_FRAMES", 12)
    monkeypatch.setattr(readers, "QUEUE_CHARS", 1_500)
    monkeypatch.setattr(readers, "SLOW_SECONDS", 0.002)
    monkeypatch.setattr(hub, "READ_LIMIT", 5)
    monkeypatch.setattr(hub, "BATCH_SECONDS", 0.0)

    def use(rows: Rows) -> None:
        monkeypatch.setattr(readers, "read_page", rows.page)
        monkeypatch.setattr(readers, "heads_of", rows.heads)
        monkeypatch.setattr(hub, "read_frames", rows.frames)

    return use


@settings(
    max_examples=200,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # making a failure smaller takes minutes: moments count here
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(STEPS, DELAYS)
def test_history__is_gapless_and_without_doubles_whatever_happens(small, steps, delays):
    async def run() -> None:
        async with World(delays) as world:
            small(world.rows)
            for one in world.people:
                await one.subscribe("one")
            for step in steps:
                await world.do(step)
                await world.rows.wait()
            await world.settle()

    asyncio.run(run())


async def test_subscribe__from_the_end_reads_no_page(small):
    async with World([0]) as world:
        world.rows.rows["one"] = 7
        world.rows.page = None  # whoever reads one fails
        small(world.rows)
        reader = readers.FeedReader(Identity(1))
        await reader.subscribe(["one"], {})
        world.rows.rows["one"] = 8
        world.hub.mark("one")
        assert json.loads(await reader.queue.take())["type"] == "subscribed"
        assert json.loads(await reader.queue.take())["seq"] == 8
        reader.close()


async def test_replay__ends_where_something_is_new_after_every_look(small):
    async with World([0]) as world:
        pages = []

        async def page(topic: str, after: int, limit: int) -> list[tuple[int, str]]:
            pages.append(after)
            world.rows.rows[topic] += 1
            return await Rows.page(world.rows, topic, after, limit)

        world.rows.page = page
        world.rows.rows["one"] = 3
        small(world.rows)
        reader = readers.FeedReader(Identity(1))
        await reader.subscribe(["one"], {"one": 0})
        seen = [json.loads(await reader.queue.take()).get("seq") for _ in range(6)]
        assert seen == [0, 1, 2, 3, 4, 5]
        assert pages == [0, 3]
        world.rows.rows["one"] += 1
        world.hub.mark("one")
        assert json.loads(await reader.queue.take())["seq"] == 6
        reader.close()


class Notes:
    """A reader that writes down what it is given."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def deliver(self, topic: str, seq: int, frame: str) -> None:
        self.seen.append(seq)

    def deliver_delta(self, frame: str) -> None:
        raise AssertionError(frame)


async def test_hub__takes_nobody_in_who_has_less_than_it_handed_out():
    running, early, late = hub.Hub(), Notes(), Notes()
    assert running.join("one", early, 5)
    running._hand_out("one", 5, [(6, "six"), (7, "seven")])
    assert not running.join("one", late, 5)
    assert running.join("one", late, 7)
    running._hand_out("one", 7, [(8, "eight")])
    assert (early.seen, late.seen) == ([6, 7, 8], [8])


async def test_hub__rows_read_for_those_who_left_are_not_given_to_who_joined_further_back():
    running, early, late = hub.Hub(), Notes(), Notes()
    assert running.join("one", early, 5)
    running._dirty.clear()
    running.leave("one", early)  # while the rows after 5 are being read
    assert running.join("one", late, 2)
    running._dirty.clear()
    running._hand_out("one", 5, [(6, "six"), (7, "seven")])
    assert late.seen == []
    assert running._dirty == {"one"}  # it is read again, from where the newcomer is
    running._hand_out("one", 2, [(seq, "") for seq in range(3, 8)])
    assert late.seen == [3, 4, 5, 6, 7]
