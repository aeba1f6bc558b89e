"""The files through which the managed server's supervisor and this host's other processes hear of each other.

`agentserver.json` says where the server is; it is written only once the server answers. `agentserver.status.json` says how
it is. `agentserver.recycle` asks for a fresh process, a file in `strays` for the end of an aborted agent's commands. Each is
written in one step, for its owner only. Without Django.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from agents.identity import ProcessMark

NAME = "agentserver.json"
STATUS_NAME = "agentserver.status.json"
RECYCLE_NAME = "agentserver.recycle"
STRAYS_NAME = "strays"

SupervisorState = Literal["missing", "starting", "ready", "recycling", "waiting", "stopped"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the managed server listens and with which password; `boot` is new with each start."""

    url: str
    username: str
    password: str
    boot: str
    process: ProcessMark

    @property
    def pid(self) -> int:
        """The server's process."""
        return self.process.pid


@dataclass(frozen=True, slots=True)
class Status:
    """How the managed server is, as its supervisor sees it. Moments are seconds since 1970, 0 when there is none.

    missing: no binary to run. waiting: it has ended, and is started again at `next_start_at`. stopped: on purpose.
    """

    state: SupervisorState
    supervisor: ProcessMark
    trouble: str = ""  # a value of agents.models.ServerTrouble
    message: str = ""  # why it is not ready
    boot: str = ""
    started_at: float = 0.0
    memory_mb: int = 0
    crashes: int = 0  # in a row
    crash: str = ""  # how it ended last
    output: tuple[str, ...] = ()  # what it said last before that
    crashed_at: float = 0.0
    next_start_at: float = 0.0

    def gone(self) -> bool:
        """Whether nobody keeps this up to date any more: the supervisor was killed or has stopped."""
        return self.state == "stopped" or self.supervisor.ended()


def endpoint_path(data: Path) -> Path:
    """Where the endpoint file is."""
    return data / "run" / NAME


def write_endpoint(data: Path, endpoint: Endpoint) -> None:
    """Write the endpoint file."""
    write_private(endpoint_path(data), json.dumps(asdict(endpoint)))


def read_endpoint(data: Path) -> Endpoint | None:
    """Where the server is; None when there is no such file, none that can be read, or its server has ended."""
    value = _read(endpoint_path(data))
    try:
        names = ("url", "username", "password", "boot")
        endpoint = Endpoint(**{name: str(value[name]) for name in names}, process=_mark(value["process"]))
    except (KeyError, TypeError, ValueError):
        return None
    return None if endpoint.process.ended() else endpoint


def remove_endpoint(data: Path) -> None:
    """Take the file away; harmless when it is gone."""
    endpoint_path(data).unlink(missing_ok=True)


def write_status(data: Path, status: Status) -> None:
    """Write the status file."""
    write_private(data / "run" / STATUS_NAME, json.dumps(asdict(status)))


def read_status(data: Path) -> Status | None:
    """How the server is; None when this host's supervisor has never said so. It may be out of date: see `gone`."""
    value = _read(data / "run" / STATUS_NAME)
    try:
        status = Status(**{**value, "supervisor": _mark(value["supervisor"])})
        return replace(status, output=tuple(str(line) for line in status.output))
    except (KeyError, TypeError, ValueError):
        return None


def ask_recycle(data: Path, boot: str) -> None:
    """Ask the supervisor for a fresh process in place of the one called `boot`. Asking again is harmless."""
    write_private(data / "run" / RECYCLE_NAME, boot)


def recycle_asked(data: Path) -> str:
    """The boot whose process is to be replaced; empty when nobody asks. The question is taken away."""
    path = data / "run" / RECYCLE_NAME
    try:
        boot = path.read_text()
        path.unlink()
    except OSError:
        return ""
    return boot


def ask_end_strays(data: Path, directory: str) -> None:
    """Ask the supervisor to end what aborted agents left running in `directory`. Asking again is harmless."""
    write_private(data / "run" / STRAYS_NAME / sha256(directory.encode()).hexdigest(), directory)


def strays_asked(data: Path) -> list[str]:
    """The directories in which commands are to be ended; the questions are taken away."""
    directories = []
    for path in sorted((data / "run" / STRAYS_NAME).glob("[0-9a-f]*")):
        try:
            directories.append(path.read_text())
            path.unlink()
        except (OSError, ValueError):
            continue
    return directories


def write_private(path: Path, text: str) -> None:
    """Write a file in one step, readable by its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(text)
    scratch.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _mark(value: Any) -> ProcessMark:
    return ProcessMark(int(value["pid"]), float(value["created"]), str(value["space"]))
