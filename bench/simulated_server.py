"""An agent server that speaks the recorded protocol and runs nothing: it says what it is told to say, at a given rate.

    .venv/bin/python -m bench.simulated_server --port 4600

A control address of its own (POST /control) names the sessions, the rate and the mix:
    entries   each event is a finished text of 200 characters, followed by its durable twin, as the real server sends them
    recorded  the captured turn (tests/fixtures/opencode/full-turn.global.sse) over and over, with new ids
Times inside the events are the moment of sending, so that whoever reads them knows how old they are.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from agents.backend import Entry
from agents.opencode.translate import Translator

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "opencode"
STEP = 0.005  # seconds between two portions
HEARTBEAT = 10.0
BACKLOG = 64 * 1024 * 1024  # bytes that a slow consumer may leave unread
AGENTS = ("build", "studio-planner", "studio-implementer", "studio-reviewer")
FILLER = "It reads the module, changes what the task names and runs the tests of the package again. " * 3


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _now_ms() -> float:
    return round(time.time() * 1000, 3)


class Talker:
    """Makes the events of one session."""

    def __init__(self, session: str, directory: str, mix: str) -> None:
        self.session, self.directory = session, directory
        self.seq = 0
        self.number = 0
        self.source = self._entries() if mix == "entries" else self._recorded()

    def next(self) -> tuple[bytes, int]:
        """The next raw event and how many log entries a reader makes of it."""
        return next(self.source)

    def _event(self, kind: str, properties: dict[str, Any]) -> bytes:
        payload = {"id": f"evt_{self.session[4:]}{self.number}", "type": kind, "properties": properties}
        return _json({"directory": self.directory, "project": "simulated", "payload": payload})

    def _twin(self, kind: str, data: dict[str, Any]) -> bytes:
        self.seq += 1
        twin = {
            "id": f"evt_{self.seq}",
            "type": f"{kind}.1",
            "seq": self.seq,
            "aggregateID": self.session,
            "data": data,
        }
        return _json(
            {"directory": self.directory, "project": "simulated", "payload": {"type": "sync", "syncEvent": twin}}
        )

    def _entries(self) -> Iterator[tuple[bytes, int]]:
        while True:
            self.number += 1
            ids = {"id": f"prt_{self.session[4:]}{self.number}", "messageID": f"msg_{self.session[4:]}"}
            clock = {"start": _now_ms(), "end": _now_ms()}
            part = {**ids, "sessionID": self.session, "type": "text", "text": FILLER[:200], "time": clock}
            properties = {"sessionID": self.session, "part": part, "time": clock["end"]}
            # The twin goes with its event, and is not counted: it carries the same once more.
            yield (
                self._event("message.part.updated", properties)
                + b"\n\ndata: "
                + self._twin("message.part.updated", properties),
                1,
            )

    def _recorded(self) -> Iterator[tuple[bytes, int]]:
        events, counts, old = recording()
        while True:
            self.number += 1
            mark = f"{self.number:08d}"
            for event, count in zip(events, counts, strict=True):
                text = event.replace(old, self.session).replace("/srv/tree", self.directory)
                for prefix in ("msg_", "prt_", "call_"):
                    text = text.replace(f'"{prefix}', f'"{prefix}{self.session[-6:]}{mark}')
                value = json.loads(text)
                if value["payload"]["type"] == "sync":
                    self.seq += 1
                    value["payload"]["syncEvent"]["seq"] = self.seq
                stamp(value, _now_ms())
                yield _json(value), count


def recording() -> tuple[list[str], list[int], str]:
    """The captured turn between its beginning and its end, how many entries each event makes, and its session's id."""
    lines = (FIXTURES / "full-turn.global.sse").read_text().splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    skipped = ("server.connected", "session.created", "session.idle")
    kept = [
        event
        for event in events
        if event["payload"]["type"] not in skipped and event["payload"].get("syncEvent", {}).get("seq") != 0
    ]
    translator = Translator()
    counts = [sum(isinstance(item, Entry) for item in translator.translate(event)) for event in kept]
    session = next(event["payload"]["syncEvent"]["aggregateID"] for event in events if "syncEvent" in event["payload"])
    return [json.dumps(event) for event in kept], counts, session


