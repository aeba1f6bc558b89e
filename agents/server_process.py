"""One run of `opencode serve`: started on a free port with a password of its own, asked, measured, ended. Without Django."""

from __future__ import annotations

import base64
import http.client
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from agents.endpoint import Endpoint
from agents.identity import mark_process
from agents.opencode.config import (
    PROVIDER_TIMEOUT_MS,
    ServerFolder,
    build_config,
    build_environment,
    copy_login,
    find_user_setup,
    timed_providers,
    write_shell,
)
from studio.kernel.redact import redact
from studio.kernel.text import clean, cut

USERNAME = "opencode"
READY_SECONDS = 60.0
ANSWER_SECONDS = 2.0
DISPOSE_SECONDS = 3.0
STOP_SECONDS = 3.0
LOOK_SECONDS = 0.1
OUTPUT_LINES = 20
LINE_LIMIT = 300  # characters of a line of output that is kept
PIECE = 8 * 1024  # bytes; a longer line is passed on in pieces


@dataclass(frozen=True, slots=True)
class Setup:
    """What a managed server is started with."""

    data: Path  # the studio's data folder
    environ: Mapping[str, str]
    binary: Path = Path("opencode")
    pass_env: list[str] = field(default_factory=list)
    practice_only: bool = False
    provider_timeout_ms: int = PROVIDER_TIMEOUT_MS  # of the practice model
    real_timeout_ms: int = 0  # of the user's own providers; 0: OpenCode's

    @property
    def folder(self) -> ServerFolder:
        """The server's part of the data folder."""
        return ServerFolder(self.data / "opencode")


class ServerProcess:
    """One run of the server. Its output is passed on to stderr; the last lines are kept, without what looks like a secret."""

    def __init__(self, setup: Setup, practice_url: str) -> None:
        self.setup = setup
        self.port = free_port()
        self._lines: deque[str] = deque(maxlen=OUTPUT_LINES)
        password = secrets.token_urlsafe(32)
        self._secret = password
        self._process = self._start(practice_url, password)
        self._reader = threading.Thread(target=self._pass_on, name="server-output", daemon=True)
        self._reader.start()
        self.endpoint = Endpoint(
            url=f"http://127.0.0.1:{self.port}",
            username=USERNAME,
            password=password,
            boot=secrets.token_hex(8),
            process=mark_process(self._process.pid),
        )

    def _start(self, practice_url: str, password: str) -> subprocess.Popen[bytes]:
        setup, folder = self.setup, self.setup.folder
        folder.prepare()
        user = find_user_setup(setup.environ)
        copy_login(user, folder)
        config = build_config(
            user=user,
            shell=write_shell(folder, setup.environ, setup.pass_env),
            practice_url=practice_url,
            practice_only=setup.practice_only,
            provider_timeout_ms=setup.provider_timeout_ms,
            providers=timed_providers(user, setup.environ, setup.real_timeout_ms),
        )
        environment = build_environment(
            environ=setup.environ,
            pass_env=setup.pass_env,
            user=user,
            folder=folder,
            config=config,
            username=USERNAME,
            password=password,  # in the environment, because an argument is shown to every account of the host
        )
        return subprocess.Popen(
            [str(setup.binary), "serve", "--hostname", "127.0.0.1", "--port", str(self.port)],
            cwd=folder.working_directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal must not end it before its turns are ended in order
        )

    def _pass_on(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        with suppress(OSError, ValueError):
            for raw in iter(lambda: stream.readline(PIECE), b""):
                line = redact(clean(raw.decode("utf-8", "replace").replace(self._secret, "[redacted]"))).rstrip()
                if line:
                    self._lines.append(cut(line, LINE_LIMIT))
                    print(line, file=sys.stderr, flush=True)  # noqa: T201 -- it is the server's own log

    def exit_code(self) -> int | None:
        """The code with which the server has ended; None while it runs."""
        return self._process.poll()

    def last_lines(self) -> tuple[str, ...]:
        """What the server said last, redacted; complete once it has ended."""
        if self.exit_code() is not None:
            self._reader.join(1)  # not longer: a command of an agent may hold the pipe open
        return tuple(self._lines)

    def answers(self) -> bool:
        """Whether the server says that it is healthy, within ANSWER_SECONDS."""
        with suppress(OSError, http.client.HTTPException):
            return self._ask("GET", "/global/health", ANSWER_SECONDS) == 200
        return False

    def wait_ready(self, stop: threading.Event) -> bool:
        """Wait until the server answers; False when it ended, when `stop` was set, or after READY_SECONDS."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self.exit_code() is None and not stop.wait(LOOK_SECONDS):
            if self.answers():
                return True
        return False

    def lost_its_port(self) -> bool:
        """Whether the server has ended because another program took the port before it could."""
        if self.exit_code() is None:
            return False
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                return True
        return False

    def memory_mb(self) -> int:
        """The resident memory of the server and of all that it has started, in MB; 0 when it has ended."""
        total = 0
        with suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for one in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    total += one.memory_info().rss
        return total // 1_000_000

    def stop(self) -> None:
        """End the server in order: first its turns and their commands, then itself. Idempotent."""
        if self.exit_code() is None:
            with suppress(OSError, http.client.HTTPException):
                self._ask("POST", "/global/dispose", DISPOSE_SECONDS)
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(1)
        if self._process.stdout and not self._reader.is_alive():
            self._process.stdout.close()

    def _ask(self, method: str, path: str, seconds: float) -> int:
        token = base64.b64encode(f"{USERNAME}:{self._secret}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, headers={"Authorization": f"Basic {token}"})
            return connection.getresponse().status
        finally:
            connection.close()


def ended_how(code: int) -> str:
    """A sentence for an exit code as `subprocess` gives it."""
    if code >= 0:
        return f"OpenCode ended by itself with exit code {code}."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    advice = " A lack of memory does that." if name == "SIGKILL" else ""
    return f"OpenCode was ended from outside ({name}).{advice}"


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
