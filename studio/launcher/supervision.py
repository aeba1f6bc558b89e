"""Supervisord as `up` uses it: its configuration, its start, the orders it takes, its end."""

from __future__ import annotations

import http.client
import shlex
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from studio.env import BASE_DIR
from studio.launcher.errors import LauncherError
from studio.launcher.folder import DataFolder
from studio.launcher.parts import Part

ORDER_SECONDS = 10.0
START_SECONDS = 15.0
END_SECONDS = 10.0
LOG_BYTES = 5 * 1024 * 1024
LOG_BACKUPS = 2
TRIES = 3  # a part that ended this often while the studio starts will not start
TAIL_LINES = 15

ENDED = {"BACKOFF", "EXITED", "FATAL"}
FAILURES = (OSError, xmlrpc.client.Error, http.client.HTTPException)  # how an order can fail
STOPPED = {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ORDER_SECONDS)
        self._path = str(path)

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(ORDER_SECONDS)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        self.sock = sock


class _SocketTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _SocketConnection(self._path)
        self._connection = host, connection  # where the base class closes it
        return connection


class Supervision:
    """One supervisord with the parts of one studio; nothing is started before `start`."""

    def __init__(self, folder: DataFolder, parts: list[Part]) -> None:
        self.folder = folder
        self.parts = parts
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: Counter[str] = Counter()
        self._last_start: dict[str, int] = {}

    def _order(self, method: str, *arguments: object) -> Any:
        """Give supervisord an order; its answer. Raises one of FAILURES."""
        with xmlrpc.client.ServerProxy("http://localhost", _SocketTransport(self.folder.supervisor_socket)) as server:
            return getattr(server.supervisor, method)(*arguments)

    def open(self, environment: Mapping[str, str]) -> None:
        """Start supervisord itself, with no part running. Raises LauncherError when it does not get ready."""
        config = self.folder.run / "supervisord.conf"
        config.write_text(render_config(self.folder, self.parts))
        output = self.folder.log / "supervisord.err"
        with output.open("wb") as errors:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "supervisor.supervisord",
                    "--nodaemon",
                    "--silent",
                    "-c",
                    "run/supervisord.conf",
                ],
                cwd=self.folder.root,
                env={**environment, **paths_for_config()},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # a Ctrl-C in the terminal is for `up`, which stops the parts in order
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.alive():
            with suppress(*FAILURES):
                self._order("getState")
                return
            time.sleep(0.02)
        raise LauncherError(f"The supervisor did not start:\n{tail(output)}")

    def alive(self) -> bool:
        """Whether supervisord runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, names: Iterable[str]) -> None:
        """Start parts without waiting for them."""
        for name in names:
            self._order("startProcess", name, False)

    def states(self) -> dict[str, dict[str, Any]]:
        """What supervisord knows of each part. Raises LauncherError when it does not answer."""
        try:
            return {entry["name"]: entry for entry in self._order("getAllProcessInfo")}
        except FAILURES as error:
            raise LauncherError("The supervisor does not answer any more.") from error

    def pids(self) -> dict[str, int]:
        """The processes of the parts that run."""
        return {name: entry["pid"] for name, entry in self.states().items() if entry["pid"]}

    def check_starting(self) -> None:
        """Raise LauncherError, with the end of its log, for a part that has ended TRIES times since the start."""
        for name, entry in self.states().items():
            if entry["statename"] in ENDED and entry["start"] != self._last_start.get(name):
                self._last_start[name] = entry["start"]
                self._ended[name] += 1
            if self._ended[name] >= TRIES or entry["statename"] == "FATAL":
                raise LauncherError(f"The part {name} does not start:\n{tail(self.folder.log / f'{name}.log')}")

    def stop(self) -> None:
        """Stop the parts, the last stage first, then supervisord. Idempotent; does not raise."""
        if self._process is None:
            return
        for stage in sorted({part.stage for part in self.parts}, reverse=True):
            with suppress(LauncherError, *FAILURES):
                self._stop_stage([part for part in self.parts if part.stage == stage])
        if self.alive():
            self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _stop_stage(self, parts: list[Part]) -> None:
        states = self.states()
        for part in parts:
            if states[part.name]["statename"] not in STOPPED:
                with suppress(xmlrpc.client.Fault):  # it ended by itself meanwhile
                    self._order("stopProcess", part.name, False)
        end = time.monotonic() + max(part.stop_seconds for part in parts) + 2
        while time.monotonic() < end:
            states = self.states()
            if all(states[part.name]["statename"] in STOPPED for part in parts):
                return
            time.sleep(0.05)


def paths_for_config() -> dict[str, str]:
    """The variables through which the configuration names paths: in the file itself a # or ; would begin a comment."""
    return {"STUDIO_PYTHON": shlex.quote(sys.executable), "STUDIO_CHECKOUT": str(BASE_DIR)}


def render_config(folder: DataFolder, parts: list[Part]) -> str:
    """The configuration file of supervisord, whose working directory is the data folder."""
    own = folder.supervisor_socket.is_relative_to(folder.root)
    socket_path = folder.supervisor_socket.relative_to(folder.root) if own else folder.supervisor_socket
    sections = [
        _section("unix_http_server", {"file": socket_path, "chmod": "0700"}),
        _section(
            "supervisord",
            {
                "logfile": "log/supervisord.log",
                "logfile_maxbytes": LOG_BYTES,
                "logfile_backups": LOG_BACKUPS,
                "pidfile": "run/supervisord.pid",
                "nocleanup": "true",
            },
        ),
        _section(
            "rpcinterface:supervisor",
            {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
    ]
    for part in parts:
        values = {
            "command": f"%(ENV_STUDIO_PYTHON)s -m studio.launcher.child {part.name}",
            "directory": "%(ENV_STUDIO_CHECKOUT)s",
            "autostart": "false",
            "autorestart": "true",
            "startsecs": 1,
            # A part that fails is tried again for ever, with growing pauses: what it waits for may come back.
            "startretries": 1_000_000,
            "stopsignal": part.stop_signal,
            "stopwaitsecs": part.stop_seconds,
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": f"log/{part.name}.log",
            "stdout_logfile_maxbytes": LOG_BYTES,
            "stdout_logfile_backups": LOG_BACKUPS,
        }
        sections.append(_section(f"program:{part.name}", values))
    return "\n".join(sections)


def _section(name: str, values: Mapping[str, object]) -> str:
    return "\n".join([f"[{name}]", *(f"{key}={value}" for key, value in values.items()), ""])


def tail(path: Path) -> str:
    """The last lines of a log, for a person who must find out why something did not start."""
    try:
        return last_lines(path.read_text(errors="replace")) or f"  (nothing in {path})"
    except OSError as error:
        return f"  ({path}: {error.strerror})"


def last_lines(text: str) -> str:
    """The last lines of `text`, indented."""
    return "\n".join(f"  {line}" for line in text.splitlines()[-TAIL_LINES:])
