"""What a running `up` says of itself, for a second `up`, for `down` and for commands that need the address."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from studio.kernel.owners import SAME_START_SECONDS
from studio.launcher.options import Options


@dataclass(frozen=True, slots=True)
class Record:
    """A running studio. `created` is when its process began: a pid alone may belong to somebody else by now."""

    pid: int
    created: float
    url: str
    host: str
    port: int
    agent: bool = True
    ready: bool = False

    def process(self) -> psutil.Process | None:
        """The process, if it still is the one that wrote this."""
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) < SAME_START_SECONDS:
                return process
        return None


def own_record(url: str, options: Options) -> Record:
    """A record of this process, which is not ready yet."""
    created = psutil.Process().create_time()
    return Record(os.getpid(), created, url, options.host, options.port, agent=options.agent)


def write_record(path: Path, record: Record) -> None:
    """Write the record in one step."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(asdict(record)))
    scratch.replace(path)


def read_record(path: Path) -> Record | None:
    """The record; None when there is none that can be read."""
    try:
        return Record(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
