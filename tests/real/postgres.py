"""A private PostgreSQL cluster for tests: a folder of its own, a free loopback port, gone with the test process."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.real.parts import free_port, missing, mortal, wait_until

START_SECONDS = 60.0
ACCOUNT = "postgres"  # PostgreSQL refuses to run as root; Debian's package brings this account


def find_binaries() -> Path | None:
    """The folder of initdb and postgres, the newest version that is installed; None when there is none."""
    for folder in sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True
    ):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


class PostgresCluster:
    """A running cluster. `new_database` gives the DATABASE_URL of a fresh database."""

    def __init__(self, binaries: Path) -> None:
        self.binaries = binaries
        self.folder = Path(tempfile.mkdtemp(prefix="studio-pg-")).resolve()
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            account = pwd.getpwnam(ACCOUNT)
            self._as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> PostgresCluster:
        """Make the cluster and start it."""
        password = self.folder / "password"
        password.write_text(self.password)
        if self._as:
            os.chown(password, self._as["user"], self._as["group"])
        made = self._run("initdb", "-D", "data", "-U", "studio", "-A", "scram-sha-256", "-E", "UTF8", "--no-locale",
                         f"--pwfile={password}", "--no-sync")  # fmt: skip
        assert made.returncode == 0, made.stdout
        # Nothing here must survive a crash, so nothing waits for the disk.
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off",
                   "synchronous_commit": "off", "full_page_writes": "off", "max_connections": 60}  # fmt: skip
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*mortal("QUIT"), str(self.binaries / "postgres"), "-D", "data", *settings],
                cwd=self.folder,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as,
            )
        wait_until(self._answers, seconds=START_SECONDS, what=f"PostgreSQL; its log is {self.folder / 'log'}")
        return self

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.binaries / program), *arguments],
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
            **self._as,
        )

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="studio", password=self.password, dbname="postgres", autocommit=True
        )

    def new_database(self) -> str:
        """The DATABASE_URL of a new, empty database."""
        name = f"studio_{secrets.token_hex(4)}"
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgres://studio:{self.password}@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        """Stop it and remove its folder."""
        if self._process:
            self._process.send_signal(3)  # SIGQUIT: at once, without tidying up
            self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    """A running cluster, one per test process."""
    binaries = find_binaries()
    if binaries is None:
        missing("PostgreSQL (Debian's package is called postgresql)")
    cluster = PostgresCluster(binaries)
    try:
        yield cluster.start()
    finally:
        cluster.close()
