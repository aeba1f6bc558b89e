"""Which process wrote a file, so that what a dead one left behind is not believed. Without Django."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from studio.kernel.owners import SAME_START_SECONDS, pid_space


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process by its number, its start, and the space of process numbers that it lives in (a container has its own)."""

    pid: int
    created: float
    space: str

    def ended(self) -> bool:
        """Whether the process is known to be gone. One of another container cannot be seen and counts as alive."""
        if self.space != pid_space():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.created) > SAME_START_SECONDS
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False


def mark_process(pid: int | None = None) -> ProcessMark:
    """The mark of a running process of this host, by default of this one. Raises psutil.NoSuchProcess."""
    process = psutil.Process(pid)
    return ProcessMark(process.pid, process.create_time(), pid_space())
