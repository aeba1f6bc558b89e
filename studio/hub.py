"""One subscription per web process: hears the doorbell, reads new rows once, and hands each frame to every reader.

A channel-layer group per reader loses most messages at 50 readers and 1,000 messages a second; one hub with batches loses
none (limits.md, "Fan-out to WebSocket readers").
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any, Protocol

import structlog
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer

from studio import topics
from studio.doorbell import GROUP
from studio.topics import Event

log = structlog.get_logger(__name__)

BATCH_SECONDS = 0.025
READ_LIMIT = 500
# The doorbell may lose a ring (a broker that restarts); every topic somebody looks at is read at least this often.
LOOK_ANYWAY_SECONDS = 5.0
RESUBSCRIBE_SECONDS = 1.0


class Reader(Protocol):
    """Whoever gets frames: a WebSocket consumer. Both methods return at once."""

    def deliver(self, topic: str, seq: int, frame: str) -> None:
        """An event's encoded frame; the reader drops what its cursor has passed."""

    def deliver_delta(self, frame: str) -> None:
        """A piece of streaming text, encoded."""


class Hub:
    """The fan-out of one process, on one event loop."""

    def __init__(self) -> None:
        self._readers: dict[str, set[Reader]] = defaultdict(set)
        self._cursor: dict[str, int] = {}  # per topic: the last seq handed out
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen. Idempotent."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(run()) for run in (self._listen, self._pump, self._look_anyway)]

    def join(self, topic: str, reader: Reader, cursor: int) -> bool:
        """Add `reader`, which has everything up to `cursor`. False when the hub is past it: read on and try again."""
        if self._readers[topic] and self._cursor[topic] > cursor:
            return False
        if not self._readers[topic]:
            self._cursor[topic] = cursor
        self._readers[topic].add(reader)
        self.mark(topic)
        return True

    def leave(self, topic: str, reader: Reader) -> None:
        """Remove `reader`; harmless when it is not there."""
        readers = self._readers.get(topic)
        if readers is None:
            return
        readers.discard(reader)
        if not readers:
            del self._readers[topic]
            self._cursor.pop(topic, None)

    def mark(self, topic: str) -> None:
        """There may be news in `topic`."""
        if topic in self._cursor:
            self._dirty.add(topic)
            self._wake.set()

    async def _listen(self) -> None:
        while True:
            layer: Any = get_channel_layer()
            try:
                channel = await layer.new_channel()
                await layer.group_add(GROUP, channel)
                for topic in list(self._cursor):
                    self.mark(topic)
                while True:
                    self._hear(await layer.receive(channel))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 -- whatever the broker's client raises: listen anew
                log.warning("hub_lost_the_doorbell", error=str(error))
                await asyncio.sleep(RESUBSCRIBE_SECONDS)

    def _hear(self, message: dict[str, Any]) -> None:
        topic = message.get("topic", "")
        if message.get("type") == "bell":
            self.mark(topic)
        elif message.get("type") == "delta" and topic in self._readers:
            frame: dict[str, Any] = {"type": "delta", "topic": topic, "part": message["part"], "text": message["text"]}
            encoded = json.dumps(frame)
            for reader in tuple(self._readers[topic]):
                reader.deliver_delta(encoded)

    async def _pump(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(BATCH_SECONDS)
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            for topic in dirty:
                try:
                    await self._hand_out(topic)
                except Exception as error:  # noqa: BLE001 -- a database that is away for a moment: look again later
                    log.warning("hub_could_not_read", topic=topic, error=str(error))

    async def _hand_out(self, topic: str) -> None:
        cursor = self._cursor.get(topic)
        if cursor is None:
            return
        events = await read(topic, cursor, READ_LIMIT)
        if not events or topic not in self._cursor:
            return
        # Readers that joined while the rows were read may be behind: the shared cursor never moves back.
        self._cursor[topic] = max(self._cursor[topic], events[-1].seq)
        for event in events:
            encoded = json.dumps(event.frame())
            for reader in tuple(self._readers.get(topic, ())):
                reader.deliver(topic, event.seq, encoded)
        if len(events) == READ_LIMIT:
            self.mark(topic)

    async def _look_anyway(self) -> None:
        while True:
            await asyncio.sleep(LOOK_ANYWAY_SECONDS)
            for topic in list(self._cursor):
                self.mark(topic)


@database_sync_to_async
def read(topic: str, after: int, limit: int) -> list[Event]:
    """The events of `topic` after a cursor."""
    kind, subject = topics.resolve(topic)
    return kind.read(subject, after, limit)


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def hub() -> Hub:
    """The hub of the running event loop, listening."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    _hubs[loop].start()
    return _hubs[loop]
