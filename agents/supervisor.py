"""The managed server's process: started, announced when it answers, watched, and ended without leftovers.

Nothing here restarts the server: when it dies this process ends, and whoever supervises this process starts it again.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import structlog

from agents.endpoint import Endpoint, remove_endpoint, write_endpoint
from agents.environment import MARK
from agents.opencode.client import OpenCodeClient
from agents.opencode.config import (
    PROVIDER_TIMEOUT_MS,
    ServerFolder,
    build_config,
    build_environment,
    copy_login,
    find_user_setup,
    write_shell,
)
from agents.practice.server import PracticeServer
from studio.kernel.errors import StudioError

log = structlog.get_logger(__name__)

USERNAME = "opencode"
READY_SECONDS = 60.0
DISPOSE_SECONDS = 3.0
STOP_SECONDS = 3.0
LOOK_SECONDS = 0.1
PRACTICE_LOG_LIMIT = 5 * 1024 * 1024  # bytes


class AlreadyRunningError(StudioError):
    """Another process runs the server of this data folder."""

    code = "already_running"


@dataclass(frozen=True, slots=True)
class Setup:
    """What a managed server is started with."""

    binary: Path
    data: Path  # the studio's data folder
    environ: Mapping[str, str]
    pass_env: list[str] = field(default_factory=list)
    practice_only: bool = False
    provider_timeout_ms: int = PROVIDER_TIMEOUT_MS

    @property
    def folder(self) -> ServerFolder:
        """The server's part of the data folder."""
        return ServerFolder(self.data / "opencode")


@dataclass(frozen=True, slots=True)
class Hooks:
    """Whom to tell what becomes of the server."""

    starting: Callable[[], None]
    ready: Callable[[], None]  # it answers, and its endpoint file is written
    down: Callable[[str], None]  # with the reason


class ServerProcess:
    """One run of `opencode serve` on a free loopback port, with a password of its own."""

    def __init__(self, setup: Setup, practice_url: str) -> None:
        self.setup = setup
        self._process = self._start(practice_url, _free_port())

    def _start(self, practice_url: str, port: int) -> subprocess.Popen[bytes]:
        setup, folder = self.setup, self.setup.folder
        folder.prepare()
        user = find_user_setup(setup.environ)
        copy_login(user, folder)
        password = secrets.token_urlsafe(32)
        config = build_config(
            user=user,
            shell=write_shell(folder, setup.environ, setup.pass_env),
            practice_url=practice_url,
            practice_only=setup.practice_only,
            provider_timeout_ms=setup.provider_timeout_ms,
        )
        environment = build_environment(
            environ=setup.environ,
            pass_env=setup.pass_env,
            user=user,
            folder=folder,
            config=config,
            username=USERNAME,
            password=password,
        )
        process = subprocess.Popen(
            [str(setup.binary), "serve", "--hostname", "127.0.0.1", "--port", str(port)],
            cwd=folder.working_directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal must not end it before its turns are ended in order
        )
        self.endpoint = Endpoint(
            url=f"http://127.0.0.1:{port}",
            username=USERNAME,
            password=password,
            pid=process.pid,
            boot=secrets.token_hex(8),
        )
        self.client = OpenCodeClient(self.endpoint.url, USERNAME, password)
        return process

    def exit_code(self) -> int | None:
        """The code with which the server has ended; None while it runs."""
        return self._process.poll()

    def wait_ready(self, stop: threading.Event) -> bool:
        """Wait until the server answers; False when it ended, when `stop` was set, or after READY_SECONDS."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self.exit_code() is None and not stop.wait(LOOK_SECONDS):
            with suppress(StudioError):
                self.client.get("/global/health", timeout=2)
                return True
        return False

    def stop(self) -> None:
        """End the server in order: first its turns and their commands, then itself. Idempotent."""
        if self.exit_code() is None:
            with suppress(StudioError):
                self.client.post("/global/dispose", timeout=DISPOSE_SECONDS)
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def supervise(setup: Setup, stop: threading.Event, hooks: Hooks) -> int:
    """Run a server until `stop` is set (0) or it ends by itself (1).

    Raises AlreadyRunningError when another process does this for the same data folder.
    """
    with _exclusive(setup.data / "run" / "agentserver.lock"):
        remove_endpoint(setup.data)
        hooks.starting()
        end_leftovers(setup.folder)
        with PracticeServer(log=practice_log(setup.data)) as practice:
            server = ServerProcess(setup, practice.url)
            try:
                return _run(server, stop, hooks)
            finally:
                remove_endpoint(setup.data)
                server.stop()
                end_leftovers(setup.folder)


def _run(server: ServerProcess, stop: threading.Event, hooks: Hooks) -> int:
    if server.wait_ready(stop):
        write_endpoint(server.setup.data, server.endpoint)
        log.info("agent_server_ready", url=server.endpoint.url, pid=server.endpoint.pid)
        hooks.ready()
        while not stop.wait(LOOK_SECONDS):
            if server.exit_code() is not None:
                break
    remove_endpoint(server.setup.data)
    if stop.is_set():
        hooks.down("The agent server was stopped.")
        return 0
    code = server.exit_code()
    reason = (
        f"The agent server ended (exit code {code})." if code is not None else "The agent server did not get ready."
    )
    log.error("agent_server_down", reason=reason)
    hooks.down(reason)
    return 1


def practice_log(data: Path) -> Path:
    """Where the practice model writes one line per request; begun anew when it has grown long."""
    path = data / "log" / "practice.jsonl"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > PRACTICE_LOG_LIMIT:
        path.unlink()
    return path


def end_leftovers(folder: ServerFolder) -> int:
    """End what a former server of this folder left running, and the commands of its agents; how many processes.

    They are known by the mark in their environment, so nothing else is ever touched.
    """
    found = list(_marked(folder))
    for process in found:
        _send(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(found, timeout=STOP_SECONDS)
    for process in alive:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=STOP_SECONDS)
    if found:
        log.warning("leftovers_ended", count=len(found))
    return len(found)


def _marked(folder: ServerFolder) -> Iterator[psutil.Process]:
    own = psutil.Process()
    spared = {own.pid, *(parent.pid for parent in own.parents())}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid not in spared and process.environ().get(MARK) == str(folder.root):
                yield process


def _send(process: psutil.Process, number: int) -> None:
    with suppress(psutil.Error):
        process.send_signal(number)


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
