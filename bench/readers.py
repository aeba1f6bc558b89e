"""Readers of a feed: each follows every topic, counts each event, and takes the time from its sending to its arrival.

    .venv/bin/python -m bench.readers ADDRESS --readers 50 --topics FILE --token TOKEN --until COUNT

Prints one line "ready" when all have subscribed, and one line of JSON at the end: when every reader has `until` events, or
when it reads a line on its standard input, and every reader has the number of events in it, or has waited long for them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

SLOTS = 20_000  # of 0.5 ms
DRAIN_SECONDS = 20.0  # what is on its way when the last event was sent may take so long


class Reader:
    """One connection and what it saw."""

    def __init__(self, slots: list[int]) -> None:
        self.slots = slots  # of all readers together
        self.seen = 0
        self.faults: Counter[str] = Counter()
        self.cursor: dict[str, int] = {}
        self.deltas = 0

    def take(self, frame: dict[str, Any], at: float) -> None:
        """Count a frame that arrived at `at` (seconds since the epoch)."""
        kind = frame["type"]
        if kind == "batch":
            for one in frame["frames"]:
                self.take(one, at)
        elif kind == "event":
            topic, seq = frame["topic"], frame["seq"]
            if seq != self.cursor[topic] + 1:
                self.faults["double" if seq <= self.cursor[topic] else "gap"] += 1
            self.cursor[topic] = seq
            self.seen += 1
            late = at - datetime.fromisoformat(frame["at"]).timestamp()
            self.slots[min(SLOTS - 1, max(0, int(late * 2000)))] += 1
        elif kind == "subscribed":
            self.cursor[frame["topic"]] = frame["seq"]
        elif kind == "delta":
            self.deltas += 1
        elif kind in ("resync", "error"):
            self.faults[kind] += 1

    async def run(self, address: str, topics: list[str], token: str, ready: asyncio.Queue[None]) -> None:
        """Follow until cancelled."""
        headers = {"Authorization": f"Bearer {token}"}
        async with connect(address, additional_headers=headers, compression=None, max_size=None) as socket:
            await self._subscribe(socket, topics)
            ready.put_nowait(None)
            async for message in socket:
                at, frame = time.time(), json.loads(message)
                if frame["type"] == "ping":  # the answer confirms what was read; without it nothing more would come
                    await socket.send(json.dumps({"type": "pong", "id": frame["id"]}))
                self.take(frame, at)

    async def _subscribe(self, socket: ClientConnection, topics: list[str]) -> None:
        await socket.send(json.dumps({"type": "subscribe", "topics": topics, "batch": True}))
        while len(self.cursor) < len(topics):
            self.take(json.loads(await socket.recv()), time.time())


def percentile(slots: list[int], share: float) -> float:
    """Milliseconds below which `share` of all arrivals lie."""
    total, below = sum(slots), 0
    for slot, count in enumerate(slots):
        below += count
        if count and below >= total * share:
            return (slot + 1) / 2
    return 0.0


async def follow(options: argparse.Namespace, topics: list[str]) -> dict[str, Any]:
    """Run the readers; what they saw."""
    slots = [0] * SLOTS
    readers = [Reader(slots) for _ in range(options.readers)]
    ready: asyncio.Queue[None] = asyncio.Queue()
    tasks = [asyncio.create_task(one.run(options.address, topics, options.token, ready)) for one in readers]
    for _ in readers:
        await ready.get()
    print("ready", flush=True)
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    wanted, end = options.until, math.inf
    while any(one.seen < wanted for one in readers) and time.monotonic() < end:
        await asyncio.sleep(0.05)
        for task in tasks:
            if task.done():
                task.result()
        if ended.done() and end == math.inf:
            wanted, end = int(ended.result() or 0), time.monotonic() + DRAIN_SECONDS
    for task in tasks:
        task.cancel()
    faults: Counter[str] = Counter()
    for one in readers:
        faults.update(one.faults)
    return {
        "seen": [one.seen for one in readers],
        "faults": dict(faults),
        "deltas": sum(one.deltas for one in readers),
        "p50": percentile(slots, 0.5),
        "p99": percentile(slots, 0.99),
        "max": percentile(slots, 1.0),
    }


def main() -> None:
    """Follow, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--topics", required=True)
    parser.add_argument("--token", default="")
    parser.add_argument("--until", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(follow(options, json.loads(Path(options.topics).read_text())))), flush=True)


if __name__ == "__main__":
    main()
