"""A whole studio as a person starts it: `manage.py up` in a data folder of its own, driven over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.real.parts import free_port
from tests.repositories import git, make_repository

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 120
STEP_SECONDS = 90
STOP_SECONDS = 90


class Studio:
    """One running studio with its API token. Close it: it leaves no process behind."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="studio-e2e-")).resolve()
        self.data = self.folder / "data"
        self.repositories = self.folder / "repositories"
        self.repositories.mkdir()
        home = self.folder / "home"
        home.mkdir()
        inherited = {name: os.environ[name] for name in ("PATH", "LANG", "OPENCODE_BIN") if name in os.environ}
        self.environment = {
            **inherited,
            "HOME": str(home),
            "STUDIO_HOME": str(self.data),
            "STUDIO_REPOSITORY_ROOTS": str(self.repositories),
            **(environment or {}),
        }
        self.port = free_port()
        self.arguments = arguments
        self.process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}
        self.http = requests.Session()

    def start(self) -> Studio:
        """Start it and wait until it says that it is ready."""
        command = [sys.executable, "manage.py", "up", "--json", "--port", str(self.port), "--data", str(self.data)]
        with (self.folder / "up.err").open("a") as errors:
            self.process = subprocess.Popen(
                [*command, *self.arguments],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the studio did not start:\n{(self.folder / 'up.err').read_text()[-4000:]}")
        self.ready = json.loads(line)
        self.url = self.ready["url"].rstrip("/")
        self.http.headers["Authorization"] = f"Bearer {self.manage('token', 'e2e').strip().splitlines()[-1]}"
        return self

    def manage(self, *arguments: str) -> str:
        """The output of a management command on this studio's data."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.environment, "STUDIO_PORT": str(self.port)},
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self) -> None:
        """Ctrl-C, as a person would."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(STOP_SECONDS)
        if self.process and self.process.stdout:
            self.process.stdout.close()
        self.http.close()

    def close(self) -> None:
        """Stop it, end whatever it left, and remove its folder."""
        family = (
            psutil.Process(self.process.pid).children(recursive=True)
            if self.process and self.process.poll() is None
            else []
        )
        try:
            self.stop()
        finally:
            for left in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()
            shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[psutil.Process]:
        """Every process of this studio."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, *words: str) -> list[psutil.Process]:
        """The studio's processes whose command line has all `words`."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if all(any(word in part for part in process.cmdline()) for word in words):
                    found.append(process)
        return found

    def kill(self, *words: str) -> list[psutil.Process]:
        """kill -9 of the processes whose command line has all `words`; those that were found."""
        victims = self.find(*words)
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):  # a child may go with its parent
                victim.kill()
        return victims

    def call(self, method: str, path: str, body: Any = None, *, status: int | None = None) -> Any:
        """The JSON answer of an API call; asserts `status` (default: any success)."""
        answer = self.http.request(method, f"{self.url}/api/v1{path}", json=body, timeout=30)
        if status is None:
            assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        else:
            assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        """The JSON answer of a GET."""
        return self.call("GET", path)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        """The JSON answer of a POST."""
        return self.call("POST", path, body or {}, **options)

    def repository(self, name: str, *, branch: str = "trunk", files: dict[str, str] | None = None) -> Path:
        """A real repository that may be registered."""
        return make_repository(self.repositories / name, branch=branch, files=files)

    def project(self, path: Path, **fields: Any) -> Any:
        """Register `path`."""
        return self.post("/projects", {"path": str(path), **fields})

    def task(self, project: Any, title: str, description: str = "", *, start: bool = True) -> Any:
        """Create a task."""
        return self.post(
            "/tasks", {"project": project["id"], "title": title, "description": description, "start": start}
        )

    def wait(self, key: str, until: Callable[[Any], bool], *, seconds: float = STEP_SECONDS) -> Any:
        """The task once `until` holds; fails with what it was last."""
        deadline = time.monotonic() + seconds
        task: Any = None
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException, AssertionError):
                task = self.get(f"/tasks/{key}")
                if until(task):
                    return task
            time.sleep(0.05)
        raise AssertionError(f"{key} is still {task}\n{self.log_tail()}")

    def wait_status(self, key: str, status: str, **options: Any) -> Any:
        """The task once it rests in `status`."""
        return self.wait(
            key, lambda task: task["status"] == status and task["run_state"] not in ("queued", "running"), **options
        )

    def checkout(self, key: str) -> Path:
        """Where the task's agents work."""
        return Path(self.get(f"/workspaces/{self.get(f'/tasks/{key}')['workspace']}")["path"])

    def open_gate(self, key: str, name: str = "go") -> None:
        """Let a step end that waits for it (`scripts.gate`)."""
        (self.checkout(key) / name).touch()

    def practice_log(self) -> list[dict[str, Any]]:
        """What the practice model was asked."""
        path = self.data / "log" / "practice.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def log_tail(self) -> str:
        """The end of each process's log, for a failure's message."""
        parts = []
        for path in sorted((self.data / "log").glob("*.log")):
            parts.append(f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-12:]))
        return "\n".join(parts)

    def opencode(self, path: str, *, seconds: float = 30.0) -> Any:
        """The JSON answer of the agent server itself; while it is replaced by a fresh process it is waited for."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                endpoint = json.loads((self.data / "run" / "agentserver.json").read_text())
                who = (endpoint.get("username", "opencode"), endpoint["password"])
                answer = requests.get(f"{endpoint['url']}{path}", auth=who, timeout=20)
                break
            except (FileNotFoundError, requests.ConnectionError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        answer.raise_for_status()
        return answer.json()


def commits(repository: Path, branch: str) -> list[str]:
    """The subjects of a branch's commits, newest first."""
    return git(repository, "log", "--format=%s", branch).splitlines()
