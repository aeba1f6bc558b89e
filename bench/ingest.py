"""From an agent server's event to 50 readers: what is lost, how late it comes, what it costs, next to a floor.

    .venv/bin/python -m bench.ingest                       27 sessions, 1,000 events/s, 50 readers, 60 s, then the floor
    .venv/bin/python -m bench.ingest --mix recorded        the captured turn instead of finished texts only
    .venv/bin/python -m bench.ingest --waiting 1000        sessions that wait and say nothing: memory, requests, CPU

A whole studio (`manage.py up`: bridge, web, worker, beat, Valkey) follows a simulated agent server that speaks the recorded
protocol. The readers are WebSockets of the public feed. The floor gives the same stream to the same readers without the studio.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import requests

from bench.meter import Meter
from bench.readers import DRAIN_SECONDS
from tests.e2e.studio_process import ROOT, Studio
from tests.real.parts import free_port

WARM_SECONDS = 3.0


@contextmanager
def running(*module: str) -> Iterator[subprocess.Popen[str]]:
    """A module of the bench as a process of its own, ended afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", *module], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(check: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """The first true answer of `check`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if answer := check():
                return answer
        except requests.RequestException:
            pass
        time.sleep(0.1)
    raise SystemExit(f"still waiting for {what}")


class Upstream:
    """The simulated server, told what to do."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        until(lambda: requests.get(f"{self.url}/global/health", timeout=2).ok, "the simulated server")

    def tell(self, **orders: Any) -> dict[str, Any]:
        """Give orders; the state."""
        return requests.post(f"{self.url}/control", json=orders, timeout=10).json()

    def state(self) -> dict[str, Any]:
        """What it has said and was asked."""
        return requests.get(f"{self.url}/control/state", timeout=10).json()


def rows(studio: Studio, *arguments: str) -> dict[str, Any]:
    """Run bench.rows on the studio's data."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.rows", *arguments],
        cwd=ROOT,
        env={**studio.environment, "STUDIO_PORT": str(studio.port)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def parts(studio: Studio) -> dict[str, list[psutil.Process]]:
    """The studio's processes by name."""
    words = {"bridge": ("bridge",), "web": ("daphne",), "worker": ("studio.celery",), "valkey": ("valkey.conf",)}
    return {name: studio.find(*word) for name, word in words.items()}


def measure(
    address: str,
    token: str,
    topics: list[str],
    upstream: Upstream,
    orders: dict[str, Any],
    options: argparse.Namespace,
    watched: dict[str, list[psutil.Process]],
) -> dict[str, Any]:
    """Readers on `address` while the simulated server talks: what they saw, and what the watched processes used."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as names:
        json.dump(topics, names)
        names.flush()
        arguments = ["--readers", str(options.readers), "--topics", names.name, "--token", token]
        with running("bench.readers", address, *arguments, "--until", str(10**9)) as readers:
            assert readers.stdout
            assert readers.stdin
            line = readers.stdout.readline()
            assert line == "ready\n", line
            time.sleep(WARM_SECONDS)
            meter = Meter({**watched, "readers": [psutil.Process(readers.pid)]}).start()
            upstream.tell(rate=options.rate, seconds=options.seconds, mix=options.mix, **orders)
            time.sleep(options.seconds)
            state = until(lambda: (now := upstream.state())["done"] and now, "the last event", options.seconds + 60)
            used = meter.stop()
            time.sleep(min(DRAIN_SECONDS, 2.0 + options.seconds / 10))
            readers.stdin.write(f"{state['entries']}\n")
            readers.stdin.flush()
            seen = json.loads(readers.stdout.readline())
    return {"sent": state["sent"], "entries": state["entries"], "lost": state["lost"], "used": used,
            "others": meter.others, **seen}  # fmt: skip


def throughput(options: argparse.Namespace) -> dict[str, Any]:
    """The studio, then the floor, with the same stream and the same readers."""
    port = free_port()
    with running("bench.simulated_server", "--port", str(port)) as server:
        upstream = Upstream(port)
        simulated = {"simulated": [psutil.Process(server.pid)]}
        studio = start_studio(upstream, options)
        try:
            made = rows(studio, "make", str(options.sessions))
            upstream.tell(busy=made["busy"])
            token = str(studio.http.headers["Authorization"]).removeprefix("Bearer ")
            address = f"{studio.url.replace('http', 'ws', 1)}/ws/feed/"
            orders = {"sessions": made["sessions"]}
            ours = measure(address, token, made["topics"], upstream, orders, options, {**parts(studio), **simulated})
            ours |= rows(studio, "count")
        finally:
            studio.close()
        floor = None
        if options.mix == "entries" and not options.no_floor:
            at = free_port()
            with running("bench.floor", "--upstream", upstream.url, "--port", str(at)) as process:
                until(lambda: upstream.state()["streams"], "the floor")
                time.sleep(1)
                watched = {"floor": [psutil.Process(process.pid)], **simulated}
                topics = list(made["sessions"])
                floor = measure(f"ws://127.0.0.1:{at}", "", topics, upstream, orders, options, watched)
    return {"studio": ours, "floor": floor}


def start_studio(upstream: Upstream, options: argparse.Namespace) -> Studio:
    """A studio that follows the simulated server."""
    environment = {"OPENCODE_URL": upstream.url, "OPENCODE_PASSWORD": "simulated"}
    if options.database:
        environment["DATABASE_URL"] = options.database
    studio = Studio("--no-sample", environment=environment).start()
    until(lambda: upstream.state()["streams"], "the bridge")
    return studio


def waiting(options: argparse.Namespace) -> dict[str, Any]:
    """Sessions that wait and say nothing: what they cost while nothing happens."""
    port = free_port()
    with running("bench.simulated_server", "--port", str(port)):
        upstream = Upstream(port)
        studio = start_studio(upstream, options)
        try:
            time.sleep(WARM_SECONDS)
            before, idle = calm(studio, upstream, options.seconds)
            made = rows(studio, "make", str(options.waiting))
            upstream.tell(busy=made["busy"])
            time.sleep(25)  # past the moment from which a silent turn is looked at
            after, busy = calm(studio, upstream, options.seconds)
            active = studio_jobs(studio)
        finally:
            studio.close()
    return {"before": before, "after": after, "idle_requests": idle, "busy_requests": busy, "active_jobs": active}


def calm(studio: Studio, upstream: Upstream, seconds: float) -> tuple[dict[str, Any], float]:
    """What the studio's processes use for a while, and the requests a second that the server gets from them."""
    asked = sum(upstream.state()["requests"].values())
    meter = Meter(parts(studio)).start()
    time.sleep(seconds)
    used = meter.stop()
    return used, (sum(upstream.state()["requests"].values()) - asked) / seconds


def studio_jobs(studio: Studio) -> int:
    """How many jobs the workers hold at this moment."""
    code = (
        "from studio.celery import app; "
        "print(sum(len(jobs) for jobs in (app.control.inspect(timeout=3).active() or {}).values()))"
    )
    return int(studio.manage("shell", "-v", "0", "-c", code).splitlines()[-1])


def machine() -> str:
    """One line about where this was measured."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load average {load}"


def report_throughput(options: argparse.Namespace, found: dict[str, Any]) -> str:
    """The figures as tables."""
    lines = [f"{options.sessions} sessions, {options.rate:g} events/s ({options.mix}), {options.readers} readers, "
             f"{options.seconds:g} s; {machine()}", ""]  # fmt: skip
    lines += ["| | sent | entries | stored | seen by each reader | p50 ms | p99 ms | max ms | others' CPU |",
              "|---|---:|---:|---:|---|---:|---:|---:|---:|"]  # fmt: skip
    for name, run in found.items():
        if run:
            seen = f"{min(run['seen'])} to {max(run['seen'])} {run['faults'] or ''}".strip()
            lines.append(
                f"| {name} | {run['sent']} | {run['entries']} | {run.get('stored', '')} | {seen} | {run['p50']:g} | "
                f"{run['p99']:g} | {run['max']:g} | {run['others']:.0f} % |"
            )
    lines += ["", "| process | CPU of one core | MB at start | peak | end |", "|---|---:|---:|---:|---:|"]
    for name, run in found.items():
        for process, used in (run or {"used": {}})["used"].items():
            lines.append(
                f"| {name}: {process} | {used['cpu']:.0f} % | {used['start']:.0f} | {used['peak']:.0f} | {used['end']:.0f} |"
            )
    return "\n".join(lines)


def report_waiting(options: argparse.Namespace, found: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = [f"{options.waiting} sessions that wait; {machine()}", ""]
    lines += [
        "| process | MB before | MB after | kB a session | CPU before | CPU after |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for process, used in found["after"].items():
        before = found["before"][process]
        each = 1024 * (used["end"] - before["end"]) / options.waiting
        lines.append(
            f"| {process} | {before['end']:.1f} | {used['end']:.1f} | {each:.1f} | {before['cpu']:.1f} % | {used['cpu']:.1f} % |"
        )
    lines += ["", f"requests to the server: {found['idle_requests']:.1f}/s before, {found['busy_requests']:.1f}/s with them; "
              f"jobs that hold a worker: {found['active_jobs']}"]  # fmt: skip
    return "\n".join(lines)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=27)
    parser.add_argument("--rate", type=float, default=1000, help="events a second in all")
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--mix", choices=["entries", "recorded"], default="entries")
    parser.add_argument("--no-floor", action="store_true")
    parser.add_argument("--waiting", type=int, default=0, help="measure so many silent sessions instead")
    parser.add_argument("--database", default="", help="a DATABASE_URL; SQLite without it")
    return parser.parse_args(given)


def main() -> None:
    """Measure and print."""
    options = arguments()
    if options.waiting:
        print(report_waiting(options, waiting(options)))
    else:
        print(report_throughput(options, throughput(options)))


if __name__ == "__main__":
    main()
