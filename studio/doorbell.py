"""Rings the web processes through the channel layer: "there is news in topic X". The news itself is in the database.

The channel layer opens a connection per event loop, so calling it through `async_to_sync` costs a connection each time
(6 ms, libraries.md fact 7). Here each process keeps one small thread with one running loop for it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import structlog
from channels.layers import get_channel_layer

log = structlog.get_logger(__name__)

GROUP = "studio.hub"
SEND_TIMEOUT = 5.0  # seconds

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_loop_pid = 0


def _running_loop() -> asyncio.AbstractEventLoop:
    """This process's loop; made anew after a fork, because threads do not survive one."""
    global _loop, _loop_pid
    with _lock:
        if _loop is None or _loop_pid != os.getpid():
            _loop, _loop_pid = asyncio.new_event_loop(), os.getpid()
            threading.Thread(target=_loop.run_forever, name="doorbell", daemon=True).start()
        return _loop


def _layer() -> Any:
    return get_channel_layer()


async def _send(message: dict[str, Any]) -> None:
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            await _layer().group_send(GROUP, message)
    except Exception as error:  # noqa: BLE001 -- whatever the broker's client raises: readers catch up by their cursor
        log.warning("doorbell_failed", error=str(error), topic=message.get("topic"))


def ring(topic: str) -> None:
    """Tell every web process that `topic` has news. Does not wait and never raises; losing a ring loses no event."""
    asyncio.run_coroutine_threadsafe(_send({"type": "bell", "topic": topic}), _running_loop())


def send_delta(topic: str, part: str, text: str | None) -> None:
    """Pass a piece of streaming text on to whoever looks at `topic`; None voids the pieces sent so far.

    Disposable: the finished part is an event.
    """
    message = {"type": "delta", "topic": topic, "part": part, "text": text}
    asyncio.run_coroutine_threadsafe(_send(message), _running_loop())
