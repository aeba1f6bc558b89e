"""What a long session costs in a browser: opening it, reading back through it, and following it while it grows.

    .venv/bin/python -m bench.session_page --events 50000

A whole studio without an agent server, a session whose log is generated, and a real Chromium with an empty cache. Measured:
the server's time for the page and for a stretch of it; the time from opening the address to the first entry on the screen;
and after opening, after scrolling back and after live events the entries in the page, the script heap after a collection, and
the memory of the page's own process (proportional set size: shared pages are counted once).

The live events are written through the studio's log by a process of their own, as the bridge does.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Browser, CDPSession, Page

from tests.e2e.browser import Person, chromium
from tests.e2e.studio_process import Studio

ROOT = Path(__file__).resolve().parents[1]
OPENINGS = 9
LIVE_BATCH, LIVE_PAUSE = 20, 0.05  # events of one append, and seconds between two: about 400 a second
FIRST_ENTRY = """() => new Promise((done) => requestAnimationFrame(() => {
  const entry = document.querySelector('.entries .e');
  if (entry) setTimeout(() => done(performance.now()), 0); else done(null);
}))"""


# ---- in the studio's own settings: rows


def use_studio() -> None:
    """Make the studio's models usable in this process; its data folder comes from the environment."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")
    import django

    django.setup()


def events(first: int, count: int) -> list[Any]:
    """A plausible hour: texts, thoughts, tools with outputs, steps; the numbers only make them distinct."""
    from agents.backend import LogEntry
    from studio.kernel.clock import now

    made, at = [], now()
    for number in range(first, first + count):
        part = f"prt_{number // 6:012d}{number % 6}"
        tool: dict[str, Any] = {"part": f"prt_{number // 6:012d}2", "tool": "bash", "title": f"make test-{number}"}
        tool["input"] = {"command": f"make test-{number} && echo done"}
        kinds: list[tuple[str, dict[str, Any]]] = [
            ("reasoning", {"part": part, "text": "I should look at the tests before I change this. " * 8}),
            (
                "text",
                {"part": part, "text": f"Step {number}: I **change** `src/module_{number}.py`, then run it.\n\n" * 3},
            ),
            ("tool.started", tool),
            (
                "tool.finished",
                {**tool, "output": "tests/test_a.py ....\n" * 40, "status": "completed", "exit": 0, "ms": 820},
            ),
            ("file.edited", {"file": f"src/module_{number}.py"}),
            ("step.finished", {"part": part, "reason": "stop", "cost": 0.002, "tokens": {"input": 900, "output": 120}}),
        ]
        kind, data = kinds[number % 6]
        made.append(LogEntry(kind, f"{kind}:{data.get('part', number)}", data, at))
    return made


def fill(count: int) -> str:
    """A session with `count` entries and a turn at work; its id."""
    use_studio()
    from django.contrib.auth import get_user_model

    from agents.models import AgentServer
    from sessions_app import log
    from sessions_app.models import Turn, TurnState
    from sessions_app.services.turns import admit_turn, open_session
    from studio.kernel.clock import now
    from workspaces.models import Project, Workspace, WorkspaceState

    owner = get_user_model().objects.filter(is_superuser=True).first()
    project = Project.objects.create(
        name="Bench", key="BENCH", path="/nowhere", default_branch="main", created_by=owner
    )
    workspace = Workspace.objects.create(
        project=project,
        label="BENCH",
        path="/nowhere/work",
        branch="bench",
        base_branch="main",
        state=WorkspaceState.READY,
        base_commit="0" * 40,
        head_commit="0" * 40,
    )
    server = AgentServer.objects.create(name="bench", default_model="bench/bench")
    session = open_session(
        workspace=workspace, server=server, role="implementer", title="An hour", agent="studio-implementer", model=""
    )
    turn = admit_turn(session=session, prompt="Go.", max_steps=25, wall_seconds=3600, idle_seconds=600)
    Turn.objects.filter(pk=turn.pk).update(state=TurnState.RUNNING, started_at=now(), last_event_at=now())
    for first in range(0, count, 2_000):
        log.append(session.pk, events(first, min(2_000, count - first)))
    return str(session.pk)


def live(session_id: str, first: int, count: int) -> None:
    """Append `count` further entries at a steady pace."""
    use_studio()
    import uuid

    from sessions_app import log

    for at in range(first, first + count, LIVE_BATCH):
        log.append(uuid.UUID(session_id), events(at, LIVE_BATCH))
        time.sleep(LIVE_PAUSE)


