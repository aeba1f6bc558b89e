"""Writing to a project's feed, and reading it by WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any

from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.db import transaction

from studio import outbox, readers
from studio.consumers import FeedConsumer

PATIENCE = 30  # seconds, far beyond what anything takes


def publish(project: Any, *kinds: str, **payload: Any) -> None:
    """Let things happen in a project."""
    with transaction.atomic():
        for kind in kinds:
            outbox.publish(project.pk, f"task:{project.pk}", kind, {"x": 1, **payload})


apublish = database_sync_to_async(publish)


async def connect(user: Any, **scope: Any) -> WebsocketCommunicator:
    """A connection of `user`."""
    reader = WebsocketCommunicator(FeedConsumer.as_asgi(), "/ws/feed/")
    vars(reader)["scope"] |= {"user": user, **scope}
    connected, _ = await reader.connect(timeout=PATIENCE)
    assert connected
    return reader


async def ask(reader: WebsocketCommunicator, **message: Any) -> Any:
    """The answer to a frame."""
    await reader.send_json_to(message)
    return await reader.receive_json_from(PATIENCE)


async def frames(reader: WebsocketCommunicator, count: int, kind: str = "event") -> list[Any]:
    """The next frames of a kind; pings are answered, everything else is passed over."""
    found: list[Any] = []
    while len(found) < count:
        frame = await reader.receive_json_from(PATIENCE)
        if frame["type"] == "ping":
            await reader.send_json_to({"type": "pong", "id": frame["id"]})
        if frame["type"] == kind:
            found.append(frame)
    return found


async def seqs(reader: WebsocketCommunicator, count: int) -> list[int]:
    """The numbers of the next events."""
    return [frame["seq"] for frame in await frames(reader, count)]


def told_slow(monkeypatch: Any) -> asyncio.Event:
    """Set once a reader of this process has been told that it is slow."""
    told, say = asyncio.Event(), readers.FeedReader.say

    def listened(reader: readers.FeedReader, message: dict[str, Any]) -> None:
        say(reader, message)
        if message["type"] == "resync":
            told.set()

    monkeypatch.setattr(readers.FeedReader, "say", listened)
    return told


async def end(*connections: WebsocketCommunicator) -> None:
    """Close the connections."""
    for reader in connections:
        await reader.disconnect(timeout=PATIENCE)
