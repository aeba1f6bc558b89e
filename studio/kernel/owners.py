"""Who holds something: names of processes by which another one knows whether they still run. Without Django."""

from __future__ import annotations

import os
import socket
import threading
from functools import cache
from pathlib import Path

import psutil

BOOT = Path("/proc/sys/kernel/random/boot_id")
SPACE = Path("/proc/self/ns/pid")
SAME_START_SECONDS = 2.0  # the system's clock may be corrected while a process runs
HOST_SHOWN = 50  # characters of a host's name, so that an owner fits its column


def owner_name() -> str:
    """Names this thread of this process: `host|pid|the process's start|thread|where its number is known`.

    Containers may share a host's name, and then each has a process of the same number.
    """
    started = psutil.Process().create_time()
    return f"{_host()}|{os.getpid()}|{started:.2f}|{threading.get_ident()}|{_world()}"


def is_dead(owner: str, *, one_machine: bool = False) -> bool:
    """Whether `owner` was a process that would be seen from here and has ended.

    Those of other hosts and containers, and unknown ones, count as alive. With `one_machine` no other machine can have
    written the name: whoever bears it from before the system was started anew is dead.
    """
    try:
        host, pid, started, _, world = owner.split("|")
        if host != _host():
            return False
        if world != _world():
            return one_machine and world.partition(".")[0] != _world().partition(".")[0]
        return abs(psutil.Process(int(pid)).create_time() - float(started)) > SAME_START_SECONDS
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return False


def pid_space() -> str:
    """The name of this process's space of process numbers (a container has its own); empty where there is only one."""
    try:
        return str(SPACE.readlink())
    except OSError:
        return ""


@cache
def _world() -> str:
    """The same for two processes only when each can see the other's number: the system's start and the space.

    The first space of every machine has the same name, so the space alone would not tell two machines apart.
    """
    try:
        boot = BOOT.read_text().strip()[:8]
    except OSError:
        boot = ""
    return f"{boot}.{pid_space().strip('pid:[]')}"


def _host() -> str:
    return socket.gethostname()[:HOST_SHOWN]
