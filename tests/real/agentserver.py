"""A real OpenCode server with the practice model behind it, for tests. One per test process, shared by its tests.

The server is started by the code that runs it in production, with the same configuration and environment. Tests tell their
own work apart by directory: give each test a repository of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.discovery import BinaryMissingError, find_binary
from agents.models import AgentServer, ServerState
from agents.opencode.backend import OpenCodeBackend
from agents.opencode.client import OpenCodeClient
from agents.practice.server import PracticeServer
from agents.supervisor import ServerProcess, Setup, end_leftovers
from studio.kernel.clock import now
from studio.kernel.ids import derived_id, new_id
from studio.kernel.secretbox import seal

# Long enough for a slow script, short enough for a test of a provider that hangs.
PROVIDER_TIMEOUT_MS = 6_000
WAIT_SECONDS = 60.0


class RealAgentServer:
    """A running server; `kill` and `restart` work on the same sessions."""

    def __init__(self) -> None:
        binary = find_binary().path
        self.data = Path(tempfile.mkdtemp(prefix="studio-agentserver-")).resolve()
        self.practice_log = self.data / "practice.jsonl"
        self.practice = PracticeServer(log=self.practice_log)
        home = self.data / "home"
        home.mkdir()
        self.setup = Setup(
            binary=binary,
            data=self.data,
            environ={
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
                "HOME": str(home),
                "LANG": os.environ.get("LANG", "C.UTF-8"),
                "OPENCODE_DISABLE_MODELS_FETCH": "1",
            },
            provider_timeout_ms=PROVIDER_TIMEOUT_MS,
        )
        self.process: ServerProcess | None = None

    def open(self) -> RealAgentServer:
        """Start the practice model and the server."""
        self.practice.__enter__()
        self.start()
        return self

    def close(self) -> None:
        """End both, and whatever an agent's command left running."""
        try:
            if self.process:
                self.process.stop()
            end_leftovers(self.setup.folder)
        finally:
            self.practice.__exit__()
            shutil.rmtree(self.data, ignore_errors=True)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.process = ServerProcess(self.setup, self.practice.url)
        if not self.process.wait_ready(threading.Event()):
            raise AssertionError(f"the agent server did not get ready (exit code {self.process.exit_code()})")

    def kill(self) -> None:
        """kill -9, as an out-of-memory killer would."""
        assert self.process is not None
        os.kill(self.process.endpoint.pid, 9)
        while self.process.exit_code() is None:
            time.sleep(0.01)

    def restart(self) -> None:
        """Start it again on the same data, at another port with another password."""
        if self.process:
            if self.process.exit_code() is not None:
                end_leftovers(self.setup.folder)  # commands of its agents, as whoever supervises it does
            self.process.stop()
        self.start()

    @property
    def url(self) -> str:
        """The server's address at present."""
        assert self.process is not None
        return self.process.endpoint.url

    @property
    def username(self) -> str:
        """The user name of its basic authentication."""
        assert self.process is not None
        return self.process.endpoint.username

    @property
    def password(self) -> str:
        """The password at present."""
        assert self.process is not None
        return self.process.endpoint.password

    @property
    def boot(self) -> str:
        """Changes with each start."""
        assert self.process is not None
        return self.process.endpoint.boot

    def backend(self, tools_url: str = "") -> OpenCodeBackend:
        """A backend of its own for the server as it is now."""
        client = OpenCodeClient(self.url, self.username, self.password)
        return OpenCodeBackend(client, boot=self.boot, tools_url=tools_url)

    def row(self, **fields: Any) -> AgentServer:
        """A row for the server as it is now (needs the database); again after a restart, it is brought up to date."""
        values = {
            "managed": False,
            "url": self.url,
            "username": self.username,
            "sealed_password": seal(self.password),
            "boot": self.boot,
            "state": ServerState.READY,
            "practice": True,
            "default_model": "practice/practice",
            **fields,
        }
        server, _ = AgentServer.objects.update_or_create(name="real", defaults=values)
        return server

    def practice_lines(self, directory: Path | str) -> list[dict[str, Any]]:
        """What the practice model was asked for work in `directory`, oldest first."""
        if not self.practice_log.exists():
            return []
        lines = [json.loads(line) for line in self.practice_log.read_text().splitlines()]
        return [line for line in lines if line["cwd"] == str(directory)]


def prompt_text(
    script: dict[str, Any] | str = "",
    *,
    phase: str = "implementation",
    title: str = "A task",
    round: int = 1,
    key: str = "DEMO-1",
) -> str:
    """A prompt as the studio writes it, with a practice script in its description."""
    block = f"```practice\n{json.dumps(script)}\n```" if isinstance(script, dict) else script
    header = f"Phase: {phase}\nRound: {round}\nTask: {key}\nTitle: {title}"
    return f"{header}\n\n<task-description>\n{block}\n</task-description>\n"


def fresh_ids() -> tuple[str, str]:
    """A message id and a part id as a turn derives them."""
    source, at = new_id(), now()
    return derived_id("msg", source, at), derived_id("prt", source, at, 1)


def wait_for(check: Callable[[], Any], *, seconds: float = WAIT_SECONDS, what: str = "") -> Any:
    """The first true answer of `check`; fails after `seconds`, far beyond what it takes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = check()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain {what}")


@pytest.fixture(scope="session")
def opencode_server() -> Iterator[RealAgentServer]:
    """The shared server of this test process. Without the binary a test is skipped, in CI it fails."""
    try:
        server = RealAgentServer()
    except BinaryMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)
    try:
        yield server.open()
    finally:
        server.close()
