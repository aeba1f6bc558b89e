"""Starting wrappers, and adopting those that an earlier try has started.

At most once: the folder's lock passes from the starting job to the wrapper without a gap, and the wrapper writes
`started.json` before the command begins. A job that was killed at any point is simply run again: the lock is held (the
wrapper lives: it is adopted), or the command never began (it is started), or it has ended (its end is written down).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from contextlib import suppress
from datetime import timedelta

import psutil
import structlog

from studio.env import BASE_DIR
from studio.kernel.clock import now
from studio.kernel.environment import PERSONAL
from studio.kernel.errors import StudioError, Upstream
from studio.kernel.faultpoints import reach
from workspaces.commands import keep
from workspaces.commands.files import MARK, CommandFolder, write_json
from workspaces.commands.places import folder_of, own_host
from workspaces.commands.services import ACTIVE, Ending, note_running, settle_command
from workspaces.commands.settling import look
from workspaces.models import Command, CommandKind, CommandState, WorkspaceState
from workspaces.services.checkouts import checkout_path
from workspaces.setup.effective import setup_of
from workspaces.setup.environment import variables

log = structlog.get_logger(__name__)

INHERITED = (*PERSONAL, "XDG_CONFIG_HOME", "LD_LIBRARY_PATH")
# A setup that goes on after a step has failed leaves a checkout that is half ready and looks whole.
FLAGS: dict[str, tuple[str, ...]] = {CommandKind.SETUP: ("-e", "-o", "pipefail")}
START_SECONDS = 20.0  # for a wrapper to say that it runs
LATEST_START = timedelta(minutes=10)  # nobody waits for a command any more that could not be started for so long


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
    own: dict[str, str] = {}
    refused = _refusal(row)
    try:
        own = variables(row.workspace, setup_of(row.workspace)) if refused is None else own
    except StudioError as error:
        refused = Ending(CommandState.FAILED, f"It never ran. {error.message}", output_gone=True)
    if refused is not None:
        settle_command(row.pk, refused)
        folder.remove()
        return False
    keep.prune_workspace(row.workspace)
    reach("command.before_spawn")
    _spawn(row, folder, lock, own)
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
    live = {WorkspaceState.REMOVING} if row.kind == CommandKind.CLEANUP else {WorkspaceState.READY}
    if row.workspace.state not in live or not path.is_dir():
        return Ending(CommandState.FAILED, gone, output_gone=True)
    if shutil.which("bash") is None:
        return Ending(CommandState.FAILED, "This host has no bash, so it never ran.", output_gone=True)
    return None


def _spawn(row: Command, folder: CommandFolder, lock: int, own: dict[str, str]) -> None:
    """Start the wrapper, which inherits the lock; the command also gets `own` variables. Returns when it says that it runs."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    write_json(
        folder.spec,
        {
            "argv": [shutil.which("bash"), *FLAGS.get(row.kind, ()), "-c", row.text],
            "cwd": str(checkout_path(row.workspace)),
            "environment": {**environment, "TERM": "dumb", **own},
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
