"""Named moments of the code at which a test can make this process fail, to prove that nothing depends on its luck.

Off unless the environment variable STUDIO_FAULTPOINTS names a folder when the process starts: otherwise `reach` is a
function that does nothing. The harness arms a point by putting a file into the folder (see `arm`); whichever process reaches the
point the given number of times consumes the file, notes that it did, and fails. So each armed point acts exactly once, in
exactly one process.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "STUDIO_FAULTPOINTS"
ACTIONS = ("kill", "stop", "raise", "sleep")


class FaultError(Exception):
    """What an armed point raises."""


def _off(_name: str) -> None:
    """Nothing: the points are off."""


def armed_in(folder: Path) -> Callable[[str], None]:
    """A `reach` that obeys the files of `folder`."""

    def reach(name: str) -> None:
        armed = folder / f"{name}.armed"
        if not armed.exists():
            return
        order = _take(folder, armed)
        if order is not None:
            _act(name, order)

    return reach


def arm(folder: Path, name: str, action: str, *, reaches: int = 1, seconds: float = 0.0) -> None:
    """Let the process fail that reaches the point `name` for the `reaches`-th time from now on.

    action: kill (SIGKILL), stop (SIGSTOP; somebody else must continue it), raise (FaultError), sleep (for `seconds`).
    """
    if action not in ACTIONS:
        raise ValueError(f"action is one of {', '.join(ACTIONS)}")
    fired(folder, name, forget=True)
    scratch = folder / f"{name}.new"
    scratch.write_text(json.dumps({"action": action, "reaches": reaches, "seconds": seconds}))
    scratch.replace(folder / f"{name}.armed")


def disarm(folder: Path, name: str) -> bool:
    """Take the order back; False when it was carried out already, or never given."""
    with _exclusive(folder):
        try:
            (folder / f"{name}.armed").unlink()
        except FileNotFoundError:
            return False
    return True


def fired(folder: Path, name: str, *, forget: bool = False) -> dict[str, Any] | None:
    """What was noted when the point acted: action, pid, at (seconds since the epoch); None when it has not."""
    path = folder / f"{name}.fired"
    try:
        note: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    if forget:
        path.unlink(missing_ok=True)
    return note


def _take(folder: Path, armed: Path) -> dict[str, Any] | None:
    """The order, if it is this process's to carry out: counted and consumed under a lock that ends with the process."""
    with _exclusive(folder):
        try:
            order: dict[str, Any] = json.loads(armed.read_text())
        except FileNotFoundError:
            return None
        scratch = armed.with_suffix(".new")
        if order["reaches"] > 1:
            scratch.write_text(json.dumps({**order, "reaches": order["reaches"] - 1}))
            scratch.replace(armed)
            return None
        scratch.write_text(json.dumps({"action": order["action"], "pid": os.getpid(), "at": time.time()}))
        scratch.replace(armed.with_suffix(".fired"))
        armed.unlink()
    return order


def _act(name: str, order: dict[str, Any]) -> None:
    match order["action"]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            time.sleep(order["seconds"])
        case _:
            raise FaultError(name)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it is free as soon as the process ends, however it ends."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


_folder = os.environ.get(VARIABLE)
reach: Callable[[str], None] = armed_in(Path(_folder)) if _folder else _off
