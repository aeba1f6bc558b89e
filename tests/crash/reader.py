"""A reader of the live feed that loses its connection and comes back with its cursors, as a browser does."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import defaultdict
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from tests.crash.world import World

RETRY_SECONDS = 0.2
SILENCE_SECONDS = 30.0  # the server pings every 20


class Reader:
    """Follows a project from its present head, and each session that it opens from its beginning."""

    def __init__(self, world: World, project: str) -> None:
        self.world = world
        self.topic = f"project:{project}"
        self.cursors: dict[str, int | None] = {self.topic: None}
        self.seen: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self.deltas = 0  # pieces of text that were being written
        self.connections = 0
        self.complaints: list[str] = []
        self.first = 0
        self._stop = threading.Event()
        self._subscribed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="reader")

    def __enter__(self) -> Reader:
        self._thread.start()
        if not self._subscribed.wait(30):
            raise AssertionError("the reader could not subscribe")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(WebSocketException, OSError, TimeoutError, EOFError):
                token = str(self.world.http.headers["Authorization"])
                address = f"ws{self.world.url.removeprefix('http')}/ws/feed/"
                with connect(address, additional_headers={"Authorization": token}, open_timeout=5) as socket:
                    self.connections += 1
                    self._follow(socket)
            self._stop.wait(RETRY_SECONDS)

    def _follow(self, socket: ClientConnection) -> None:
        for topic in list(self.cursors):
            self._subscribe(socket, topic)
        heard = time.monotonic()
        while not self._stop.is_set():
            try:
                frame = json.loads(socket.recv(timeout=0.2))
            except TimeoutError:
                if time.monotonic() - heard > SILENCE_SECONDS:
                    return
                continue
            heard = time.monotonic()
            self._take(socket, frame)

    def _subscribe(self, socket: ClientConnection, topic: str) -> None:
        cursor = self.cursors[topic]
        after = {} if cursor is None else {topic: cursor}
        socket.send(json.dumps({"type": "subscribe", "topics": [topic], "after": after}))

    def _take(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        topic = frame.get("topic", "")
        match frame["type"]:
            case "subscribed" if self.cursors.get(topic) is None:
                self.first = self.cursors[topic] = frame["seq"]
                self._subscribed.set()
            case "event":
                self.cursors[topic] = frame["seq"]
                self.seen[topic].append((frame["seq"], frame["kind"]))
                if frame["kind"] == "session.opened":
                    session = f"session:{frame['data']['session']}"
                    if session not in self.cursors:
                        self.cursors[session] = 0
                        self._subscribe(socket, session)
            case "delta":
                self.deltas += 1
            case "resync":
                self._subscribe(socket, topic)
            case "ping":
                socket.send('{"type": "pong"}')
            case "error":
                self.complaints.append(f"{topic}: {frame.get('message')}")
            case _:
                pass
