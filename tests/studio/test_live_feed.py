"""The WebSocket feed over a real broker: replay, then follow, without gap or double."""

from __future__ import annotations

import asyncio
import json

import pytest
from channels.db import database_sync_to_async
from channels.layers import channel_layers
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser
from django.db import transaction

from studio import doorbell, hub, outbox
from studio.consumers import FeedConsumer
from tests.factories import make_project, make_user
from tests.real.valkey import valkey  # noqa: F401 -- a fixture

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("valkey")]

PATIENCE = 10  # seconds


@pytest.fixture
def broker(valkey, settings):  # noqa: F811
    """The channel layer of production on the real Valkey; hubs and loops of other tests are forgotten."""
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [valkey.url]}}
    }
    channel_layers.backends = {}
    hub._hubs.clear()
    doorbell._loop = None
    yield valkey
    channel_layers.backends = {}
    doorbell._loop = None


def publish(project, *kinds: str) -> None:
    with transaction.atomic():
        for kind in kinds:
            outbox.publish(project.pk, f"task:{project.pk}", kind, {"x": 1})


apublish = database_sync_to_async(publish)


async def connect(user) -> WebsocketCommunicator:
    reader = WebsocketCommunicator(FeedConsumer.as_asgi(), "/ws/feed/")
    vars(reader)["scope"]["user"] = user
    connected, _ = await reader.connect()
    assert connected
    return reader


async def ask(reader, **message) -> dict:
    await reader.send_json_to(message)
    return await reader.receive_json_from(PATIENCE)


async def seqs(reader, count: int) -> list[int]:
    """The numbers of the next events; pings and deltas are passed over."""
    found: list[int] = []
    while len(found) < count:
        frame = await reader.receive_json_from(PATIENCE)
        if frame["type"] == "event":
            found.append(frame["seq"])
    return found


@pytest.fixture
def world(db, broker):
    owner = make_user(superuser=True)
    return owner, make_project(owner=owner)


async def end(*readers) -> None:
    for reader in readers:
        await reader.disconnect()
    for one in hub._hubs.values():
        for task in one._tasks:
            task.cancel()
    await asyncio.sleep(0)


async def test_subscribe__replays_then_follows(world):
    owner, project = world
    topic = f"project:{project.pk}"
    await apublish(project, *["a"] * 5)
    reader = await connect(owner)
    answer = await ask(reader, type="subscribe", topics=[topic], after={topic: 2})
    assert (answer["type"], answer["seq"], answer["head"]) == ("subscribed", 2, 5)
    assert await seqs(reader, 3) == [3, 4, 5]
    await apublish(project, "b")
    assert await seqs(reader, 1) == [6]
    await end(reader)


async def test_two_readers__with_different_cursors_get_the_same_events(world):
    owner, project = world
    topic = f"project:{project.pk}"
    await apublish(project, *["a"] * 3)
    early, late = await connect(owner), await connect(owner)
    await ask(early, type="subscribe", topics=[topic], after={topic: 0})
    await ask(late, type="subscribe", topics=[topic])
    writing = asyncio.gather(*(apublish(project, "b", "c") for _ in range(20)))
    assert await seqs(early, 43) == list(range(1, 44))
    assert await seqs(late, 40) == list(range(4, 44))
    await writing
    await end(early, late)


async def test_subscribe__while_events_are_written_has_no_gap_and_no_double(world):
    owner, project = world
    topic = f"project:{project.pk}"
    writing = asyncio.gather(*(apublish(project, "a") for _ in range(60)))
    readers = []
    for _ in range(5):
        readers.append(await connect(owner))
        await readers[-1].send_json_to({"type": "subscribe", "topics": [topic], "after": {topic: 0}})
    await writing
    for reader in readers:
        assert await seqs(reader, 60) == list(range(1, 61))
    await end(*readers)


async def test_broker_restarted_empty__the_reader_catches_up(world, broker):
    owner, project = world
    topic = f"project:{project.pk}"
    reader = await connect(owner)
    await ask(reader, type="subscribe", topics=[topic], after={topic: 0})
    broker.kill()
    await apublish(project, "a", "b")
    broker.start()
    assert await seqs(reader, 2) == [1, 2]
    await end(reader)


async def test_delta__reaches_those_who_look(world):
    owner, project = world
    topic = f"project:{project.pk}"
    reader = await connect(owner)
    await ask(reader, type="subscribe", topics=[topic])
    await asyncio.sleep(0.2)  # the hub's own subscription at the broker
    doorbell.send_pieces([(topic, "prt_1", "Hel", True)])
    frame = await reader.receive_json_from(PATIENCE)
    assert frame == {"type": "delta", "topic": topic, "part": "prt_1", "text": "Hel", "reasoning": True}
    await end(reader)


async def test_batch__what_waits_comes_in_one_message(world):
    owner, project = world
    topic = f"project:{project.pk}"
    await apublish(project, *["a"] * 40)
    reader = await connect(owner)
    await reader.send_json_to({"type": "subscribe", "topics": [topic], "after": {topic: 0}, "batch": True})
    seen, messages = [], 0
    while len(seen) < 40:
        frame = await reader.receive_json_from(PATIENCE)
        messages += 1
        frames = frame["frames"] if frame["type"] == "batch" else [frame]
        seen += [one["seq"] for one in frames if one["type"] == "event"]
    assert seen == list(range(1, 41))
    assert messages < 10
    await end(reader)


async def test_anonymous__is_turned_away(world):
    reader = WebsocketCommunicator(FeedConsumer.as_asgi(), "/ws/feed/")
    vars(reader)["scope"]["user"] = AnonymousUser()
    await reader.connect()
    assert (await reader.receive_output(PATIENCE))["code"] == 4401


async def test_stranger__sees_no_topic(world):
    stranger = await database_sync_to_async(make_user)()
    reader = await connect(stranger)
    answer = await ask(reader, type="subscribe", topics=[f"project:{world[1].pk}"])
    assert (answer["type"], answer["code"]) == ("error", "not_found")
    await end(reader)


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "{}",
        '{"type":"subscribe"}',
        '{"type":"subscribe","topics":"x"}',
        '{"type":"subscribe","topics":["project:1"],"after":[]}',
        '{"type":"subscribe","topics":["project:1"],"after":{"project:1":-1}}',
        '{"type":"subscribe","topics":["nothing:1"]}',
        '{"type":"subscribe","topics":["project:no-id"]}',
        json.dumps({"type": "subscribe", "topics": [f"project:{n}" for n in range(201)]}),
        "[" * 60_000,
        "x" * 70_000,
    ],
    ids=range(12),
)
async def test_bad_frames__are_answered_and_the_connection_goes_on(world, text):
    reader = await connect(world[0])
    await reader.send_to(text_data=text)
    assert (await reader.receive_json_from(PATIENCE))["type"] == "error"
    assert (await ask(reader, type="ping"))["type"] == "pong"
    await end(reader)


async def test_unsubscribe__ends_the_topic(world):
    owner, project = world
    topic = f"project:{project.pk}"
    reader = await connect(owner)
    await ask(reader, type="subscribe", topics=[topic])
    assert (await ask(reader, type="unsubscribe", topics=[topic]))["type"] == "unsubscribed"
    await apublish(project, "a")
    assert (await ask(reader, type="ping"))["type"] == "pong"
    await end(reader)
