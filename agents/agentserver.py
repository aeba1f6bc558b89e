"""The process `manage.py agentserver`: the managed server's supervisor, without Django.

It reads the few settings that it needs from the environment itself; studio/settings.py has the same defaults.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime

from agents.discovery import find_binary
from agents.opencode.config import PROVIDER_TIMEOUT_MS
from agents.supervisor import AlreadyRunningError, Setup, Supervisor
from studio.env import data_folder
from studio.kernel.redact import redact

TRUE = {"1", "true", "yes", "on", "y", "t", "ok"}


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    begin_logging(os.environ)
    try:
        Supervisor(read_setup(os.environ), stop, lambda: find_binary(os.environ.get("OPENCODE_BIN", ""))).run()
    except AlreadyRunningError as error:
        logging.getLogger(__name__).error("%s", error.message)
        return 1
    return 0


def read_setup(environ: Mapping[str, str]) -> Setup:
    """What the environment asks for. A time-out that is no number counts as none given."""
    data = data_folder()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    seconds = environ.get("OPENCODE_PROVIDER_TIMEOUT", "")
    milliseconds = int(seconds) * 1000 if seconds.isascii() and seconds.isdigit() else 0
    return Setup(
        data=data,
        environ=environ,
        pass_env=[name.strip() for name in environ.get("OPENCODE_PASS_ENV", "").split(",") if name.strip()],
        practice_only=environ.get("OPENCODE_PRACTICE", "").lower() in TRUE,
        provider_timeout_ms=milliseconds or PROVIDER_TIMEOUT_MS,
        real_timeout_ms=milliseconds,
    )


def begin_logging(environ: Mapping[str, str]) -> None:
    """Lines to stderr in the form of the other processes' logs, without what looks like a secret."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(as_json=environ.get("STUDIO_LOG_JSON", "").lower() in TRUE))
    logging.basicConfig(handlers=[handler], level=environ.get("STUDIO_LOG_LEVEL") or "INFO")


class LineFormatter(logging.Formatter):
    """One line a record."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        text = record.getMessage() + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")
        at = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        if self.as_json:
            fields = {"event": redact(text), "level": record.levelname.lower(), "logger": record.name, "timestamp": at}
            return json.dumps(fields)
        return f"{at} [{record.levelname.lower():<8}] {redact(text)} [{record.name}]"


if __name__ == "__main__":
    sys.exit(main())
