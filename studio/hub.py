"""One subscription per web process: hears the doorbell, reads new rows once, and hands each frame to every reader.

A channel-layer group per reader loses most messages at 50 readers and 1,000 messages a second; one hub with batches loses
none (limits.md, "Fan-out to WebSocket readers").
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import time
from collections import defaultdict
from typing import Any, Protocol

import structlog
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer

from studio import topics
from studio.access import Guard
from studio.doorbell import GROUP

log = structlog.get_logger(__name__)

BATCH_SECONDS = 0.02  # between two readings; the first ring after a silence is answered at once
READ_LIMIT = 500
# The doorbell may lose a ring (a broker that restarts); every topic somebody looks at is read at least this often.
LOOK_ANYWAY_SECONDS = 5.0
RESUBSCRIBE_SECONDS = 1.0


class Reader(Protocol):
    """Whoever gets frames. Both methods return at once."""

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
        self.guard = Guard()  # of the readers' access

    def start(self) -> None:
        """Begin to listen. Idempotent."""
        if not self._tasks:
            # In a context of their own: they outlive the request, its thread and its log fields, in which they begin.
            self._tasks = [
                asyncio.create_task(run(), context=contextvars.Context())
                for run in (self._listen, self._pump, self._look_anyway, self.guard.run)
            ]

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
        if message.get("type") != "news":
            return
        for topic in message["topics"]:
            self.mark(topic)
        for topic, part, text, reasoning in message["pieces"]:
            if topic in self._readers:
                piece = {"type": "delta", "topic": topic, "part": part, "text": text, "reasoning": reasoning}
                encoded = json.dumps(piece)
                for reader in tuple(self._readers[topic]):
                    reader.deliver_delta(encoded)

    async def _pump(self) -> None:
        last = 0.0
        while True:
            await self._wake.wait()
            await asyncio.sleep(max(0.0, last + BATCH_SECONDS - time.monotonic()))
            last = time.monotonic()
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            cursors = {topic: self._cursor[topic] for topic in dirty if topic in self._cursor}
            try:
                news = await read_frames(cursors, READ_LIMIT)
            except Exception as error:  # noqa: BLE001 -- a database that is away for a moment: look again later
                log.warning("hub_could_not_read", topics=len(cursors), error=str(error))
                continue
            for topic, frames in news.items():
                self._hand_out(topic, cursors[topic], frames)
            if sum(map(len, news.values())) >= READ_LIMIT:  # there may be more
                for topic in cursors:
                    self.mark(topic)

    def _hand_out(self, topic: str, after: int, frames: list[tuple[int, str]]) -> None:
        """Give the events that follow `after` to the topic's readers."""
        if topic not in self._cursor:
            return
        if self._cursor[topic] < after:  # everybody left while the rows were read, and somebody joined further back
            self.mark(topic)
            return
        # Readers that joined while the rows were read may be ahead: the shared cursor never moves back.
        self._cursor[topic] = max(self._cursor[topic], frames[-1][0])
        for reader in tuple(self._readers.get(topic, ())):
            for seq, frame in frames:
                reader.deliver(topic, seq, frame)

    async def _look_anyway(self) -> None:
        while True:
            await asyncio.sleep(LOOK_ANYWAY_SECONDS)
            for topic in list(self._cursor):
                self.mark(topic)


@database_sync_to_async
def read_page(topic: str, after: int, limit: int) -> list[tuple[int, str]]:
    """The events of one topic after a cursor as (seq, encoded frame), ascending. Raises what the database raises."""
    kind, subject = topics.resolve(topic)
    return [(event.seq, json.dumps(event.frame())) for event in kind.read(subject, after, limit)]


@database_sync_to_async
def read_frames(cursors: dict[str, int], limit: int) -> dict[str, list[tuple[int, str]]]:
    """What is new in these topics after their cursors, as (seq, encoded frame), in order; topics without news are absent.

    The topics of one kind are read together, at most `limit` events of each kind; a kind that cannot be read costs only
    itself.
    """
    by_kind: dict[str, dict[str, int]] = defaultdict(dict)
    for topic, after in cursors.items():
        by_kind[topic.partition(":")[0]][topic] = after
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for kind, of_kind in by_kind.items():
        try:
            events = topics.read_many(kind, of_kind, limit)
        except Exception as error:  # noqa: BLE001 -- a database that is away for a moment: look again later
            log.warning("hub_could_not_read", kind=kind, topics=len(of_kind), error=str(error))
            continue
        for event in events:
            found[event.topic].append((event.seq, json.dumps(event.frame())))
    return found


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def hub() -> Hub:
    """The hub of the running event loop, listening."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    _hubs[loop].start()
    return _hubs[loop]
