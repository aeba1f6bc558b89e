"""The file through which a managed server tells this host's processes where it is. Written only once the server answers."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "agentserver.json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the managed server listens and with which password; `boot` is new with each start."""

    url: str
    username: str
    password: str
    pid: int
    boot: str


def endpoint_path(data: Path) -> Path:
    """Where the file is."""
    return data / "run" / NAME


def write_endpoint(data: Path, endpoint: Endpoint) -> None:
    """Write the file, readable by its owner only, in one step."""
    path = endpoint_path(data)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        json.dump(asdict(endpoint), handle)
    scratch.replace(path)


def read_endpoint(data: Path) -> Endpoint | None:
    """What the file says; None when there is none, or none that can be read."""
    try:
        value = json.loads(endpoint_path(data).read_text())
        return Endpoint(
            url=str(value["url"]),
            username=str(value["username"]),
            password=str(value["password"]),
            pid=int(value["pid"]),
            boot=str(value["boot"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove_endpoint(data: Path) -> None:
    """Take the file away; harmless when it is gone."""
    endpoint_path(data).unlink(missing_ok=True)
