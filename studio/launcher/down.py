"""`manage.py down`: end the studio of a data folder, or what a killed one has left."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

from studio.launcher import leftovers
from studio.launcher.errors import LauncherError
from studio.launcher.folder import DataFolder
from studio.launcher.record import read_record
from studio.launcher.up import Say

STOP_SECONDS = 45.0
LOOK_SECONDS = 0.1


def down(folder: DataFolder, say: Say) -> int:
    """Ask the running `up` to stop, then end and remove whatever is left. Idempotent; exit code 0 when nothing is left."""
    if not folder.root.is_dir():
        say(f"There is no data folder at {folder.root}.")
        return 0
    asked = False
    end = time.monotonic() + STOP_SECONDS
    while True:
        try:
            with folder.held() as held:
                if held:
                    return _end(folder, say, stopped=asked)
        except OSError as error:
            raise LauncherError(f"The data folder {folder.root} cannot be used ({error.strerror}).") from error
        asked = _ask(folder) or asked
        if time.monotonic() > end:
            _kill(folder)
        time.sleep(LOOK_SECONDS)


def _ask(folder: DataFolder) -> bool:
    """Ask the `up` that holds the folder to stop; whether there is one."""
    record = read_record(folder.record)
    process = record.process() if record else None
    if process is None:
        return False
    with suppress(psutil.Error):
        process.terminate()
    return True


def _kill(folder: DataFolder) -> None:
    record = read_record(folder.record)
    process = record.process() if record else None
    if process is None:
        raise LauncherError(f"Something holds {folder.lock} and does not say who it is. End it by hand.")
    with suppress(psutil.Error):
        process.kill()


def _end(folder: DataFolder, say: Say, *, stopped: bool) -> int:
    count = leftovers.end(folder.root) + leftovers.end_commands(folder.root)
    folder.clear()
    if leftovers.find(folder.root) or leftovers.find_commands(folder.root):
        raise LauncherError("Some processes of this studio do not end. Look for them with: ps -ef")
    if stopped:
        say("Stopped.")
    elif count:
        say(f"Ended {count} processes that a killed start had left behind.")
    else:
        say(f"Nothing runs in {folder.root}.")
    return 0
