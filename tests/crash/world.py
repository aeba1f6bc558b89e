"""A studio that can be hurt: its processes by role, its database read from outside, its fault points, its health."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import redis
import requests

from studio.kernel import faultpoints
from tests.crash.proxy import Proxy
from tests.e2e.studio_process import ROOT, Studio

WHOLE_SECONDS = 90.0
LOOK_SECONDS = 0.02

# Role -> words of the command line; `worker` and `worker-child` are told apart by their parent.
ROLES = {
    "valkey": ("valkey-server",),
    "agentserver": ("manage.py", "agentserver"),
    "opencode": ("serve", "--hostname"),
    "bridge": ("manage.py", "bridge"),
    "worker": ("celery", "worker"),
    "beat": ("celery", "beat"),
    "web": ("daphne",),
}


class Stuck(AssertionError):
    """Something that had to happen did not."""


class World(Studio):
    """A studio with fault points, for many cases one after the other."""

    def __init__(self, *arguments: str) -> None:
        super().__init__("--no-sample", *arguments)
        self.points = self.folder / "faultpoints"
        self.points.mkdir()
        self.proxy: Proxy | None = None
        self.environment[faultpoints.VARIABLE] = str(self.points)

    @property
    def database(self) -> Path:
        """Its SQLite file."""
        return self.data / "studio.sqlite3"

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query, read from outside."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(sql, values).fetchall()

    def role(self, name: str) -> list[psutil.Process]:
        """The processes of a role, at present."""
        if name == "everything":
            assert self.process is not None
            return [psutil.Process(self.process.pid), *self.processes()]
        if name == "worker-child":
            mains = {process.pid for process in self.role("worker")}
            return [process for process in self.find(*ROLES["worker"]) if _parent(process) in mains]
        found = self.find(*ROLES[name])
        if name == "worker":
            pids = {process.pid for process in found}
            return [process for process in found if _parent(process) not in pids]
        return found

    def signal_role(self, name: str, number: int) -> list[psutil.Process]:
        """Send a signal to every process of a role; who got it."""
        hit = []
        for process in self.role(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
                hit.append(process)
        if not hit:
            raise Stuck(f"no process of {name} was there")
        return hit

    def come_back(self) -> None:
        """After everything was killed: start it again, as a person would."""
        assert self.process is not None
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.start()

    def arm(self, point: str, action: str, *, reaches: int = 1, seconds: float = 0.0) -> None:
        """Arm a fault point."""
        faultpoints.arm(self.points, point, action, reaches=reaches, seconds=seconds)

    def fired(self, point: str) -> dict[str, Any] | None:
        """Whether and where it acted."""
        return faultpoints.fired(self.points, point)

    def ring(self, job: str, id: object) -> None:
        """Have a job delivered once more."""
        self.manage("shell", "-c", f"from studio.queue import enqueue; enqueue({job!r}, {str(id)!r})")

    def endpoint(self) -> dict[str, Any]:
        """Where the agent server is; empty while it is down."""
        try:
            value: dict[str, Any] = json.loads((self.data / "run" / "agentserver.json").read_text())
        except (OSError, ValueError):
            return {}
        return value

    def why_not_whole(self) -> str:
        """What is missing for every part to be there and to answer; empty when nothing is."""
        for name in (*ROLES, "worker-child"):
            alive = [
                one for one in self.role(name) if _status(one) not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
            ]
            if not alive:
                return f"{name} is not there"
        try:
            ready = requests.get(f"{self.url}/readyz", timeout=5)
            if not ready.ok:
                return f"readyz: {ready.text[:200]}"
            self.opencode("/global/health", seconds=0)
        except (requests.RequestException, OSError, ValueError) as error:
            return f"no answer: {type(error).__name__}"
        held = self.rows("SELECT 1 FROM agents_agentserver WHERE state = 'ready' AND lease_until > datetime('now')")
        return "" if held else "no bridge holds a ready server"

    def wait_whole(self) -> None:
        """Wait until every part is there and answers."""
        deadline = time.monotonic() + WHOLE_SECONDS
        missing = ""
        while time.monotonic() < deadline:
            with contextlib.suppress(psutil.Error):
                missing = self.why_not_whole()
                if not missing:
                    return
            time.sleep(0.1)
        raise Stuck(f"the studio did not become whole again: {missing}\n{self.log_tail()}")

    @contextlib.contextmanager
    def locked_database(self) -> Iterator[None]:
        """Hold the database's write lock, as a backup program that hangs would."""
        connection = sqlite3.connect(self.database, isolation_level=None, timeout=30)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    def put_proxy_between(self) -> None:
        """Send everything between the studio and its agent server through a proxy, by the file that says where it is.

        The bridge is started anew, so that its stream goes there too. A server that is started again announces itself
        without the proxy.
        """
        endpoint = self.endpoint()
        port = int(endpoint["url"].rpartition(":")[2])
        if self.proxy is not None and self.proxy.port == port:
            return
        if self.proxy is not None:
            self.proxy.close()
        self.proxy = Proxy(port)
        path = self.data / "run" / "agentserver.json"
        scratch = path.with_suffix(".proxied")
        scratch.write_text(json.dumps({**endpoint, "url": f"http://127.0.0.1:{self.proxy.port}"}))
        scratch.replace(path)
        self.signal_role("bridge", signal.SIGKILL)
        until(self.proxy.streams, "a connection through the proxy")
        self.wait_whole()

    def bridge_holder(self) -> int:
        """The process id of the bridge that holds the agent server; 0 when none does."""
        rows = self.rows("SELECT lease_owner FROM agents_agentserver WHERE lease_until > datetime('now')")
        return int(rows[0][0].split("|")[1]) if rows and rows[0][0] else 0

    @contextlib.contextmanager
    def second_bridge(self) -> Iterator[psutil.Process]:
        """One more bridge beside the supervised one; at the end it is killed."""
        with (self.data / "log" / "second-bridge.log").open("a") as output:
            process = psutil.Popen(
                [sys.executable, "manage.py", "bridge"],
                cwd=ROOT,
                env={**self.environment, "STUDIO_PORT": str(self.port)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            until(lambda: process.num_threads() > 1, "the second bridge")  # it waits for the lease in a thread
            yield process
        finally:
            process.kill()
            process.wait()

    def close(self) -> None:
        if self.proxy is not None:
            self.proxy.close()
        super().close()

    @contextlib.contextmanager
    def valkey(self) -> Iterator[redis.Redis]:
        """The broker's database."""
        lines = (self.data / "run" / "valkey.conf").read_text().splitlines()
        values = dict(line.split(" ", 1) for line in lines if " " in line)
        client = redis.Redis(
            unix_socket_path=values["unixsocket"].strip('"'), password=values["requirepass"].strip('"')
        )
        try:
            yield client
        finally:
            client.close()

    def unacknowledged(self, job: str, id: str) -> bool:
        """Whether a worker still holds such a job."""
        with self.valkey() as client:
            held = client.hvals("unacked")
        return any(job in str(one) and id in str(one) for one in held)


def resume(processes: list[psutil.Process]) -> None:
    """SIGCONT."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


def until(check: Callable[[], Any], what: str, *, seconds: float = 120.0) -> Any:
    """The first true answer of `check`; Stuck after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException, sqlite3.OperationalError, psutil.Error, OSError):
            answer = check()
            if answer:
                return answer
        time.sleep(LOOK_SECONDS)
    raise Stuck(f"waited {seconds:.0f} s in vain: {what}")


def continue_pid(pid: int) -> None:
    """SIGCONT to one process, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _parent(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.ppid()
    return 0


def _status(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status()
    return psutil.STATUS_ZOMBIE
