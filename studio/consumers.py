"""The WebSocket /ws/feed/: subscribe to topics with a cursor; the missing events are replayed, then followed.

Read-only: commands come in over HTTP. The protocol is in docs/architecture.md ("The live feed").
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth import get_user_model

from studio import topics
from studio.hub import hub, read
from studio.kernel.errors import StudioError

PAGE = 500
MAX_TOPICS = 200
MAX_MESSAGE = 64 * 1024  # bytes
QUEUE_FRAMES = 5_000  # a reader that is further behind is told to read again
BATCH_CHARS = 256 * 1024  # of one batch, for readers that take several frames in one message
PING_SECONDS = 20.0
UNAUTHENTICATED = 4401


class FeedConsumer(AsyncWebsocketConsumer):
    """One reader of the live feed."""

    async def connect(self) -> None:
        self.cursors: dict[str, int] = {}
        self.outbox: asyncio.Queue[str] = asyncio.Queue(maxsize=QUEUE_FRAMES)
        self.tasks: list[asyncio.Task[None]] = []
        self.batches = False  # whether this reader takes several frames in one message
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self.accept()
            await self.close(UNAUTHENTICATED)
            return
        self.user_id: int = user.pk
        await self.accept()
        self.tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._ping())]

    async def disconnect(self, code: int) -> None:
        for topic in list(self.cursors):
            hub().leave(topic, self)
        for task in self.tasks:
            task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            message = self._parse(text_data)
            kind = message.get("type")
            if kind == "ping":
                self._put({"type": "pong"})
            elif kind == "subscribe":
                await self._subscribe(message)
            elif kind == "unsubscribe":
                self._unsubscribe(message)
            elif kind != "pong":
                raise ValueError("Send subscribe, unsubscribe, ping or pong.")
        except (ValueError, StudioError) as error:
            self._put({"type": "error", "code": getattr(error, "code", "bad_frame"), "message": str(error)})

    def _parse(self, text: str | None) -> dict[str, Any]:
        if text is None or len(text) > MAX_MESSAGE:
            raise ValueError("A frame is a JSON object in text, at most 64 kB.")
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError("That is not JSON.") from error
        if not isinstance(message, dict):
            raise ValueError("A frame is a JSON object.")
        return message

    def _topics(self, message: dict[str, Any]) -> list[str]:
        names = message.get("topics")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("topics is a list of names like project:ID.")
        return list(dict.fromkeys(names))

    async def _subscribe(self, message: dict[str, Any]) -> None:
        names = self._topics(message)
        after = message.get("after", {})
        if not isinstance(after, dict):
            raise ValueError("after is an object: topic -> seq.")
        self.batches = self.batches or message.get("batch") is True
        if len(self.cursors.keys() | set(names)) > MAX_TOPICS:
            raise ValueError(f"At most {MAX_TOPICS} topics a connection.")
        for name in names:
            cursor = after.get(name)
            if cursor is not None and (isinstance(cursor, bool) or not isinstance(cursor, int) or cursor < 0):
                raise ValueError(f"The cursor of {name} is a whole number from 0.")
            if not await may_see(self.user_id, name):
                self._put({"type": "error", "code": "not_found", "topic": name, "message": "There is no such topic."})
                continue
            await self._follow(name, cursor)

    async def _follow(self, topic: str, cursor: int | None) -> None:
        """Replay what is missing, then join the hub: between the last empty read and joining nothing is awaited."""
        hub().leave(topic, self)
        head = await head_of(topic)
        cursor = head if cursor is None else min(cursor, head)
        self._put({"type": "subscribed", "topic": topic, "seq": cursor, "head": head})
        self.cursors[topic] = cursor
        while True:
            events = await read(topic, cursor, PAGE)
            for event in events:
                self.deliver(topic, event.seq, json.dumps(event.frame()))
            if events:
                cursor = events[-1].seq
            elif hub().join(topic, self, cursor):
                return
            if topic not in self.cursors:
                return  # it fell behind while it was being replayed

    def _unsubscribe(self, message: dict[str, Any]) -> None:
        for name in self._topics(message):
            hub().leave(name, self)
            self.cursors.pop(name, None)
        self._put({"type": "unsubscribed", "topics": self._topics(message)})

    def deliver(self, topic: str, seq: int, frame: str) -> None:
        if seq <= self.cursors.get(topic, seq):
            return
        try:
            self.outbox.put_nowait(frame)
            self.cursors[topic] = seq
        except asyncio.QueueFull:
            self._fell_behind(topic)

    def deliver_delta(self, frame: str) -> None:
        with contextlib.suppress(asyncio.QueueFull):  # disposable
            self.outbox.put_nowait(frame)

    def _fell_behind(self, topic: str) -> None:
        """Never skip silently: the reader is told where it is, and subscribes again from there."""
        seq = self.cursors.pop(topic)
        hub().leave(topic, self)
        self._make_room()
        self._put({"type": "resync", "topic": topic, "seq": seq})

    def _make_room(self) -> None:
        """Drop one waiting delta, if there is one, so that the notice fits."""
        waiting = [self.outbox.get_nowait() for _ in range(self.outbox.qsize())]
        spare = next((at for at, frame in enumerate(waiting) if '"type": "delta"' in frame[:20]), None)
        if spare is not None:
            del waiting[spare]
        for frame in waiting:
            self.outbox.put_nowait(frame)

    def _put(self, message: dict[str, Any]) -> None:
        try:
            self.outbox.put_nowait(json.dumps(message))
        except asyncio.QueueFull:
            # Nothing can be said any more: the connection ends, and the reader comes back with its cursors.
            self.tasks.append(asyncio.create_task(self.close(1013)))

    async def _write(self) -> None:
        while True:
            frame = await self.outbox.get()
            await self.send(text_data=self._batch(frame) if self.batches else frame)

    def _batch(self, first: str) -> str:
        """`first` with what else waits, as one frame: sending costs by the message, not by its length."""
        frames, size = [first], len(first)
        while size < BATCH_CHARS and not self.outbox.empty():
            frames.append(self.outbox.get_nowait())
            size += len(frames[-1])
        return first if len(frames) == 1 else f'{{"type": "batch", "frames": [{", ".join(frames)}]}}'

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            self._put({"type": "ping"})


@database_sync_to_async
def may_see(user_id: int, topic: str) -> bool:
    """Whether the account, as it is now, may read the topic."""
    user = get_user_model().objects.filter(pk=user_id, is_active=True).first()
    kind, subject = topics.resolve(topic)
    return user is not None and kind.may_see(user, subject)


@database_sync_to_async
def head_of(topic: str) -> int:
    """The last seq of the topic."""
    kind, subject = topics.resolve(topic)
    return kind.head(subject)
