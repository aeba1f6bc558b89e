"""Two browsers and two programs watch a session while the web process is killed three times: all end with one history."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.e2e.browser import LONG, Person, chromium
from tests.e2e.scripts import gate, script, write
from tests.e2e.studio_process import Studio

pytestmark = pytest.mark.real

STEPS = 22  # a turn may have 25
# Steps that last until the test lets them end: when all are watching, and after each kill.
GATES = (1, 7, 13, 19)
PATIENCE = 90  # seconds
AGAIN = 0.1  # seconds until a program connects again


class Program:
    """A reader that connects again and again with its cursor, in a thread of its own."""

    def __init__(self, studio: Studio, session: str) -> None:
        self.url, self.session = studio.url, session
        self.token = str(studio.http.headers["Authorization"])
        self.rows: list[dict[str, Any]] = []
        self.connections = 0
        self.wrong: list[str] = []
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Program:
        self._thread.start()
        return self

    def stop(self) -> None:
        self.over.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    @property
    def last(self) -> int:
        return self.rows[-1]["seq"] if self.rows else 0

    def _run(self) -> None:
        while not self.over.is_set():
            with contextlib.suppress(OSError, requests.RequestException, WebSocketException, TimeoutError):
                self.read_once()
            time.sleep(AGAIN)

    def read_once(self) -> None:
        """One connection, from the cursor on."""
        raise NotImplementedError

    def take(self, row: dict[str, Any]) -> None:
        if row["seq"] != self.last + 1:
            self.wrong.append(f"{self.last} was followed by {row['seq']} in connection {self.connections}")
        self.rows.append(row)


class StreamReader(Program):
    """Reads the event stream and goes on by Last-Event-ID."""

    def read_once(self) -> None:
        headers = {"Authorization": self.token, "Accept": "text/event-stream"}
        if self.rows:
            headers["Last-Event-ID"] = str(self.last)
        url = f"{self.url}/api/v1/sessions/{self.session}/events"
        with requests.get(url, headers=headers, stream=True, timeout=(5, 30)) as answer:
            if answer.status_code != 200:
                return
            self.connections += 1
            fields: dict[str, str] = {}
            for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
                if self.over.is_set():
                    return
                name, _, text = line.partition(": ")
                if line:
                    fields[name] = text
                    continue
                if "id" in fields:
                    row = json.loads(fields["data"])
                    assert (str(row["seq"]), row["kind"]) == (fields["id"], fields["event"])
                    self.take(row)
                fields = {}


class SocketReader(Program):
    """Reads the WebSocket and goes on by `after`."""

    def read_once(self) -> None:
        topic = f"session:{self.session}"
        address = f"{self.url.replace('http', 'ws', 1)}/ws/feed/"
        with connect(address, additional_headers={"Authorization": self.token}, open_timeout=5, proxy=None) as feed:
            self.connections += 1
            feed.send(json.dumps({"type": "subscribe", "topics": [topic], "after": {topic: self.last}}))
            while not self.over.is_set():
                with contextlib.suppress(TimeoutError):
                    self._frame(feed, json.loads(feed.recv(timeout=1)))

    def _frame(self, feed: Any, frame: dict[str, Any]) -> None:
        if frame["type"] == "ping":
            feed.send(json.dumps({"type": "pong", "id": frame["id"]}))
        elif frame["type"] == "event":
            self.take({name: frame[name] for name in ("seq", "kind", "data", "at")})


class Window:
    """A page of the session: the frames of its connections, and what it shows."""

    def __init__(self, person: Person, session: str) -> None:
        self.connections: list[list[dict[str, Any]]] = []
        self.page = self._open(person, session)

    def _open(self, person: Person, session: str) -> Page:
        page = person.browser.new_context(storage_state=person.state).new_page()
        page.on("pageerror", lambda error: person.errors.append(str(error)))
        page.on("websocket", self._follow)
        page.goto(f"{person.url}/sessions/{session}/")
        expect(page.locator("live-transcript")).to_be_visible()
        return page

    def _follow(self, socket: Any) -> None:
        frames: list[dict[str, Any]] = []
        self.connections.append(frames)
        socket.on("framereceived", lambda text: frames.extend(apart(json.loads(text))))

    def rows(self, session: str) -> tuple[int, list[dict[str, Any]]]:
        """Up to which number the page came from the server, and the events that its connections brought after it."""
        topic = f"session:{session}"
        mine = [one for frames in self.connections for one in frames if one.get("topic") == topic]
        first = next(one["seq"] for one in mine if one["type"] == "subscribed")
        return first, [{n: one[n] for n in ("seq", "kind", "data", "at")} for one in mine if one["type"] == "event"]

    def shown(self) -> list[str]:
        """The numbers of the entries on the page, in order."""
        return self.page.eval_on_selector_all(
            "live-transcript .entries .e[data-seq]", "all => all.map(e => e.dataset.seq)"
        )


def apart(frame: dict[str, Any]) -> list[dict[str, Any]]:
    """The frames of a batch."""
    return frame["frames"] if frame["type"] == "batch" else [frame]


def until(check: Callable[[], Any], what: str, pages: list[Window] | None = None) -> Any:
    """The first true answer of `check`; the pages' events are handed out meanwhile."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(requests.RequestException, AssertionError):
            if answer := check():
                return answer
        if pages:
            pages[0].page.wait_for_timeout(50)
        else:
            time.sleep(0.05)
    raise AssertionError(f"in vain: {what}")


