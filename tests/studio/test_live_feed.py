"""The WebSocket feed over a real broker: replay, then follow, without gap or double."""

from __future__ import annotations

import asyncio
import json

import pytest

from studio import consumers, doorbell, readers
from studio.kernel.ids import new_id
from tests.studio.feed import PATIENCE, apublish, ask, connect, end, seqs, told_slow

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]


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
    doorbell.send_pieces([(topic, "prt_1", "Hel", True)])
    while await reader.receive_nothing(0.5):  # it was sent before the hub's own subscription at the broker
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


async def test_beyond__a_cursor_of_another_history_is_told(world):
    owner, project = world
    topic = f"project:{project.pk}"
    await apublish(project, "a", "b")
    reader = await connect(owner)
    answer = await ask(reader, type="subscribe", topics=[topic], after={topic: 17})
    assert answer == {"type": "subscribed", "topic": topic, "seq": 2, "head": 2, "beyond": True}
    await apublish(project, "c")
    assert await seqs(reader, 1) == [3]
    await end(reader)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no json", "bad_frame"),
        ("[]", "bad_frame"),
        ("{}", "bad_frame"),
        ('{"type":["subscribe"]}', "bad_frame"),
        ('{"type":"subscribe"}', "bad_frame"),
        ('{"type":"subscribe","topics":"x"}', "bad_frame"),
        ('{"type":"subscribe","topics":[1]}', "bad_frame"),
        ('{"type":"subscribe","topics":["project:1"],"after":[]}', "bad_frame"),
        ('{"type":"subscribe","topics":["project:1"],"after":{"project:1":-1}}', "bad_cursor"),
        ('{"type":"subscribe","topics":["project:1"],"after":{"project:1":"7"}}', "bad_cursor"),
        ('{"type":"subscribe","topics":["project:1"],"after":{"project:1":1.5}}', "bad_cursor"),
        ('{"type":"subscribe","topics":["project:1"],"after":{"project:1":true}}', "bad_cursor"),
        ('{"type":"subscribe","topics":["project:1"],"after":{"project:1":NaN}}', "bad_cursor"),
        ('{"type":"subscribe","topics":["project:1"],"after":{"project:1":9223372036854775808}}', "bad_cursor"),
        ('{"type":"subscribe","topics":["project:1"],"after":{"project:1":' + "9" * 5000 + "}}", "bad_frame"),
        ('{"type":"subscribe","topics":["nothing:1"]}', "not_found"),
        ('{"type":"subscribe","topics":["project:no-id"]}', "not_found"),
        ('{"type":"subscribe","topics":["project:\\u0000"]}', "not_found"),
        ('{"type":"subscribe","topics":["project:\\ud800"]}', "not_found"),
        ('{"type":"subscribe","topics":["' + "x" * 5000 + '"]}', "not_found"),
        ('{"type":"unsubscribe"}', "bad_frame"),
        (json.dumps({"type": "subscribe", "topics": [f"project:{n}" for n in range(201)]}), "too_many_topics"),
        (json.dumps({"type": "subscribe", "topics": [f"project:{new_id()}" for _ in range(10_000)]}), "bad_frame"),
        ("[" * 60_000, "bad_frame"),
        ("x" * 70_000, "bad_frame"),
        (b"\x00\xff", "bad_frame"),
    ],
    ids=range(26),
)
async def test_bad_frames__are_answered_and_the_connection_goes_on(world, text, code):
    reader = await connect(world[0])
    await (reader.send_to(bytes_data=text) if isinstance(text, bytes) else reader.send_to(text_data=text))
    answer = await reader.receive_json_from(PATIENCE)
    assert (answer["type"], answer["code"]) == ("error", code)
    assert answer["message"]
    assert (await ask(reader, type="ping"))["type"] == "pong"
    await end(reader)


async def test_subscriptions__are_bounded_over_several_frames(world):
    owner, project = world
    topic = f"project:{project.pk}"
    reader = await connect(owner)
    await ask(reader, type="subscribe", topics=[topic])
    for name in (f"project:{new_id()}" for _ in range(3)):
        assert (await ask(reader, type="subscribe", topics=[name]))["code"] == "not_found"
    crowd = [f"project:{new_id()}" for _ in range(200)]
    assert (await ask(reader, type="subscribe", topics=crowd))["code"] == "too_many_topics"
    await apublish(project, "a")
    assert await seqs(reader, 1) == [1]  # what it had, it has still
    await end(reader)


async def test_subscribe__an_id_written_otherwise_is_no_topic(world):
    owner, project = world
    reader = await connect(owner)
    answer = await ask(reader, type="subscribe", topics=[f"project:{project.pk.hex}"])
    assert answer["code"] == "not_found"
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


async def test_subscribe_again__goes_on_from_the_cursor_without_double(world):
    owner, project = world
    topic = f"project:{project.pk}"
    await apublish(project, *["a"] * 4)
    reader = await connect(owner)
    await ask(reader, type="subscribe", topics=[topic], after={topic: 0})
    assert await seqs(reader, 4) == [1, 2, 3, 4]
    await reader.send_json_to({"type": "subscribe", "topics": [topic], "after": {topic: 2}})
    assert await seqs(reader, 2) == [3, 4]
    await apublish(project, "b")
    assert await seqs(reader, 1) == [5]
    await end(reader)


