"""One reader of the live feed, whatever it is connected by: its topics, its cursors, and the frames that wait for it.

A topic that is subscribed to from its end goes to the hub at once. Another is first replayed from the rows, page by page and no
faster than the reader takes it, and goes to the hub after its last page. The hub takes a reader in who has all that it has handed
out, so there is neither a gap nor a double; what came meanwhile it reads itself. A burst that does not fit into the queue sends the topic back to being replayed: the
rows are the buffer, and what a reader may hold in memory is bounded. A reader that still makes no room within SLOW_SECONDS is
slow: it is told so, and subscribes again when it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
from collections import deque
from collections.abc import Iterable
from typing import Any

import structlog

from studio.access import Identity, heads_of
from studio.hub import hub, read_page
from studio.kernel.errors import Invalid

log = structlog.get_logger(__name__)

PAGE = 100  # events of a replay that are held at once
MAX_TOPICS = 200
NAME_CHARS = 80  # of a topic's name that are repeated in an answer
QUEUE_FRAMES = 5_000
QUEUE_CHARS = 2 * 1024 * 1024  # about bytes: frames are ASCII
RESERVE_FRAMES = 500  # answers and notices that still fit when events do not
SLOW_SECONDS = 15.0  # a full queue that is not half empty after this long belongs to a slow reader
LARGEST = 2**63 - 1
AGAIN_SECONDS = 1.0  # until a database that was away is asked again


class Overrun(Exception):
    """The reader asks and does not read: nothing can be said to it any more."""


class FrameQueue:
    """Encoded frames in order, bounded by their number and their length."""

    def __init__(self) -> None:
        self._frames: deque[str] = deque()
        self._chars = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def is_half_full(self) -> bool:
        """Whether what can be read later, or not at all, should stay out."""
        return 2 * len(self._frames) >= QUEUE_FRAMES or 2 * self._chars >= QUEUE_CHARS

    def offer(self, frame: str) -> bool:
        """Add an event's frame; False when it does not fit. One frame always fits into an empty queue."""
        full = len(self._frames) >= QUEUE_FRAMES or self._chars + len(frame) > QUEUE_CHARS
        if full and self._frames:
            return False
        self._add(frame)
        return True

    def say(self, message: dict[str, Any]) -> None:
        """Add an answer or a notice, for which room is kept. Raises Overrun when that is used up too."""
        if len(self._frames) >= QUEUE_FRAMES + RESERVE_FRAMES:
            raise Overrun
        self._add(json.dumps(message))

    def _add(self, frame: str) -> None:
        self._frames.append(frame)
        self._chars += len(frame)
        self._filled.set()

    async def take(self) -> str:
        """The next frame, as soon as there is one."""
        while not self._frames:
            self._filled.clear()
            await self._filled.wait()
        return self.take_now()

    def take_now(self) -> str:
        """The next frame of a queue that is not empty."""
        frame = self._frames.popleft()
        self._chars -= len(frame)
        if not self.is_half_full:
            self._emptied.set()
        return frame

    async def sent(self) -> None:
        """Return when nothing waits."""
        while self._frames:
            self._emptied.clear()
            await self._emptied.wait()

    async def room(self) -> None:
        """Return when less than half of it is used."""
        while self.is_half_full:
            self._emptied.clear()
            await self._emptied.wait()


