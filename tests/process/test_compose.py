"""docker-compose.yml without an engine: each service's own command as a plain process, on a real Postgres and Valkey."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from agents.discovery import BinaryMissingError, find_binary
from tests.real.parts import free_port, missing, wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0
BROKER = {"postgres", "valkey"}
SERVICES = {"migrate", "web", "worker", "beat", "bridge", "agentserver"}


class Deployment:
    """The services of the file on this host: names of services become loopback addresses, paths become folders."""

    def __init__(self, folder: Path, database: str, broker: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.file = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
        (folder / "repositories").mkdir()
        (folder / "home").mkdir()
        self.ours = {
            "DATABASE_URL": database,
            "REDIS_URL": broker,
            "STUDIO_HOME": str(folder / "data"),
            "STUDIO_REPOSITORY_ROOTS": str(folder / "repositories"),
            "STUDIO_INTERNAL_URL": f"http://127.0.0.1:{self.port}",
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, service: str) -> dict[str, str]:
        """The service's variables as compose would set them; where hosts and paths differ here, ours."""
        given = {name: interpolate(str(value)) for name, value in self.file["services"][service]["environment"].items()}
        ours = self.ours
        if service == "agentserver":  # which sees nothing of the others
            assert given.keys().isdisjoint({"DATABASE_URL", "REDIS_URL", "SECRET_KEY"})
            ours = {"STUDIO_HOME": self.ours["STUDIO_HOME"]}
        assert ours.keys() <= given.keys() | {"STUDIO_HOME"}
        inherited = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
        }
        if "OPENCODE_BIN" in os.environ:
            inherited["OPENCODE_BIN"] = os.environ["OPENCODE_BIN"]
        return {**inherited, **given, **ours}

    def command(self, service: str) -> list[str]:
        """The service's command with this interpreter, address and port."""
        here = {"python": sys.executable, "0.0.0.0": "127.0.0.1", "8000": str(self.port)}
        return [here.get(word, word) for word in self.file["services"][service]["command"]]

    def start(self, service: str) -> subprocess.Popen[bytes]:
        """Start a service."""
        with (self.folder / f"{service}.log").open("wb") as log:
            self.running[service] = subprocess.Popen(
                self.command(service), cwd=ROOT, env=self.environment(service), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        return self.running[service]

    def readiness(self) -> dict[str, Any]:
        """What /readyz says."""
        for name, process in self.running.items():
            assert process.poll() in (None, 0), f"{name} ended:\n{self.log(name)}"
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/readyz", timeout=10).json()
        except requests.RequestException:
            return {"ready": False, "missing": ["web"]}

    def log(self, service: str) -> str:
        """The end of a service's log."""
        return (self.folder / f"{service}.log").read_text(errors="replace")[-3000:]

    def stop(self, service: str) -> int:
        """End a service as compose does, with its own signal; the exit code."""
        name = self.file["services"][service].get("stop_signal", "SIGTERM")
        process = self.running[service]
        process.send_signal(signal.Signals[name])
        return process.wait(60)

    def close(self) -> None:
        """End whatever still runs."""
        for process in self.running.values():
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
                process.wait()


def interpolate(text: str) -> str:
    """`${NAME:-default}` as its default, `${NAME:?message}` as a password."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{\w+:\?[^}]*\}", "secret", text)


@pytest.fixture
def deployment(tmp_path, postgres, valkey):
    try:
        find_binary()
    except BinaryMissingError:
        missing("OpenCode (npm ci)")
    deployed = Deployment(tmp_path, postgres.new_database(), valkey.url)
    try:
        yield deployed
    finally:
        deployed.close()


def test_compose__every_service_becomes_ready_on_postgres_and_valkey(deployment):
    assert deployment.start("migrate").wait(PATIENCE) == 0, deployment.log("migrate")
    assert "/login/link/" in deployment.log("migrate")
    for service in ("agentserver", "bridge", "worker", "beat", "web"):
        deployment.start(service)
    wait_until(lambda: deployment.readiness()["ready"], seconds=PATIENCE, what="readiness")
    readiness = deployment.readiness()
    assert set(readiness["parts"]) == {"database", "migrations", "broker", "worker", "beat", "bridge", "agent_servers"}
    codes = {service: deployment.stop(service) for service in ("web", "beat", "bridge", "worker", "agentserver")}
    assert set(codes.values()) == {0}, codes


def test_compose__names_the_services_and_keeps_their_data():
    file = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = file["services"]
    assert set(services) == SERVICES | BROKER | {"runner"}
    for name in SERVICES:
        assert "data:/data" in services[name]["volumes"], name
        assert services[name]["environment"]["STUDIO_HOME"] == "/data"
    for name in SERVICES - {"migrate"}:
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    # These meet OpenCode on loopback.
    assert {name for name in services if services[name].get("network_mode") == "service:runner"} == {
        "worker", "bridge", "agentserver",
    }  # fmt: skip
    assert services["web"]["ports"] == ["${STUDIO_PORT:-127.0.0.1:8000}:8000"]


def test_compose__has_no_secret_of_its_own():
    text = (ROOT / "docker-compose.yml").read_text()
    for line in text.splitlines():
        if re.search(r"PASSWORD|_KEY", line) and not line.lstrip().startswith("#"):
            assert re.search(r"\$\{\w+:[?-]|\$\$", line), line