def all_rows(studio: Studio, session: str) -> list[dict[str, Any]]:
    """The log by its pages."""
    rows: list[dict[str, Any]] = []
    while page := studio.get(f"/sessions/{session}/events?after={len(rows)}&limit=17")["results"]:
        rows += page
    return rows


def alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their times written in one way."""
    return [{**row, "at": row["at"].replace("+00:00", "Z")} for row in rows]


def begin(studio: Studio) -> tuple[str, str]:
    """A task whose implementer has much to say and to do, and its session."""
    talk = [
        {"reasoning": f"What about step {n}? ", "text": f"Step {n} of many. " * 4, "delay": 0.2, "pace": 0.02}
        for n in range(STEPS)
    ]
    steps = [{**(gate(f"gate{n}") if n in GATES else write(f"{n}\n", f"f{n}.txt")), **talk[n]} for n in range(STEPS)]
    project = studio.project(studio.repository("watched"))
    key = studio.task(project, "Be watched", script(implementation=[steps]))["key"]
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")

    def session() -> str:
        runs = studio.get(f"/tasks/{key}/runs")["results"]
        if not any(run["phase"] == "implementation" and run["state"] == "running" for run in runs):
            return ""
        newest = studio.get(f"/tasks/{key}/sessions")["results"][-1]
        return newest["id"] if newest["title"] and len(runs) == 2 else ""

    return key, until(session, "the implementer's session")


def kill_web(studio: Studio, windows: list[Window]) -> None:
    """kill -9 of the web process; returns when another one answers."""
    victims = studio.kill("daphne")
    assert victims
    gone = {process.pid for process in victims}

    def answers() -> bool:
        return bool({one.pid for one in studio.find("daphne")} - gone) and bool(studio.get("/projects"))

    until(answers, "a new web process", windows)


@pytest.mark.timeout(600)
def test_three_kills__everybody_has_the_same_history(studio):
    key, session = begin(studio)
    programs = [StreamReader(studio, session).start(), SocketReader(studio, session).start()]
    try:
        with chromium() as browser:
            person = Person(browser, studio.url, studio.manage("loginlink").split()[-1])
            windows = [Window(person, session) for _ in range(2)]
            studio.open_gate(key, f"gate{GATES[0]}")
            for at in GATES[1:]:
                heard = [one.last for one in programs]
                until(partial(_went_on, programs, heard), f"news before the kill at {at}", windows)
                kill_web(studio, windows)
                studio.open_gate(key, f"gate{at}")
            studio.wait_status(key, "review", seconds=2 * PATIENCE)
            rows = all_rows(studio, session)
            head = rows[-1]["seq"]
            until(lambda: all(one.last >= head for one in programs), "the programs at the end", windows)
            until(
                lambda: all(one.rows(session)[1][-1]["seq"] >= head for one in windows), "the pages at the end", windows
            )
            for program in programs:
                program.stop()
            compare(rows, programs, windows, session)
            compare_pages(person, windows, session)
            assert person.errors == []
            person.leave()
    finally:
        for program in programs:
            program.over.set()


def _went_on(programs: list[Program], heard: list[int]) -> bool:
    return all(one.last > was + 4 for one, was in zip(programs, heard, strict=True))


def compare(rows: list[dict], programs: list[Program], windows: list[Window], session: str) -> None:
    """Every reader has the rows, each once, in order."""
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    said = [row["data"]["text"] for row in rows if row["kind"] == "text"]
    assert [f"Step {n} of" in "".join(said) for n in range(STEPS)] == [True] * STEPS
    for program in programs:
        assert program.wrong == []
        assert alike(program.rows) == alike(rows)
        assert program.connections >= len(GATES)
    for window in windows:
        first, brought = window.rows(session)
        assert [row["seq"] for row in brought] == list(range(first + 1, len(rows) + 1))
        assert alike(brought) == alike(rows)[first:]
        assert len(window.connections) >= len(GATES)


def compare_pages(person: Person, windows: list[Window], session: str) -> None:
    """The pages show the same, and what a page shows that is opened now: that one begins nearer to the end."""
    fresh = Window(person, session)
    want = fresh.shown()[1:]  # the first may be the end of a tool whose start is further back
    assert want
    for window in windows:
        expect(window.page.locator(".e-turn_settled")).to_have_count(1, timeout=LONG)
        until(partial(_ends_with, window, want), f"{window.shown()} to end with {want}", [window])
    first, second = (window.shown() for window in windows)
    assert first == second


def _ends_with(window: Window, want: list[str]) -> bool:
    return window.shown()[-len(want) :] == want
