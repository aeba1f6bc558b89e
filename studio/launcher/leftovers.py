"""Ends what an `up` left running that was killed before it could stop its parts.

Every process of a studio carries the mark of its data folder in its environment, and what the agent server starts
carries the agent server's. A process without one of the two marks of *this* data folder is never touched, whatever its
pid or its name is. Background commands carry a mark of their own: they end when a studio is stopped, not when one starts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from agents.environment import MARK as AGENT_MARK
from studio.launcher.child import MARK
from workspaces.commands.files import FOLDER as COMMANDS
from workspaces.commands.files import MARK as COMMAND_MARK
from workspaces.commands.files import active_folders

SUPERVISOR_SECONDS = 20.0
PATIENCE_SECONDS = 4.0
COMMAND_SECONDS = 8.0  # a command has five to end when asked
ROUNDS = 5  # a process may start another one while it is ended


def find(data: Path) -> list[psutil.Process]:
    """The marked processes of a data folder, except this one and those it was started by."""
    own = psutil.Process()
    spared = {own.pid, *(parent.pid for parent in own.parents())}
    return [process for process in _readable() if process.pid not in spared and _belongs(process, data)]


def _readable() -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == os.getuid() and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _belongs(process: psutil.Process, data: Path) -> bool:
    try:
        environment = process.environ()
    except (psutil.Error, OSError):
        return False
    return environment.get(MARK) == str(data) or environment.get(AGENT_MARK) == str(data / "opencode")


def end(data: Path) -> int:
    """End them, the supervisor first because it would start the others again; how many there were."""
    found = find(data)
    count = len(found)
    supervisors = [process for process in found if _is_supervisor(process)]
    _signal(supervisors, kill=False)
    psutil.wait_procs(supervisors, timeout=SUPERVISOR_SECONDS)
    for _ in range(ROUNDS):
        found = find(data)
        if not found:
            break
        _signal(found, kill=False)
        _, alive = psutil.wait_procs(found, timeout=PATIENCE_SECONDS)
        _signal(alive, kill=True)
        psutil.wait_procs(alive, timeout=PATIENCE_SECONDS)
    return count


def end_commands(data: Path) -> int:
    """End the background commands of a data folder, as stopping its studio does; how many there were.

    They are asked first and then write down how they ended. A start leaves them alone: whoever killed the studio did not mean
    them, and the started studio finds them again.
    """
    running = [folder for folder in active_folders(data) if folder.is_kept()]
    for folder in running:
        folder.ask_to_end("studio_stopped")
    patience = time.monotonic() + COMMAND_SECONDS
    while any(folder.is_kept() for folder in running) and time.monotonic() < patience:
        time.sleep(0.05)
    left = find_commands(data)
    _signal(left, kill=True)
    psutil.wait_procs(left, timeout=PATIENCE_SECONDS)
    return len(running)


def find_commands(data: Path) -> list[psutil.Process]:
    """The processes of a data folder's background commands, their keepers included."""
    found = []
    for process in _readable():
        with suppress(psutil.Error, OSError):
            if process.environ().get(COMMAND_MARK, "").startswith(f"{data / COMMANDS}/"):
                found.append(process)
    return found


def _is_supervisor(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "supervisor.supervisord" in process.cmdline()
    return False


def _signal(processes: list[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill() if kill else process.terminate()