async def test_replay__comes_in_pages(world, monkeypatch):
    monkeypatch.setattr(readers, "PAGE", 7)
    owner, project = world
    topic = f"project:{project.pk}"
    await apublish(project, *["a"] * 50)
    reader = await connect(owner)
    await reader.send_json_to({"type": "subscribe", "topics": [topic], "after": {topic: 0}})
    assert await seqs(reader, 50) == list(range(1, 51))
    await end(reader)


# ---- readers that do not read


async def test_window__not_more_is_sent_than_the_reader_confirms(world, monkeypatch):
    monkeypatch.setattr(consumers.Window, "SIZE", 4_000)
    monkeypatch.setattr(consumers.Window, "PING_EVERY", 1_000)
    owner, project = world
    topic = f"project:{project.pk}"
    await apublish(project, *["a"] * 100)
    reader = await connect(owner)
    await reader.send_json_to({"type": "subscribe", "topics": [topic], "after": {topic: 0}})
    length = 0
    while length < 3_000 or not await reader.receive_nothing(1):
        text = await reader.receive_from(PATIENCE)
        length += len(text) if json.loads(text)["type"] == "event" else 0
    assert length < 6_000
    await end(reader)


async def test_window__a_confirmed_reader_gets_everything(world, monkeypatch):
    monkeypatch.setattr(consumers.Window, "SIZE", 4_000)
    monkeypatch.setattr(consumers.Window, "PING_EVERY", 1_000)
    owner, project = world
    topic = f"project:{project.pk}"
    await apublish(project, *["a"] * 100)
    reader = await connect(owner)
    await reader.send_json_to({"type": "subscribe", "topics": [topic], "after": {topic: 0}})
    assert await seqs(reader, 100) == list(range(1, 101))
    await end(reader)


def test_window__a_word_that_was_not_sent_confirms_nothing():
    window = consumers.Window()
    window.count(window.SIZE)
    first, second = window.ping()["id"], window.ping()["id"]
    for word in (None, "", 7, "guessed", ["x"]):
        window.pong(word)
    assert window.unconfirmed == window.SIZE
    window.pong(second)
    assert window.unconfirmed == 0
    window.count(10)
    window.pong(first)  # late, and answered already
    assert window.unconfirmed == 10


async def test_ping__without_an_answer_the_connection_ends(world, monkeypatch):
    monkeypatch.setattr(consumers, "PING_SECONDS", 0.05)
    monkeypatch.setattr(consumers, "ANSWER_SECONDS", 0.2)
    reader = await connect(world[0])
    while (said := await reader.receive_output(PATIENCE))["type"] == "websocket.send":
        assert json.loads(said["text"])["type"] == "ping"
    assert (said["type"], said["code"]) == ("websocket.close", 4408)


async def test_ping__an_answered_one_keeps_the_connection(world, monkeypatch):
    monkeypatch.setattr(consumers, "PING_SECONDS", 0.05)
    monkeypatch.setattr(consumers, "ANSWER_SECONDS", 1.0)
    reader = await connect(world[0])
    for _ in range(40):
        frame = await reader.receive_json_from(PATIENCE)
        await reader.send_json_to({"type": "pong", "id": frame["id"]})
    assert (await ask(reader, type="ping"))["type"] in ("pong", "ping")
    await end(reader)


async def test_slow_reader__is_told_and_goes_on_without_a_gap(world, monkeypatch):
    monkeypatch.setattr(consumers.Window, "SIZE", 2_000)
    monkeypatch.setattr(consumers.Window, "PING_EVERY", 500)
    monkeypatch.setattr(readers, "QUEUE_FRAMES", 20)
    monkeypatch.setattr(readers, "SLOW_SECONDS", 0.3)
    owner, project = world
    topic = f"project:{project.pk}"
    reader = await connect(owner)
    await ask(reader, type="subscribe", topics=[topic])
    told = told_slow(monkeypatch)
    await apublish(project, *["a"] * 200)
    await asyncio.wait_for(told.wait(), PATIENCE)  # it does not read until then
    seen = []
    while True:
        frame = await reader.receive_json_from(PATIENCE)
        if frame["type"] == "ping":
            await reader.send_json_to({"type": "pong", "id": frame["id"]})
        elif frame["type"] == "event":
            seen.append(frame["seq"])
        elif frame["type"] == "resync":
            break
    assert frame == {"type": "resync", "topic": topic, "seq": seen[-1]}
    assert len(seen) < 200
    await reader.send_json_to({"type": "subscribe", "topics": [topic], "after": {topic: seen[-1]}})
    seen += await seqs(reader, 200 - len(seen))
    assert seen == list(range(1, 201))
    await end(reader)


async def test_burst__that_does_not_fit_is_read_from_the_rows(world, monkeypatch):
    monkeypatch.setattr(readers, "QUEUE_FRAMES", 10)
    owner, project = world
    topic = f"project:{project.pk}"
    reader = await connect(owner)
    await ask(reader, type="subscribe", topics=[topic])
    await apublish(project, *["a"] * 300)
    assert await seqs(reader, 300) == list(range(1, 301))  # a resync would have ended them
    await apublish(project, "b")
    assert await seqs(reader, 1) == [301]
    await end(reader)


async def test_asking_without_reading__ends_the_connection(world, monkeypatch):
    monkeypatch.setattr(consumers.Window, "SIZE", 100)
    monkeypatch.setattr(readers, "QUEUE_FRAMES", 5)
    monkeypatch.setattr(readers, "RESERVE_FRAMES", 5)
    reader = await connect(world[0])
    for _ in range(100):
        await reader.send_json_to({"type": "ping"})
    while (said := await reader.receive_output(PATIENCE))["type"] == "websocket.send":
        pass
    assert said["code"] == 1013
