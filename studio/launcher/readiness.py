"""Waits until every part of a studio that is starting works, and says so as they come."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from studio.launcher.errors import LauncherError
from studio.launcher.options import Options

READY_SECONDS = 180.0
LOOK_SECONDS = 0.25
ANSWER_SECONDS = 10.0
NAMES = {
    "web": "web server",
    "database": "database",
    "migrations": "migrations",
    "broker": "broker",
    "worker": "worker",
    "beat": "scheduler",
    "bridge": "bridge to the agents",
    "agent_servers": "agent server",
}


def ask(options: Options) -> dict[str, Any] | None:
    """What /readyz says; None while the web server does not answer."""
    connection = http.client.HTTPConnection(options.connect_host, options.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/readyz", headers={"Host": "localhost"})
        answer = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) and "parts" in answer else None


def wait_ready(
    options: Options,
    stop: threading.Event,
    check: Callable[[], None],
    say: Callable[[str], None],
    spared: AbstractSet[str] = frozenset(),
) -> bool:
    """Wait until all parts but the `spared` ones work; False when `stop` was set.

    Each time round `check` may raise, which ends the wait.
    Raises LauncherError after READY_SECONDS with what is missing.
    """
    seen: set[str] = set()
    end = time.monotonic() + READY_SECONDS
    answer: dict[str, Any] | None = None
    while not stop.is_set():
        check()
        answer = ask(options)
        if answer:
            works = {"web", *(name for name, part in answer["parts"].items() if part["ok"])}
            for name in NAMES:
                if name in works - seen:
                    say(f"  {NAMES[name]}: ok")
            seen |= works
            if set(answer["missing"]) <= spared:
                return True
        if time.monotonic() > end:
            raise LauncherError(_missing(answer))
        stop.wait(LOOK_SECONDS)
    return False


def _missing(answer: dict[str, Any] | None) -> str:
    if answer is None:
        return f"The web server did not answer within {READY_SECONDS:.0f} s; its log is web.log."
    lines = [f"  {NAMES.get(name, name)}: {answer['parts'][name]['message']}" for name in answer["missing"]]
    return "\n".join([f"Not everything was ready within {READY_SECONDS:.0f} s:", *lines])
