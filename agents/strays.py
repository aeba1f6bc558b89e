"""Ends what an agent's commands left running in one directory, once the server says that the agent is idle. Without Django.

When a turn is aborted the server ends the process group of the running command: politely, and three seconds later for good.
A child that gave itself a session of its own (setsid, a daemon) outlives that. It is known by two things in its environment:
the studio's mark, and the directory in which the command was begun (see `agents.opencode.config.write_shell`).
"""

from __future__ import annotations

import logging
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from agents.environment import COMMAND, MARK

log = logging.getLogger(__name__)

ROUNDS = 3  # a process may start another while it is being ended
AT_ONCE = 200
TERM_SECONDS = 2.0
KILL_SECONDS = 1.0


def end_strays(mark: str, directory: str) -> int:
    """End the commands that were begun below `directory`; how many processes. `mark` is the studio's, as the server has it.

    The server itself and its own helpers are no commands. Only what this process can see and signal is touched: call it on
    the server's host.
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
    """The processes of commands that were begun below `directory` under the studio of `mark`."""
    top = Path(directory).resolve()
    own = psutil.Process()
    spared = {own.pid, *(parent.pid for parent in own.parents())}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError, ValueError):
            environment = process.environ()
            begun = environment.get(COMMAND, "")
            if process.pid in spared or environment.get(MARK) != mark or not begun.startswith("/"):
                continue
            if Path(begun).resolve().is_relative_to(top) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
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
