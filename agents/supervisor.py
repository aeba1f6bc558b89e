"""Keeps the managed server running: started, announced when it answers, watched, restarted, replaced, ended. Without Django.

The practice model lives in this process, so it stays while the server is restarted. What happens is told through files
(agents/endpoint.py): a database that is locked or gone delays no restart.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.discovery import Binary, BinaryMissingError
from agents.endpoint import (
    Status,
    SupervisorState,
    read_status,
    recycle_asked,
    remove_endpoint,
    strays_asked,
    write_endpoint,
    write_status,
)
from agents.identity import mark_process
from agents.leftovers import end_leftovers
from agents.practice.server import PracticeServer
from agents.server_process import LOOK_SECONDS, READY_SECONDS, ServerProcess, Setup, ended_how
from agents.strays import end_strays
from studio.kernel.errors import StudioError

__all__ = [
    "AlreadyRunningError",
    "ServerProcess",
    "Setup",
    "Supervisor",
    "end_leftovers",
    "pause_before",
    "practice_log",
]

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds
GOOD_RUN_SECONDS = 120.0  # after this long the deaths before are forgotten
BINARY_SECONDS = 3.0  # between two looks for a binary
PORT_TRIES = 5
RECYCLE_SECONDS = 0.5  # between two looks for the question for a fresh process
MEASURE_SECONDS = 5.0
HEALTH_SECONDS = 10.0
SILENT_SECONDS = 90.0  # a server that answers nothing for this long hangs
PRACTICE_LOG_LIMIT = 5 * 1024 * 1024  # bytes


class AlreadyRunningError(StudioError):
    """Another process runs the server of this data folder."""

    code = "already_running"


class ServerDiedError(StudioError):
    """The server has ended, or might as well have; with what it said last."""

    code = "server_died"

    def __init__(self, message: str, output: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.output = output


def pause_before(crashes: int) -> float:
    """Seconds before the next start, after so many deaths in a row: none after the first, then doubling."""
    return 0.0 if crashes < 2 else min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(crashes - 2, 20))


class Supervisor:
    """Runs the server of one data folder until `stop` is set; whatever fails meanwhile is tried again for ever."""

    def __init__(self, setup: Setup, stop: threading.Event, find: Callable[[], Binary]) -> None:
        self.setup = setup
        self.stop = stop
        self.find = find
        self.status = Status(state="starting", supervisor=mark_process())
        self._server: ServerProcess | None = None

    def run(self) -> None:
        """Raises AlreadyRunningError when another process does this for the same data folder."""
        with _exclusive(self.setup.data / "run" / "agentserver.lock"):
            self._remember_crashes()
            remove_endpoint(self.setup.data)
            self._tell("starting")
            end_leftovers(self.setup.folder)
            try:
                with PracticeServer(log=practice_log(self.setup.data)) as practice:
                    while not self.stop.is_set():
                        self._run_once(practice.url)
            finally:
                remove_endpoint(self.setup.data)
                self._tell("stopped", message="The agent server was stopped.", memory_mb=0, next_start_at=0.0)

    def _remember_crashes(self) -> None:
        """A supervisor that was killed and started again goes on counting."""
        before = read_status(self.setup.data)
        if before and before.state != "stopped":
            self.status = replace(
                self.status,
                crashes=before.crashes,
                crash=before.crash,
                output=before.output,
                crashed_at=before.crashed_at,
            )

    def _tell(self, state: SupervisorState, **fields: Any) -> None:
        self.status = replace(self.status, state=state, **{"trouble": "", "message": "", **fields})
        try:
            write_status(self.setup.data, self.status)
        except OSError as error:
            log.warning("The status file cannot be written: %s", error)

    def _run_once(self, practice_url: str) -> None:
        """One server from its start to its end, and the pause after that."""
        binary = self._wait_for_binary()
        if binary is None:
            return
        self._tell("starting", next_start_at=0.0)
        try:
            server = self._start(replace(self.setup, binary=binary.path), practice_url)
            if server is not None:
                self._announce(server)
                self._follow(server)
        except ServerDiedError as death:
            self._tell_death(death)
        finally:
            remove_endpoint(self.setup.data)
            self._end()
        if self.status.state == "waiting":
            self.stop.wait(max(0.0, self.status.next_start_at - time.time()))

    def _wait_for_binary(self) -> Binary | None:
        """The binary, as soon as there is one; None when this is to end."""
        said = ""
        while not self.stop.is_set():
            try:
                return self.find()
            except BinaryMissingError as error:
                if error.message != said:
                    said = error.message
                    log.error("%s", said)
                    self._tell("missing", trouble=error.code, message=said, memory_mb=0, next_start_at=0.0)
            self.stop.wait(BINARY_SECONDS)
        return None

    def _start(self, setup: Setup, practice_url: str) -> ServerProcess | None:
        """A server that answers; None when this is to end. Raises ServerDiedError."""
        for _ in range(PORT_TRIES):
            try:
                server = self._server = ServerProcess(setup, practice_url)
            except OSError as error:
                raise ServerDiedError(f"OpenCode cannot be started: {error.strerror or error}.") from error
            if server.wait_ready(self.stop):
                return server
            if self.stop.is_set():
                return None
            if not server.lost_its_port():
                break
            log.warning("Another program took port %s first: trying another one.", server.port)
            server.stop()
        code = server.exit_code()
        reason = ended_how(code) if code is not None else f"OpenCode did not answer within {READY_SECONDS:.0f} s."
        raise ServerDiedError(reason, server.last_lines())

    def _end(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
            end_leftovers(self.setup.folder)

    def _announce(self, server: ServerProcess) -> None:
        write_endpoint(self.setup.data, server.endpoint)
        recycle_asked(self.setup.data)  # an old question was about an old process
        log.info("The agent server is ready at %s, process %s.", server.endpoint.url, server.endpoint.process.pid)
        boot = server.endpoint.boot
        self._tell("ready", boot=boot, started_at=time.time(), memory_mb=server.memory_mb(), next_start_at=0.0)

    def _follow(self, server: ServerProcess) -> None:
        """Watch a server that answers, until it is to end. Raises ServerDiedError."""
        began = heard = time.monotonic()
        next_look, next_measure, next_health = began, began + MEASURE_SECONDS, began + HEALTH_SECONDS
        while not self.stop.wait(LOOK_SECONDS):
            at = time.monotonic()
            code = server.exit_code()
            if code is not None:
                raise ServerDiedError(ended_how(code), server.last_lines())
            if at >= next_look:
                next_look = at + RECYCLE_SECONDS
                self._end_strays()
                if recycle_asked(self.setup.data) == server.endpoint.boot:
                    log.info("The agent server is replaced by a fresh process: it held %s MB.", self.status.memory_mb)
                    self._tell("recycling")
                    return
            if at >= next_measure:
                next_measure = at + MEASURE_SECONDS
                self._measure(server, good=at - began > GOOD_RUN_SECONDS)
            if at >= next_health:
                heard = at if server.answers() else heard
                next_health = time.monotonic() + HEALTH_SECONDS
                if at - heard > SILENT_SECONDS:
                    raise ServerDiedError(f"OpenCode answered nothing for {SILENT_SECONDS:.0f} s.", server.last_lines())

    def _end_strays(self) -> None:
        """End the commands that somebody asks about who cannot see this container's processes; beside the watching."""
        for directory in strays_asked(self.setup.data):
            arguments = (str(self.setup.folder.root), directory)
            threading.Thread(target=end_strays, args=arguments, name="strays", daemon=True).start()

    def _measure(self, server: ServerProcess, *, good: bool) -> None:
        fields: dict[str, Any] = {"memory_mb": server.memory_mb()}
        if good and self.status.crashes:
            fields |= {"crashes": 0, "crash": "", "output": (), "crashed_at": 0.0}
        if any(getattr(self.status, name) != value for name, value in fields.items()):
            self._tell("ready", **fields)

    def _tell_death(self, death: ServerDiedError) -> None:
        """Say how the server died, and when the next start is."""
        crashes = self.status.crashes + 1
        pause = pause_before(crashes)
        at = time.time()
        log.error("%s Started again in %.0f s; it has now ended %s times in a row.", death.message, pause, crashes)
        self._tell(
            "waiting",
            trouble="crashing" if crashes > 1 else "",
            message=death.message if crashes == 1 else f"{death.message} It has ended {crashes} times in a row.",
            memory_mb=0,
            crashes=crashes,
            crash=death.message,
            output=death.output,
            crashed_at=at,
            next_start_at=at + pause,
        )


def practice_log(data: Path) -> Path:
    """Where the practice model writes one line per request; begun anew when it has grown long."""
    path = data / "log" / "practice.jsonl"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > PRACTICE_LOG_LIMIT:
        path.unlink()
    return path


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file; it is free again as soon as this process ends, however it ends."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError("Another process already runs this data folder's agent server.") from error
        yield
    finally:
        os.close(descriptor)
