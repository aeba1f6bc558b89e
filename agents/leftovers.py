"""Ends what a managed server left running. Without Django."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import suppress

import psutil

from agents.environment import MARK
from agents.opencode.config import ServerFolder

log = logging.getLogger(__name__)

STOP_SECONDS = 3.0


def end_leftovers(folder: ServerFolder) -> int:
    """End what a former server of this folder left running, and the commands of its agents; how many processes.

    They are known by the mark in their environment, so nothing else is ever touched.
    """
    found = list(_marked(folder))
    for process in found:
        _send(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(found, timeout=STOP_SECONDS)
    for process in alive:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=STOP_SECONDS)
    if found:
        log.warning("Ended %s processes that a former server had left behind.", len(found))
    return len(found)


def _marked(folder: ServerFolder) -> Iterator[psutil.Process]:
    own = psutil.Process()
    spared = {own.pid, *(parent.pid for parent in own.parents())}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid not in spared and process.environ().get(MARK) == str(folder.root):
                yield process


def _send(process: psutil.Process, number: int) -> None:
    with suppress(psutil.Error):
        process.send_signal(number)