def stamp(value: Any, at: float) -> None:
    """Set every time inside `value` to `at`."""
    if isinstance(value, list):
        for one in value:
            stamp(one, at)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key in ("time", "start", "end", "created", "updated", "completed") and isinstance(one, int | float):
                value[key] = at
            else:
                stamp(one, at)


class Simulated:
    """The server's state: who listens, who is busy, what was asked and said."""

    def __init__(self) -> None:
        self.streams: set[asyncio.StreamWriter] = set()
        self.busy: dict[str, list[str]] = {}  # directory -> sessions
        self.requests: Counter[str] = Counter()
        self.sent = self.entries = 0
        self.lost = 0  # events that no stream was open for
        self.running: asyncio.Task[None] | None = None
        self.providers = json.loads((FIXTURES / "config-providers.json").read_text())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests one after the other, or the stream."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, target, _ = head.split("\r\n", 1)[0].split(" ")
                length = next(
                    (int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:")), 0
                )
                body = json.loads(await reader.readexactly(length) or b"null") if length else None
                url = urlsplit(target)
                if url.path == "/global/event":
                    await self._stream(writer)
                    break
                answer = _json(self.answer(method, url.path, parse_qs(url.query), body))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                    % (len(answer), answer)
                )
                await writer.drain()
        writer.close()

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """The JSON answer of an address."""
        words = path.strip("/").split("/")
        named = [word if not word.startswith("ses_") else "ID" for word in words]
        self.requests[f"{method} /{'/'.join(named)}"] += 1
        directory = query.get("directory", [""])[0]
        fixed: dict[str, Any] = {
            "/global/health": {"healthy": True, "version": "1.18.33"},
            "/config/providers": self.providers,
            "/config": {"model": ""},
            "/agent": [{"name": name} for name in AGENTS],
            "/session/status": {session: {"type": "busy"} for session in self.busy.get(directory, [])},
            "/control/state": self.state(),
        }
        if path == "/control":
            return self.control(body)
        if path in fixed:
            return fixed[path]
        return True if words[-1] in ("abort", "dispose") else []

    def state(self) -> dict[str, Any]:
        """What was said so far."""
        done = self.running is None or self.running.done()
        return {
            "sent": self.sent,
            "entries": self.entries,
            "lost": self.lost,
            "done": done,
            "streams": len(self.streams),
            "requests": dict(self.requests),
        }

    def control(self, orders: dict[str, Any]) -> dict[str, Any]:
        """Do as told: which sessions are busy, and what to say about them."""
        self.busy = orders.get("busy", self.busy)
        if orders.get("rate"):
            self.sent = self.entries = self.lost = 0
            talkers = [Talker(session, directory, orders["mix"]) for session, directory in orders["sessions"].items()]
            self.running = asyncio.create_task(self.talk(talkers, orders["rate"], orders["seconds"]))
        return self.state()

    async def talk(self, talkers: list[Talker], rate: float, seconds: float) -> None:
        """Say `rate` events a second in all, in turn, for `seconds`; what is late is said at once."""
        began = time.monotonic()
        total = int(rate * seconds)
        while self.sent < total:
            due = min(total, int((time.monotonic() - began) * rate)) - self.sent
            for _ in range(due):
                event, entries = talkers[self.sent % len(talkers)].next()
                self.say(event)
                self.sent += 1
                self.entries += entries
            await asyncio.sleep(STEP)

    def say(self, event: bytes) -> None:
        """Send an event to every open stream."""
        block = b"data: " + event + b"\n\n"
        chunk = b"%x\r\n%s\r\n" % (len(block), block)
        self.lost += not self.streams
        for writer in tuple(self.streams):
            if writer.is_closing() or writer.transport.get_write_buffer_size() > BACKLOG:
                self.streams.discard(writer)
                writer.close()
            else:
                writer.write(chunk)

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.streams.add(writer)
        self.say(_json({"payload": {"id": "evt_0", "type": "server.connected", "properties": {}}}))
        try:
            while not writer.is_closing():
                await asyncio.sleep(HEARTBEAT)
                self.say(_json({"payload": {"id": "evt_0", "type": "server.heartbeat", "properties": {}}}))
        finally:
            self.streams.discard(writer)


async def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=4600)
    simulated = Simulated()
    server = await asyncio.start_server(simulated.serve, "127.0.0.1", parser.parse_args().port, limit=64 * 1024 * 1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
