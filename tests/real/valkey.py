"""A real Valkey for tests, on a free loopback port with a password; it can be killed and started again."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from studio.launcher.valkey import find_server
from tests.real.parts import free_port, mortal, wait_until

START_SECONDS = 20.0


class ValkeyServer:
    """The embedded server's binary with nothing kept on disk."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="studio-valkey-"))
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self.url = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> ValkeyServer:
        """Start it, at the same address each time."""
        lines = ["bind 127.0.0.1", f"port {self.port}", f"requirepass {self.password}", 'save ""', "appendonly no"]
        config = self.folder / "valkey.conf"
        config.write_text("\n".join([*lines, ""]))
        self._process = subprocess.Popen(
            [*mortal(), str(find_server()), str(config)],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self._answers, seconds=START_SECONDS, what="Valkey")
        return self

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def kill(self) -> None:
        """End it at once; what it held is lost."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A running Valkey, one per test process. Whoever kills it starts it again."""
    server = ValkeyServer()
    try:
        yield server.start()
    finally:
        server.close()
