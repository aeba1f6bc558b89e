"""Ending commands: the wrapper is asked to, and what does not obey is killed."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress
from datetime import timedelta

import psutil
import structlog

from studio.kernel.clock import now
from workspaces.commands.files import MARK, CommandFolder
from workspaces.commands.places import folder_of, own_host
from workspaces.commands.services import ACTIVE, Ending, request_end, settle_command
from workspaces.commands.settling import look, settle_by
from workspaces.models import Command, CommandKind, CommandState, Workspace

log = structlog.get_logger(__name__)

PATIENCE = timedelta(seconds=20)  # for a wrapper to end its command when asked
OVERTIME = timedelta(seconds=60)  # for a wrapper to end its command by the time limit
KILL_SECONDS = 5.0
REMOVAL_SECONDS = 8.0  # for the commands of a workspace that is removed to end when asked


def end(command_id: uuid.UUID | str) -> None:
    """End a command whose end was asked for. Idempotent; what does not end when asked is killed."""
    row = Command.objects.filter(pk=command_id, state__in=ACTIVE).first()
    if row is None:
        end_leftovers(folder_of(command_id))
        return
    if row.host not in ("", own_host()):
        return
    folder = folder_of(row.pk)
    if not folder.started.exists() and _never_begins(row, folder):
        return
    asked = row.cancel_requested_at
    overdue = row.started_at is not None and now() - row.started_at > timedelta(seconds=row.time_limit) + OVERTIME
    if asked is not None:
        folder.ask_to_end("cancelled")
    if overdue or (asked is not None and now() - asked > PATIENCE):
        kill(row, folder)
    look(folder)


def _never_begins(row: Command, folder: CommandFolder) -> bool:
    """Settle a command that nobody has started; False when somebody is just doing that."""
    folder.prepare()
    lock = folder.take_lock()
    if lock is None:
        return False
    try:
        if folder.started.exists():
            return False
        settle_command(row.pk, Ending(CommandState.CANCELLED, f"{row.cancel_note} It had not begun.", output_gone=True))
        folder.remove()
    finally:
        os.close(lock)
    return True


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
    """End every command of a workspace but its clean-up, and wait for it, so that its folder can be removed. Idempotent."""
    active = workspace.commands.filter(state__in=ACTIVE).exclude(kind=CommandKind.CLEANUP)
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