def other(studio: Studio, *arguments: str) -> subprocess.Popen[str]:
    """This module again, in a process that sees the studio's data."""
    command = [sys.executable, "-m", "bench.session_page", *arguments]
    environment = {**studio.environment, "STUDIO_PORT": str(studio.port)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


# ---- in the browser


@dataclass
class Size:
    """What a page takes."""

    what: str
    entries: int
    heap: float  # MB
    process: float  # MB

    def row(self) -> str:
        """A row of the table."""
        return f"| {self.what} | {self.entries} | {self.heap:.1f} | {self.process:.0f} |"


def renderer(browser: Browser) -> psutil.Process:
    """The process of the page that is open; with one page there is one that is large."""
    cdp = browser.new_browser_cdp_session()
    infos = cdp.send("SystemInfo.getProcessInfo")["processInfo"]
    processes = [psutil.Process(one["id"]) for one in infos if one["type"] == "renderer"]
    return max(processes, key=lambda process: process.memory_full_info().pss)


def measure(what: str, browser: Browser, page: Page, cdp: CDPSession) -> Size:
    """Entries, heap and memory after a collection."""
    cdp.send("HeapProfiler.collectGarbage")
    page.wait_for_timeout(500)
    heap = cdp.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    entries = page.locator(".log .e").count()
    return Size(what, entries, heap, renderer(browser).memory_full_info().pss / 1e6)


def opened(person: Person, path: str) -> float:
    """Milliseconds from the address to the first entry on the screen, in a browser with an empty cache."""
    page = person.browser.new_context(storage_state=person.state, viewport={"width": 1280, "height": 900}).new_page()
    page.goto(f"{person.url}{path}", wait_until="commit")
    at = None
    while at is None:
        at = page.evaluate(FIRST_ENTRY)
    page.context.close()
    return float(at)


def scroll_back(page: Page, entries: int) -> int:
    """Read back through at least `entries` entries of the log as a person with a wheel does; how many it were."""
    begin = int(page.locator(".entries").first.get_attribute("data-first") or 0)
    first = begin
    page.locator(".log").hover()
    while first > 1 and begin - first < entries:
        page.mouse.wheel(0, -4_000)
        page.wait_for_timeout(20)
        first = int(page.locator(".entries").first.get_attribute("data-first") or 0)
    return begin - first


def follow(studio: Studio, session_id: str, first: int, count: int, page: Page) -> float:
    """Let the session grow and wait until the page shows its end; seconds."""
    page.locator(".latest").click()
    began = time.perf_counter()
    with other(studio, "--live", session_id, "--first", str(first), "--events", str(count)) as writer:
        writer.wait(600)
    page.wait_for_function(
        "end => Number([...document.querySelectorAll('.entries[data-last]')].at(-1).dataset.last) >= end",
        arg=first + count,
        timeout=120_000,
    )
    return time.perf_counter() - began


def server_times(studio: Studio, person: Person, path: str, total: int) -> list[tuple[str, float, float, int]]:
    """(what, median milliseconds, milliseconds of CPU, bytes) of the page and of stretches, as the web process answers."""
    web = studio.find("daphne")[0]
    cookies = {one["name"]: one["value"] for one in person.state["cookies"]}
    rows = []
    for what, query in (
        ("the page", ""),
        ("what is new", f"entries/?after={total - 5}"),
        ("a stretch at the end", f"entries/?before={total}"),
        ("a stretch in the middle", f"entries/?before={total // 2}"),
    ):
        taken = []
        before = sum(web.cpu_times()[:2])
        for _ in range(OPENINGS):
            began = time.perf_counter()
            answer = studio.http.get(
                f"{studio.url}{path}{query}", cookies=cookies, headers={"Accept-Encoding": "identity"}
            )
            taken.append((time.perf_counter() - began) * 1000)
            assert answer.ok, answer.status_code
        cpu = (sum(web.cpu_times()[:2]) - before) / OPENINGS * 1000
        rows.append((what, statistics.median(taken), cpu, len(answer.content)))
    return rows


def run(total: int, back: int, more: int) -> None:
    """Measure and print the tables."""
    studio = Studio("--no-sample", "--no-agent")
    try:
        studio.start()
        with other(studio, "--fill", "--events", str(total)) as filler:
            session_id = filler.communicate(timeout=600)[0].strip().splitlines()[-1]
        path = f"/sessions/{session_id}/"
        with chromium() as browser:
            person = Person(browser, studio.url, studio.manage("loginlink").split()[-1])
            print("| server, over loopback | median ms | of it CPU, ms | kB |\n|---|---:|---:|---:|")
            for what, milliseconds, cpu, size in server_times(studio, person, path, total):
                print(f"| {what} | {milliseconds:.0f} | {cpu:.0f} | {size / 1000:.0f} |")
            times = [opened(person, path) for _ in range(OPENINGS)]
            low, high = min(times), max(times)
            print(f"\nfirst entry on the screen: median {statistics.median(times):.0f} ms ({low:.0f} to {high:.0f})\n")
            page = person.open(path, width=1280, height=900)
            cdp = page.context.new_cdp_session(page)
            sizes = [measure("opened", browser, page, cdp)]
            read = scroll_back(page, back)
            sizes.append(measure(f"after scrolling back {read:,} entries of the log", browser, page, cdp))
            seconds = follow(studio, session_id, total, more, page)
            sizes.append(measure(f"after {more:,} live events in {seconds:.0f} s", browser, page, cdp))
            print("| page | entries in it | script heap, MB | process, MB |\n|---|---:|---:|---:|")
            print("\n".join(size.row() for size in sizes))
            print(f"\nerrors on the page: {person.errors or 'none'}")
        print(f"{total:,} events, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    finally:
        studio.close()


def main() -> None:
    """Measure, or (in the processes that it starts) write rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--back", type=int, default=5_000)
    parser.add_argument("--more", type=int, default=10_000)
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--live", metavar="SESSION", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fill:
        print(fill(given.events))
    elif given.live:
        live(given.live, given.first, given.events)
    else:
        run(given.events, given.back, given.more)


if __name__ == "__main__":
    main()
