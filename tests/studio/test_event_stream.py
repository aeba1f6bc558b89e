"""The event-stream form of the readings by cursor, through Django's whole ASGI handler."""

from __future__ import annotations

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from django.core.asgi import get_asgi_application
from django.test import Client
from knox.models import AuthToken

from agents.backend import LogEntry
from sessions_app import log
from studio import event_stream, hub, readers
from studio.kernel.clock import now
from tests.factories import make_session, make_user, make_workspace
from tests.studio.event_streams import EventStream, request_scope, until
from tests.studio.feed import PATIENCE, apublish, told_slow

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]

FEED = "/api/v1/feed"


@database_sync_to_async
def token_of(user) -> str:
    _, token = AuthToken.objects.create(user)
    return f"Bearer {token}"


@pytest.fixture
async def bearer(world):
    return await token_of(world[0])


def of(project) -> str:
    return f"project={project.pk}"


def get_page(project, bearer) -> list:
    return Client(headers={"authorization": bearer}).get(f"{FEED}?{of(project)}&limit=500").json()["results"]


async def test_stream__replays_then_follows_what_the_pages_show(world, bearer):
    _, project = world
    await apublish(project, *["a"] * 5, text="line\nline\r…\ud7ff")
    stream = await EventStream(FEED, of(project), authorization=bearer).open()
    assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
    assert "no-store" in stream.headers["cache-control"]
    assert await stream.event() == {"event": "subscribed", "data": {"seq": 0, "head": 5}}
    seen = await stream.events(5)
    await apublish(project, "b", "c")
    seen += await stream.events(2)
    assert [event["id"] for event in seen] == ["1", "2", "3", "4", "5", "6", "7"]
    assert [event["event"] for event in seen] == [*"aaaaabc"]
    page = await sync_to_async(get_page)(project, bearer)
    for event in (*page, *(one["data"] for one in seen)):
        event["at"] = event["at"].replace("+00:00", "Z")
    assert [event["data"] for event in seen] == page
    await stream.leave()


@pytest.mark.parametrize(
    ("query", "last", "first"), [("&after=2", "", 3), ("", "3", 4), ("&after=1", "4", 5), ("&after=0&limit=1", "", 1)]
)
async def test_stream__begins_after_its_cursor(world, bearer, query, last, first):
    _, project = world
    await apublish(project, *["a"] * 6)
    stream = await EventStream(FEED, of(project) + query, authorization=bearer, last_event_id=last).open()
    seen = await stream.events(7 - first)
    assert [int(event["id"]) for event in seen] == list(range(first, 7))
    await stream.leave()


async def test_stream__of_a_session_for_a_browser_with_its_cookie(world):
    owner, project = world

    @sync_to_async
    def prepare():
        session = make_session(make_workspace(project), external_id="ses_1")
        entries = [LogEntry(kind="text", key=f"text:{n}", data={"text": str(n)}, at=now()) for n in range(30)]
        log.append(session.pk, entries)
        browser = Client()
        browser.force_login(owner)
        name, cookie = next(iter(browser.cookies.items()))
        path = f"/api/v1/sessions/{session.pk}/events"
        return session, path, f"{name}={cookie.value}", browser.get(f"{path}?limit=500").json()["results"]

    session, path, cookie, page = await prepare()
    stream = await EventStream(path, cookie=cookie).open()
    seen = [event["data"] for event in await stream.events(30)]
    assert [row["data"] for row in seen] == [row["data"] for row in page]
    assert set(seen[0]) == set(page[0])
    more = LogEntry(kind="reasoning", key="late", data={"text": "hm"}, at=now())
    await database_sync_to_async(log.append)(session.pk, [more])
    assert [event["event"] for event in await stream.events(1)] == ["reasoning"]
    await stream.leave()


async def test_beyond__a_cursor_of_another_history_is_told(world, bearer):
    _, project = world
    await apublish(project, "a")
    stream = await EventStream(FEED, of(project) + "&after=9", authorization=bearer).open()
    assert await stream.event() == {"event": "subscribed", "data": {"seq": 1, "head": 1, "beyond": True}}
    await stream.leave()


async def test_silence__is_filled_with_comments(world, bearer, monkeypatch):
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.05)
    stream = await EventStream(FEED, of(world[1]), authorization=bearer).open()
    await stream.event()
    for _ in range(3):
        assert (await stream.block()).startswith(":")
    await apublish(world[1], "a")
    assert [event["id"] for event in await stream.events(1)] == ["1"]
    await stream.leave()


async def test_client_goes__nothing_is_left(world, bearer):
    _, project = world
    streams = [await EventStream(FEED, of(project), authorization=bearer).open() for _ in range(3)]
    for stream in streams:
        await stream.event()
    running = hub.hub()
    await until(lambda: len(running._readers[f"project:{project.pk}"]) == 3)
    for stream in streams:
        await stream.leave()
    await until(lambda: not event_stream._open)
    assert not running._readers
    assert not running.guard._watched


async def test_streams__of_one_account_are_bounded(world, bearer, monkeypatch):
    monkeypatch.setattr(event_stream, "STREAMS", 3)
    _, project = world
    streams = [await EventStream(FEED, of(project), authorization=bearer).open() for _ in range(3)]
    for stream in streams:
        await stream.event()
    refused = await EventStream(FEED, of(project), authorization=bearer).open()
    assert (refused.status, refused.headers["content-type"]) == (429, "application/json")
    assert (await refused.body())["error"]["code"] == "too_many_streams"
    other = await token_of(await database_sync_to_async(make_user)(superuser=True))
    await (await EventStream(FEED, of(project), authorization=other).open()).leave()
    await streams.pop().leave()
    await until(lambda: event_stream._open[world[0].pk] == 2)
    again = await EventStream(FEED, of(project), authorization=bearer).open()
    assert again.status == 200
    for stream in (*streams, again):
        await stream.leave()