class FeedReader:
    """The topics of one connection. `queue` holds what is to be sent to it; `close` it when the connection ends.

    The hub calls `deliver` and `deliver_delta`, the guard the other three; all of it happens on one event loop.
    """

    def __init__(self, identity: Identity, *, deltas: bool = True) -> None:
        self.identity = identity
        self.deltas = deltas  # whether it takes text that is being written
        self.queue = FrameQueue()
        self.signed_out = asyncio.Event()
        self.overrun = asyncio.Event()  # it asked for more than can be said to it
        self._cursors: dict[str, int] = {}  # the last seq that was put into the queue
        self._behind: dict[str, object] = {}  # topics that are still replayed -> a mark of that subscription
        self._wanted = asyncio.Event()
        # A context of its own: what the request was doing when it began has nothing to do with the replay.
        self._replaying = asyncio.create_task(self._replay(), context=contextvars.Context())
        hub().guard.watch(self)

    def close(self) -> None:
        """Leave everything. May be repeated."""
        hub().guard.forget(self)
        for topic in list(self._cursors):
            self._drop(topic)
        self._replaying.cancel()

    def topics(self) -> Iterable[str]:
        """What it is subscribed to."""
        return tuple(self._cursors)

    async def subscribe(self, names: list[str], after: dict[str, int]) -> None:
        """Follow `names` from after their cursors, or from their ends where no cursor is given. May be repeated.

        What does not exist or may not be seen is answered with an error frame each. A cursor beyond the end belongs to
        another history (a database that was put back): the reader is told, and follows from the end. Raises Invalid
        when it would be too many topics.
        """
        names = list(dict.fromkeys(names))
        if len(self._cursors.keys() | set(names)) > MAX_TOPICS:
            raise Invalid(f"At most {MAX_TOPICS} topics a connection.", code="too_many_topics")
        heads = await heads_of(self.identity, names)
        for name in names:
            if name not in heads:
                self._error("not_found", name, "There is no such topic.")
                continue
            self._drop(name)
            head = heads[name]
            cursor = after.get(name, head)
            answer = {"type": "subscribed", "topic": name, "seq": min(cursor, head), "head": head}
            self.say({**answer, "beyond": True} if cursor > head else answer)
            self._cursors[name] = min(cursor, head)
            if cursor < head or not hub().join(name, self, self._cursors[name]):
                self._behind[name] = object()
                self._wanted.set()

    def unsubscribe(self, names: list[str]) -> None:
        """Stop following `names`; those that are not followed are passed over."""
        for name in names:
            self._drop(name)

    def _drop(self, topic: str) -> None:
        hub().leave(topic, self)
        self._cursors.pop(topic, None)
        self._behind.pop(topic, None)

    # ---- replay

    async def _replay(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._behind:
                topic, mark = next(iter(self._behind.items()))
                try:
                    await self._catch_up(topic, mark)
                except Exception as error:  # noqa: BLE001 -- a database that is away for a moment
                    log.warning("replay_interrupted", topic=topic, error=str(error))
                    await asyncio.sleep(AGAIN_SECONDS)

    async def _catch_up(self, topic: str, mark: object) -> None:
        """Queue what is missing of a topic, then join the hub; returns early when the subscription was ended.

        A page that is not full is the last one. To wait for an empty one would be to wait for a silence: where many readers
        follow busy topics, something is new by the time it was read, and their readings are what keeps each other late.
        """
        while await self._has_room(topic, mark):
            frames = await read_page(topic, self._cursors[topic], PAGE)
            if self._behind.get(topic) is not mark:
                return
            for seq, frame in frames:
                while not self.queue.offer(frame):
                    if not await self._has_room(topic, mark):
                        return
                self._cursors[topic] = seq
            if len(frames) < PAGE and hub().join(topic, self, self._cursors[topic]):
                del self._behind[topic]
                return

    async def _has_room(self, topic: str, mark: object) -> bool:
        """Wait for room; False when the subscription was ended meanwhile, or ends now because there is none."""
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                await self.queue.room()
        except TimeoutError:
            if self._behind.get(topic) is mark:
                cursor = self._cursors[topic]
                self._drop(topic)
                self.say({"type": "resync", "topic": topic, "seq": cursor})
        return self._behind.get(topic) is mark

    # ---- what the hub and the guard call

    def deliver(self, topic: str, seq: int, frame: str) -> None:
        """Queue an event that was not queued yet. When it does not fit, the topic is replayed from here on."""
        cursor = self._cursors.get(topic)
        if cursor is None or seq <= cursor or topic in self._behind:
            return
        if self.queue.offer(frame):
            self._cursors[topic] = seq
            return
        hub().leave(topic, self)
        self._behind[topic] = object()
        self._wanted.set()

    def deliver_delta(self, frame: str) -> None:
        """Queue a piece of text, unless the reader is behind: pieces are disposable."""
        if self.deltas and not self.queue.is_half_full:
            self.queue.offer(frame)

    def withdraw(self, topic: str) -> None:
        """End a topic that the account may no longer see."""
        self._drop(topic)
        self._error("access_ended", topic, "You may no longer see this topic.")

    def sign_out(self) -> None:
        """End every topic: whoever signed in is no longer welcome."""
        for topic in self.topics():
            self.withdraw(topic)
        self.signed_out.set()

    def _error(self, code: str, topic: str, message: str) -> None:
        self.say({"type": "error", "code": code, "topic": topic[:NAME_CHARS], "message": message})

    def say(self, message: dict[str, Any]) -> None:
        """Queue an answer or a notice; a reader that asks and does not read has overrun."""
        try:
            self.queue.say(message)
        except Overrun:
            self.overrun.set()


def parse_cursors(names: Iterable[str], after: Any) -> dict[str, int]:
    """The cursors that a subscription names for `names`; null and absent ones are left out. Raises Invalid."""
    if not isinstance(after, dict):
        raise Invalid("after is an object: topic -> seq.", code="bad_frame")
    cursors: dict[str, int] = {}
    for name in names:
        cursor = after.get(name)
        if cursor is None:
            continue
        if isinstance(cursor, bool) or not isinstance(cursor, int) or not 0 <= cursor <= LARGEST:
            raise Invalid(f"The cursor of {name[:80]!r} is a whole number from 0.", code="bad_cursor")
        cursors[name] = cursor
    return cursors


async def ended(*events: asyncio.Event) -> None:
    """Return when one of the events is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*waiting, return_exceptions=True)
