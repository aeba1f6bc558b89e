"""Locks of this host that a killed process cannot leave behind.

Leases in the database say who may write a row. A lock here says who may run git in a folder: the kernel frees it the moment
its holder dies, so nobody waits for a lease to run out. All processes that work on a repository share its host.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from django.conf import settings

from studio.kernel.errors import Upstream

STEP = 0.05


class Busy(Upstream):
    """Another process works there; try again later."""

    code = "workspace_busy"


@contextmanager
def held(name: str, *, patience: float) -> Iterator[None]:
    """Hold the lock called `name`. Raises Busy when it is not free within `patience` seconds. Not reentrant."""
    path = Path(settings.DATA) / "run" / "locks" / f"{sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"
    for folder in (path.parent.parent, path.parent):  # `parents=True` would leave the upper one open to others
        folder.mkdir(mode=0o700, exist_ok=True)
    deadline = time.monotonic() + patience
    with path.open("w") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Busy("Something else is at work in this repository; try again.", transient=True) from None
                time.sleep(STEP)
        yield
