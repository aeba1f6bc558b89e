"""Starting, adopting and ending wrappers: the only place of the studio that touches a command's processes.

At most once: the folder's lock passes from the starting job to the wrapper without a gap, and the wrapper writes
`started.json` before the command begins. A job that was killed at any point is simply run again: the lock is held (the
wrapper lives: it is adopted), or the command never began (it is started), or it has ended (its end is written down).
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import structlog
from django.conf import settings

from studio.env import BASE_DIR
from studio.kernel.clock import now
from studio.kernel.environment import PERSONAL
from studio.kernel.errors import Upstream
from studio.kernel.faultpoints import reach
from workspaces.commands import keep
from workspaces.commands.files import FOLDER, MARK, CommandFolder, command_folder, write_json
from workspaces.commands.services import ACTIVE, Ending, note_running, request_end, settle_command
from workspaces.commands.settling import look, settle_by
from workspaces.models import Command, CommandState, Workspace, WorkspaceState
from workspaces.services.checkouts import checkout_path

log = structlog.get_logger(__name__)

INHERITED = (*PERSONAL, "XDG_CONFIG_HOME", "LD_LIBRARY_PATH")
START_SECONDS = 20.0  # for a wrapper to say that it runs
LATEST_START = timedelta(minutes=10)  # nobody waits for a command any more that could not be started for so long
PATIENCE = timedelta(seconds=20)  # for a wrapper to end its command when asked
OVERTIME = timedelta(seconds=60)  # for a wrapper to end its command by the time limit
KILL_SECONDS = 5.0
REMOVAL_SECONDS = 8.0  # for the commands of a workspace that is removed to end when asked


def own_host() -> str:
    """Names this data folder: a command belongs to the host that has its files. Made at first use, and kept."""
    path = Path(settings.DATA) / FOLDER / "host"
    with suppress(OSError):
        return path.read_text().strip()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(f".host.{os.getpid()}.{secrets.token_hex(4)}")
    scratch.write_text(f"{socket.gethostname()[:60]}-{secrets.token_hex(6)}")
    with suppress(FileExistsError):
        os.link(scratch, path)
    scratch.unlink()
    return path.read_text().strip()


def folder_of(command_id: uuid.UUID | str) -> CommandFolder:
    """Where the files of a command are."""
    return command_folder(Path(settings.DATA), command_id)


def start(command_id: uuid.UUID | str) -> None:
    """Start the command, or take note of what an earlier try has begun. Idempotent."""
    host = own_host()
    mine = Command.objects.filter(pk=command_id, state=CommandState.STARTING, host__in=["", host])
    if not mine.update(host=host):
        return
    row = Command.objects.select_related("workspace__project").get(pk=command_id)
    folder = folder_of(row.pk)
    folder.prepare()
    lock = folder.take_lock()
    if lock is not None:
        try:
            if not folder.started.exists() and not _begin(row, folder, lock):
                return
        finally:
            os.close(lock)
    _adopt(row, folder)


def _begin(row: Command, folder: CommandFolder, lock: int) -> bool:
    """Start the wrapper, or settle the command that is not to be started any more (then False)."""
    refused = _refusal(row)
    if refused is not None:
        settle_command(row.pk, refused)
        folder.remove()
        return False
    keep.prune_workspace(row.workspace)
    reach("command.before_spawn")
    _spawn(row, folder, lock)
    reach("command.after_spawn")
    return True


def _refusal(row: Command) -> Ending | None:
    """Why the command is not started any more."""
    if row.cancel_requested_at is not None:
        return Ending(CommandState.CANCELLED, f"{row.cancel_note} It had not begun.", output_gone=True)
    if now() - row.created_at > LATEST_START:
        return Ending(
            CommandState.FAILED, "It could not be started for ten minutes, so it never ran.", output_gone=True
        )
    gone = "The checkout is gone, so it never ran."
    try:
        path = checkout_path(row.workspace)
    except Upstream as error:
        return Ending(CommandState.FAILED, error.message, output_gone=True)
    if row.workspace.state != WorkspaceState.READY or not path.is_dir():
        return Ending(CommandState.FAILED, gone, output_gone=True)
    if shutil.which("bash") is None:
        return Ending(CommandState.FAILED, "This host has no bash, so it never ran.", output_gone=True)
    return None


def _spawn(row: Command, folder: CommandFolder, lock: int) -> None:
    """Start the wrapper, which inherits the lock. Returns when it has said that it runs."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    write_json(
        folder.spec,
        {
            "argv": [shutil.which("bash"), "-c", row.text],
            "cwd": str(checkout_path(row.workspace)),
            "environment": {**environment, "TERM": "dumb"},
            "seconds": row.time_limit,
        },
    )
    with (folder.root / "wrapper.log").open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-B", "-S", "-E", "-m", "workspaces.commands.wrapper", str(folder.root)],
            cwd=BASE_DIR,
            env={**environment, MARK: str(folder.root)},
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=[lock],
            start_new_session=True,  # what stops the worker's process group must not reach it
        )
        try:
            code = process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    if code != 0:
        log.error("command_wrapper_failed", command=str(row.pk), code=code)


