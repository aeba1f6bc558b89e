"""What the real parts share: a missing one is a failure in CI and named at the end of any other run."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """End the test because this machine lacks `what`: a failure with CI=true, else a skip that the summary names."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"CI must bring {what}", pytrace=False)
    pytest.skip(f"this machine has no {what}")


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
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
