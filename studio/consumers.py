"""The WebSocket /ws/feed/: subscribe to topics with a cursor; the missing events are replayed, then followed.

Read-only: commands come in over HTTP. The protocol is in docs/architecture.md ("The live feed"); what a reader is and what
it is told stands in `studio/readers.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer

from studio.access import Identity
from studio.kernel.errors import Invalid, StudioError
from studio.readers import MAX_TOPICS, FeedReader, ended, parse_cursors

MAX_MESSAGE = 64 * 1024  # characters
BATCH_CHARS = 256 * 1024  # of one batch, for readers that take several frames in one message
PING_SECONDS = 20.0
ANSWER_SECONDS = 60.0  # within which a ping must be answered
UNAUTHENTICATED, SILENT, BEHIND = 4401, 4408, 1013  # close codes


class Window:
    """How much was sent to a reader that it has not confirmed: never more than SIZE and one message.

    The server's `send` returns at once, whatever the network does with the bytes, so it says nothing about a reader that
    does not read; what it does not read would pile up in the server's memory. Frames arrive in order, therefore the answer to a
    ping with a secret word confirms everything that was sent before it, and cannot be given without reading that far.
    This is the reader's own word, end to end: it holds under any server and behind any proxy.
    """

    SIZE = 512 * 1024  # characters, which are bytes: frames are ASCII
    PING_EVERY = SIZE // 4

    def __init__(self) -> None:
        self._sent = 0
        self._confirmed = 0
        self._pinged = 0  # what had been sent at the last ping
        self._pings: dict[str, tuple[int, float]] = {}  # word -> what had been sent before it, when
        self._open = asyncio.Event()
        self._open.set()

    def count(self, length: int) -> None:
        """A message of this length is being sent."""
        self._sent += length
        if self.unconfirmed >= self.SIZE:
            self._open.clear()

    @property
    def unconfirmed(self) -> int:
        """How much is on its way."""
        return self._sent - self._confirmed

    async def room(self) -> None:
        """Return when more may be sent."""
        await self._open.wait()

    @property
    def wants_ping(self) -> bool:
        """Whether so much was sent since the last ping that it is time for another."""
        return self._sent - self._pinged >= self.PING_EVERY

    def ping(self) -> dict[str, Any]:
        """The frame of a ping that is sent now."""
        word = secrets.token_hex(6)
        self._pings[word] = (self._sent, time.monotonic())
        self._pinged = self._sent
        return {"type": "ping", "id": word}

    def pong(self, word: Any) -> None:
        """The answer to a ping, which answers the earlier ones too; words that were not asked for are passed over."""
        if not isinstance(word, str) or word not in self._pings:
            return
        for earlier in list(self._pings):
            self._confirmed = self._pings.pop(earlier)[0]
            if earlier == word:
                break
        if self.unconfirmed < self.SIZE:
            self._open.set()

    def unanswered(self) -> float:
        """For how many seconds the oldest open ping has waited; 0 when none is open."""
        oldest = next(iter(self._pings.values()), None)
        return time.monotonic() - oldest[1] if oldest else 0.0


class FeedConsumer(AsyncWebsocketConsumer):
    """One WebSocket reader of the live feed."""

    async def connect(self) -> None:
        self.reader: FeedReader | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.batches = False  # whether this reader takes several frames in one message
        await self.accept()
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self.close(UNAUTHENTICATED)
            return
        session = self.scope.get("session")
        token = str(self.scope.get("token", ""))
        key = "" if token or session is None else session.session_key or ""
        self.reader = FeedReader(Identity(user.pk, token=token, session=key))
        self.window = Window()
        runs = (self._write(self.reader), self._ping(self.reader), self._watch(self.reader))
        self.tasks = [asyncio.create_task(run) for run in runs]

    async def disconnect(self, code: int) -> None:
        if self.reader:
            self.reader.close()
        for task in self.tasks:
            task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.reader is None:
            return
        try:
            await self._answer(self.reader, self._parse(text_data))
        except StudioError as error:
            self.reader.say({"type": "error", "code": error.code, "message": error.message})

    def _parse(self, text: str | None) -> dict[str, Any]:
        if text is None or len(text) > MAX_MESSAGE:
            raise Invalid(
                f"A frame is a JSON object in text, at most 64 kB; a connection has at most {MAX_TOPICS} topics.",
                code="bad_frame",
            )
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Invalid("That is not JSON.", code="bad_frame") from error
        if not isinstance(message, dict):
            raise Invalid("A frame is a JSON object.", code="bad_frame")
        return message

    async def _answer(self, reader: FeedReader, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "ping":
            reader.say({"type": "pong"})
        elif kind == "pong":
            self.window.pong(message.get("id"))
        elif kind == "subscribe":
            names = self._topics(message)
            self.batches = self.batches or message.get("batch") is True
            await reader.subscribe(names, parse_cursors(names, message.get("after", {})))
        elif kind == "unsubscribe":
            names = self._topics(message)
            reader.unsubscribe(names)
            reader.say({"type": "unsubscribed", "topics": names})
        else:
            raise Invalid("Send subscribe, unsubscribe, ping or pong.", code="bad_frame")

    def _topics(self, message: dict[str, Any]) -> list[str]:
        names = message.get("topics")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Invalid("topics is a list of names like project:ID.", code="bad_frame")
        return list(dict.fromkeys(names))

    async def _write(self, reader: FeedReader) -> None:
        while True:
            await self.window.room()
            frame = await reader.queue.take()
            text = self._batch(reader, frame) if self.batches else frame
            self.window.count(len(text))
            await self.send(text_data=text)
            if self.window.wants_ping:
                await self.send(text_data=json.dumps(self.window.ping()))

    def _batch(self, reader: FeedReader, first: str) -> str:
        """`first` with what else waits, as one frame: sending costs by the message, not by its length."""
        frames, size = [first], len(first)
        while size < BATCH_CHARS and len(reader.queue):
            frames.append(reader.queue.take_now())
            size += len(frames[-1])
        return first if len(frames) == 1 else f'{{"type": "batch", "frames": [{", ".join(frames)}]}}'

    async def _ping(self, reader: FeedReader) -> None:
        """Ping again and again, and give a reader up that does not answer: it is gone, or it does not read."""
        await asyncio.sleep(PING_SECONDS)
        while self.window.unanswered() < ANSWER_SECONDS:
            await self.send(text_data=json.dumps(self.window.ping()))
            await asyncio.sleep(PING_SECONDS)
        await self._end(reader, SILENT)

    async def _watch(self, reader: FeedReader) -> None:
        """End the connection of a reader that is signed out, or that asks and does not read."""
        await ended(reader.signed_out, reader.overrun)
        if not reader.overrun.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_SECONDS):
                    await reader.queue.sent()  # it is told before it is shown out
        await self._end(reader, BEHIND if reader.overrun.is_set() else UNAUTHENTICATED)

    async def _end(self, reader: FeedReader, code: int) -> None:
        reader.close()
        await self.close(code)