def _adopt(row: Command, folder: CommandFolder) -> None:
    """Let the row say what the files say: it runs, or it has ended. Nothing when the wrapper has not begun yet."""
    said = folder.wrapper_pid()
    if said is None:
        return
    process_started = 0.0
    with suppress(psutil.Error):
        process_started = psutil.Process(said).create_time()
    if not note_running(row.pk, pid=said, process_started=process_started):
        row.refresh_from_db()
        if row.state not in ACTIVE:  # it was settled meanwhile, by the removal of its workspace
            folder.ask_to_end("settled")
    look(folder)


def end(command_id: uuid.UUID | str) -> None:
    """End a command whose end was asked for. Idempotent; what does not end when asked is killed."""
    row = Command.objects.filter(pk=command_id, state__in=ACTIVE).first()
    if row is None:
        end_leftovers(folder_of(command_id))
        return
    if row.host not in ("", own_host()):
        return
    folder = folder_of(row.pk)
    if not folder.started.exists() and not folder.is_kept():
        start(row.pk)  # which sees that it is not wanted any more
        return
    asked = row.cancel_requested_at
    overdue = row.started_at is not None and now() - row.started_at > timedelta(seconds=row.time_limit) + OVERTIME
    if asked is not None:
        folder.ask_to_end("cancelled")
    if overdue or (asked is not None and now() - asked > PATIENCE):
        kill(row, folder)
    look(folder)


def kill(row: Command, folder: CommandFolder) -> None:
    """End the wrapper and everything that carries the command's mark, without asking; then write down what it was."""
    if row.pid is not None:
        with suppress(psutil.Error):
            process = psutil.Process(row.pid)
            if abs(process.create_time() - (row.process_started or 0)) < 1:
                process.kill()
    end_leftovers(folder)
    patience = time.monotonic() + KILL_SECONDS
    while folder.is_kept() and time.monotonic() < patience:
        time.sleep(0.05)
    if folder.is_kept():
        log.error("command_not_ended", command=str(row.pk))
    elif row.cancel_requested_at is not None:
        settle_by(folder, CommandState.CANCELLED, f"{row.cancel_note} It had to be killed.")
    else:
        settle_by(
            folder, CommandState.TIMED_OUT, f"It ran for more than {row.time_limit} seconds and had to be killed."
        )


def end_leftovers(folder: CommandFolder) -> int:
    """Kill what carries the command's mark while no wrapper lives that would do it; how many processes."""
    count = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.uids().real == os.getuid() and process.environ().get(MARK) == str(folder.root):
                process.kill()
                count += 1
    if count:
        log.warning("command_leftovers_ended", command=folder.root.name, count=count)
    return count


def end_in_workspace(workspace: Workspace, note: str) -> None:
    """End every command of a workspace and wait for it, so that its folder can be removed. Idempotent."""
    active = workspace.commands.filter(state__in=ACTIVE)
    for row in active:
        request_end(row.pk, note)
        end(row.pk)
    patience = time.monotonic() + REMOVAL_SECONDS
    while active.exists() and time.monotonic() < patience:
        time.sleep(0.1)
        for row in active:
            look(folder_of(row.pk))
    for row in active:
        kill(row, folder_of(row.pk))
