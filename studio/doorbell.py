"""Rings the web processes through the channel layer: "there is news in topic X". The news itself is in the database.

The channel layer opens a connection per event loop, so calling it through `async_to_sync` costs a connection each time
(6 ms, libraries.md fact 7). Here each process keeps one small thread with one running loop for it. What is rung while a
message is on its way goes out together with the next one, so a busy process rings no more often than the broker takes it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable
from typing import Any

import structlog
from channels.layers import get_channel_layer

log = structlog.get_logger(__name__)

GROUP = "studio.hub"
SEND_TIMEOUT = 5.0  # seconds
MAX_PIECES = 2_000  # pieces of text that wait while the broker is away; more are dropped

# Topic, part, text, and whether it is reasoning; no text voids the pieces of the part that were sent so far.
Piece = tuple[str, str, str | None, bool]

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_loop_pid = 0
_topics: dict[str, None] = {}
_pieces: list[Piece] = []
_sending = False


def _running_loop() -> asyncio.AbstractEventLoop:
    """This process's loop; made anew after a fork, because threads do not survive one. Under the lock."""
    global _loop, _loop_pid, _sending
    if _loop is None or _loop_pid != os.getpid():
        _loop, _loop_pid = asyncio.new_event_loop(), os.getpid()
        _topics.clear()
        _pieces.clear()
        _sending = False
        threading.Thread(target=_loop.run_forever, name="doorbell", daemon=True).start()
    return _loop


def _layer() -> Any:
    return get_channel_layer()


async def _send(message: dict[str, Any]) -> None:
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            await _layer().group_send(GROUP, message)
    except Exception as error:  # noqa: BLE001 -- whatever the broker's client raises: readers catch up by their cursor
        log.warning("doorbell_failed", error=str(error), topics=len(message["topics"]))


async def _drain() -> None:
    """Send what waits until nothing does."""
    global _sending
    while True:
        with _lock:
            message = {"type": "news", "topics": list(_topics), "pieces": list(_pieces)}
            _topics.clear()
            _pieces.clear()
            if not message["topics"] and not message["pieces"]:
                _sending = False
                return
        await _send(message)


def _put(topics: Iterable[str], pieces: Iterable[Piece]) -> None:
    global _sending
    with _lock:
        loop = _running_loop()
        _topics.update(dict.fromkeys(topics))
        _pieces.extend(pieces)
        del _pieces[MAX_PIECES:]
        if _sending:
            return
        _sending = True
    asyncio.run_coroutine_threadsafe(_drain(), loop)


def ring(*topics: str) -> None:
    """Tell every web process that `topics` have news. Does not wait and never raises; losing a ring loses no event."""
    _put(topics, ())


def send_pieces(pieces: Iterable[Piece]) -> None:
    """Pass pieces of streaming text on to whoever looks at their topics; a None voids those sent so far for the part.

    Disposable: the finished part is an event.
    """
    _put((), pieces)
