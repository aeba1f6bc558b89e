"""Ends what an agent's commands left running in one directory, once the server says that the agent is idle. Without Django.

When a turn is aborted the server ends the shell of the running command and what has stayed in its process group. A child that
got itself a session of its own (setsid, a daemon) outlives that. It is known by two things together: the studio's mark in its
environment, which only the server and what it started carry, and a working directory below the one that is meant.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from agents.environment import MARK

log = logging.getLogger(__name__)

ROUNDS = 3  # a process may start another while it is being ended
AT_ONCE = 200
TERM_SECONDS = 2.0
KILL_SECONDS = 1.0


def end_strays(mark: str, directory: str) -> int:
    """End the commands that run on in `directory`; how many processes. `mark` is the studio's, as the server carries it.

    The server itself is spared, and so is what shares its session (its language and tool servers). Only processes that this
    one can see and signal are touched: call it on the server's host.
    """
    ended = 0
    for _ in range(ROUNDS):
        found = find_strays(mark, directory)[:AT_ONCE]
        if not found:
            break
        _end(found)
        ended += len(found)
    if ended:
        log.info("Ended %s processes that an aborted agent had left behind in %s.", ended, directory)
    return ended


def find_strays(mark: str, directory: str) -> list[psutil.Process]:
    """The processes that carry `mark`, work below `directory` and are no part of the server."""
    top = Path(directory).resolve()
    own = psutil.Process()
    spared = {own.pid, *(parent.pid for parent in own.parents())}
    servers = _sessions_of_servers(mark)
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError, ValueError):
            if process.pid in spared or process.environ().get(MARK) != mark:
                continue
            if os.getsid(process.pid) not in servers and _works_below(process, top):
                found.append(process)
    return found


def _works_below(process: psutil.Process, top: Path) -> bool:
    """Whether the process works below `top`, or was started there and went elsewhere since."""
    if Path(process.cwd()).is_relative_to(top):
        return True
    begun = process.environ().get("PWD", "")
    return begun.startswith("/") and Path(begun).resolve().is_relative_to(top)


def _sessions_of_servers(mark: str) -> set[int]:
    """The sessions that hold a server: it works in its own folder below the mark's, which no command does."""
    home = Path(mark).resolve() / "cwd"
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and Path(process.cwd()) == home:
                found.add(os.getsid(process.pid))
    return found


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=TERM_SECONDS)
    for process in alive:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(alive, timeout=KILL_SECONDS)