async def test_too_many_at_once__the_last_is_told(world, bearer, monkeypatch):
    _, project = world
    stream = EventStream(FEED, of(project), authorization=bearer)
    view = event_stream.StreamedView.stream

    def late(*args):
        answer = view(*args)
        event_stream._open[world[0].pk] = event_stream.STREAMS  # the others began between the check and this one
        return answer

    monkeypatch.setattr(event_stream.StreamedView, "stream", late)
    await stream.open()
    assert (await stream.event())["data"]["code"] == "too_many_streams"
    await stream.ended()
    assert event_stream._open[world[0].pk] == event_stream.STREAMS


async def test_long_stream__ends_with_a_cursor_from_which_it_goes_on(world, bearer, monkeypatch):
    monkeypatch.setattr(event_stream, "STREAM_CHARS", 2_000)
    monkeypatch.setattr(event_stream, "CHUNK_CHARS", 500)
    _, project = world
    await apublish(project, *["a"] * 100)
    seen, cursor, connections = [], "", 0
    while len(seen) < 100:
        stream = await EventStream(FEED, of(project), authorization=bearer, last_event_id=cursor).open()
        connections += 1
        while (event := await stream.event()) and event["event"] != "resync":
            if "id" in event:
                seen.append(int(event["id"]))
            if len(seen) == 100:
                break
        if event["event"] == "resync":
            assert event == {"event": "resync", "data": {"seq": seen[-1]}}
            await stream.ended()
        else:
            await stream.leave()
        cursor = str(seen[-1])
    assert seen == list(range(1, 101))
    assert connections > 3


async def test_slow_reader__of_a_server_that_waits_is_told_and_goes_on(world, bearer, monkeypatch):
    """A server with flow control does not return from `send` while the client does not read."""
    monkeypatch.setattr(readers, "QUEUE_FRAMES", 20)
    monkeypatch.setattr(readers, "SLOW_SECONDS", 0.3)
    monkeypatch.setattr(event_stream, "CHUNK_CHARS", 100)
    _, project = world
    reads, gone, pieces = asyncio.Event(), asyncio.Event(), []
    scope = request_scope(FEED, of(project), authorization=bearer)
    first = True

    async def receive():
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        await reads.wait()
        pieces.append(message.get("body", b"").decode())

    serving = asyncio.create_task(get_asgi_application()(scope, receive, send))
    reads.set()
    await until(lambda: "subscribed" in "".join(pieces))
    reads.clear()
    told_it = told_slow(monkeypatch)
    await apublish(project, *["a"] * 200)
    await asyncio.wait_for(told_it.wait(), PATIENCE)
    reads.set()
    await until(lambda: "resync" in "".join(pieces))
    gone.set()
    async with asyncio.timeout(PATIENCE):
        await serving
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in "".join(pieces).split("\n\n")]
    seen = [int(block["id"]) for block in blocks if "id" in block]
    told = next(json.loads(block["data"]) for block in blocks if block.get("event") == "resync")
    assert told == {"seq": seen[-1]}
    assert len(seen) < 200
    stream = await EventStream(FEED, of(project), authorization=bearer, last_event_id=str(told["seq"])).open()
    seen += [int(event["id"]) for event in await stream.events(200 - len(seen))]
    assert seen == list(range(1, 201))
    await stream.leave()


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("", {}, 401, "not_authenticated"),
        ("", {"authorization": "Bearer nonsense-nonsense"}, 401, "authentication_failed"),
        ("", {"authorization": "Bearer \xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"}, 401, "authentication_failed"),
        ("&after=-1", None, 400, "invalid"),
        ("&after=x", None, 400, "invalid"),
        ("", {"last_event_id": "-1"}, 400, "invalid"),
        ("", {"last_event_id": "x"}, 400, "invalid"),
        ("", {"last_event_id": "9" * 30}, 400, "invalid"),
        ("", {"last_event_id": str(2**63)}, 400, "invalid"),
        ("", {"last_event_id": "\xb2"}, 400, "invalid"),
        ("", {"accept": "text/html"}, 406, "not_acceptable"),
    ],
)
async def test_refusals__are_the_envelope_in_json(world, bearer, query, headers, status, code):
    sent = {"authorization": bearer} if headers is None or "authorization" not in headers else {}
    sent = {} if status == 401 and not headers else {**sent, **(headers or {})}
    answer = await EventStream(FEED, of(world[1]) + query, **sent).open()
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert (await answer.body())["error"]["code"] == code


async def test_stranger__is_told_that_there_is_nothing(world):
    stranger = await token_of(await database_sync_to_async(make_user)())
    answer = await EventStream(FEED, of(world[1]), authorization=stranger).open()
    assert (answer.status, (await answer.body())["error"]["code"]) == (404, "not_found")


async def test_head__does_not_begin_a_stream(world, bearer):
    def head():
        client = Client(headers={"authorization": bearer, "accept": "text/event-stream"})
        return client.head(f"{FEED}?{of(world[1])}")

    answer = await sync_to_async(head)()
    assert (answer.status_code, answer["content-type"]) == (200, "application/json")
    assert not event_stream._open
