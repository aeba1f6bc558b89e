"""What the real parts share: a missing one is a failure in CI and named at the end of any other run."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """End the test because this machine lacks `what`: a failure with CI=true, else a skip that the summary names."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"CI must bring {what}", pytrace=False)
    pytest.skip(f"this machine has no {what}")


# Below the ports that systems give to connections by themselves: what is started again finds its port as it left it. Nor any
# that the studio gives to checkouts, or that browsers refuse.
FIRST_PORT, LAST_PORT = 11_000, 19_999


def free_port() -> int:
    """A loopback port that was free a moment ago. By real chance: each worker's `random` begins with the same seed."""
    while True:
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT + 1)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def mortal(signal_name: str = "KILL") -> list[str]:
    """What to put before a command so that it ends with this test process, however that ends; nothing outside Linux."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", signal_name] if setpriv else []


def wait_until(check: Callable[[], object], *, seconds: float, what: str) -> None:
    """Wait until `check` is true; fails with `what` after `seconds`, which is patience and not a measure."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise AssertionError(f"still waiting for {what}")
        time.sleep(0.05)
