"""The floor: the server's raw stream to raw WebSockets, without the studio. Nothing is understood, stored or authorised.

    .venv/bin/python -m bench.floor --upstream http://127.0.0.1:4600 --port 4700

The same batches as the studio's feed: what came within 20 ms goes to each reader as one message. Durable twins are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections import defaultdict
from datetime import UTC, datetime
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection, serve

BATCH_SECONDS = 0.02
PART = b'"type":"message.part.updated"'


class Floor:
    """Everybody who listens, and what they have not been sent yet."""

    def __init__(self) -> None:
        self.readers: set[ServerConnection] = set()
        self.waiting: list[str] = []
        self.seqs: dict[str, int] = defaultdict(int)

    async def listen(self, socket: ServerConnection) -> None:
        """Answer a subscription like the studio does, then add the reader."""
        message = json.loads(await socket.recv())
        for topic in message["topics"]:
            await socket.send(json.dumps({"type": "subscribed", "topic": topic, "seq": 0, "head": 0}))
        self.readers.add(socket)
        with contextlib.suppress(Exception):
            await socket.wait_closed()
        self.readers.discard(socket)

    async def read(self, upstream: str) -> None:
        """Follow the stream."""
        url = urlsplit(upstream)
        reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=64 * 1024 * 1024)
        writer.write(b"GET /global/event HTTP/1.1\r\nHost: floor\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        while line := await reader.readline():
            if line.startswith(b"data: ") and PART in line and b'"sync"' not in line:
                self._add(json.loads(line[6:])["payload"]["properties"])

    def _add(self, properties: dict) -> None:
        session = properties["sessionID"]
        self.seqs[session] += 1
        at = datetime.fromtimestamp(properties["time"] / 1000, tz=UTC).isoformat()
        frame = {"type": "event", "topic": session, "seq": self.seqs[session], "at": at, "data": properties["part"]}
        self.waiting.append(json.dumps(frame))

    async def send(self) -> None:
        """Send what has come, in batches."""
        while True:
            await asyncio.sleep(BATCH_SECONDS)
            if self.waiting:
                message = f'{{"type": "batch", "frames": [{", ".join(self.waiting)}]}}'
                self.waiting = []
                await asyncio.gather(*(one.send(message) for one in tuple(self.readers)), return_exceptions=True)


async def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    floor = Floor()
    async with serve(floor.listen, "127.0.0.1", options.port, compression=None):
        await asyncio.gather(floor.read(options.upstream), floor.send())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
