"""`manage.py up` as a person starts it, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from studio.launcher import leftovers
from studio.launcher.folder import DataFolder
from tests.real.parts import free_port

ROOT = Path(__file__).parents[2]


class Up:
    """One data folder, and the commands run on it with an environment of their own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.data = DataFolder((folder / "data with space").resolve())
        (folder / "home").mkdir(exist_ok=True)
        self.log = folder / "up.err"
        self.port = free_port()
        self.arguments = arguments
        names = ("PATH", "LANG", "OPENCODE_BIN")
        self.environment = {name: os.environ[name] for name in names if name in os.environ}
        self.environment |= {"HOME": str(folder / "home"), "OPENCODE_DISABLE_MODELS_FETCH": "1"}
        self.started: list[subprocess.Popen[str]] = []

    def begin(self) -> subprocess.Popen[str]:
        """Start `up`; does not wait."""
        command = [sys.executable, "manage.py", "up", "--json", "--data", str(self.data.root), "--port", str(self.port)]
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [*command, *self.arguments], cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def ready(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """The line that `up` prints once it is ready."""
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"it did not start:\n{self.log.read_text()[-4000:]}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def start(self) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        """Start `up` and wait until it is ready."""
        process = self.begin()
        return process, self.ready(process)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command on the same data folder."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments, "--data", str(self.data.root)], cwd=ROOT, env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        """Everything that belongs to the studio of this folder, `up` itself excepted."""
        return leftovers.find(self.data.root)

    def interrupt(self, process: subprocess.Popen[str]) -> int:
        """Ctrl-C; the exit code."""
        process.send_signal(signal.SIGINT)
        return process.wait(60)

    def assert_clean(self) -> None:
        """No process, no socket, no lock, no pid file: only data, secrets and logs."""
        assert self.processes() == []
        left = {path.name for path in self.data.root.iterdir()}
        expected = {
            "log",
            "secrets",
            "static",
            "studio.sqlite3",
            "opencode",
            "sample",
            "workspaces",
            "kept",
            "commands",
        }
        assert left <= expected, left - expected
        assert not any(path.is_socket() for path in self.data.root.rglob("*"))
        assert not self.data.sockets.exists()

    def close(self) -> None:
        """End whatever still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        leftovers.end(self.data.root)
        self.data.clear()
