"""Notices what becomes of running commands: new output goes to whoever looks, ends go into the rows.

`tick` needs no database while nothing ends: it looks into one folder, and where that is empty it is done. It runs in a
thread of the bridge process; the sweeper finds the ends that nobody watched.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections

from studio import doorbell
from studio.kernel.clock import now
from studio.queue import Names, enqueue
from workspaces.commands import keep, output
from workspaces.commands.ending import OVERTIME
from workspaces.commands.files import CommandFolder, active_folders, output_total
from workspaces.commands.places import folder_of, own_host
from workspaces.commands.services import ACTIVE
from workspaces.commands.settling import look, settle_by
from workspaces.models import Command, CommandState

log = structlog.get_logger(__name__)

LIVE_SECONDS = 0.15  # between two looks while a command runs
IDLE_SECONDS = 0.5
PIECE_BYTES = 16 * 1024  # of one command's output that are sent at once
# A reader who is further behind than this asks for the end of the output instead of getting all of it.
BEHIND_BYTES = 64 * 1024
OVERDUE = timedelta(seconds=2)
FORGOTTEN = timedelta(hours=1)  # after its time limit a command of another host counts as lost


class Watcher:
    """Follows the running commands of this host. Not thread-safe."""

    def __init__(self) -> None:
        self._sent: dict[str, int] = {}  # how far each command's output was sent

    def tick(self) -> int:
        """Send what is new, settle what has ended; how many commands still run."""
        folders = active_folders(Path(settings.DATA))
        if not folders:
            self._sent.clear()
            return 0
        running = 0
        for folder in folders:
            self._send(folder)
            try:
                running += not look(folder)
            except DatabaseError as error:
                log.warning("command_not_settled", command=folder.root.name, error=str(error))
                running += 1
        names = {folder.root.name for folder in folders}
        self._sent = {name: sent for name, sent in self._sent.items() if name in names}
        return running

    def _send(self, folder: CommandFolder) -> None:
        name, total = folder.root.name, output_total(folder.output)
        sent = self._sent.setdefault(name, 0 if total <= BEHIND_BYTES else total)
        if total <= sent:
            return
        if total - sent > BEHIND_BYTES:
            sent = total - PIECE_BYTES
        piece = output.read(folder.output, sent, limit=PIECE_BYTES, ended=folder.ended.exists())
        if piece is None or piece.next == piece.start:
            return
        # The part says which bytes the text stands for: a reader who lacks what was before asks for it.
        doorbell.send_pieces([(f"command:{name}", f"{piece.start}-{piece.next}", piece.text, False)])
        self._sent[name] = piece.next


def follow(stop: threading.Event) -> None:
    """Tick until `stop` is set. Does not raise."""
    watcher = Watcher()
    while not stop.is_set():
        running = 0
        try:
            running = watcher.tick()
        except Exception:
            log.exception("watching_commands_failed")  # the next tick tries again
        finally:
            close_old_connections()
        stop.wait(LIVE_SECONDS if running else IDLE_SECONDS)


def sweep() -> int:
    """Find what lost doorbells and dead watchers left behind; how many bells were rung. Any number at any time is safe."""
    at = now()
    rung = 0
    for row in Command.objects.filter(state__in=ACTIVE):
        limit = timedelta(seconds=row.time_limit)
        mine = row.host in ("", own_host())
        if not mine:
            if at - (row.started_at or row.created_at) > limit + FORGOTTEN:
                settle_by(folder_of(row.pk), CommandState.LOST, "The host that ran it has not been heard of since.")
        elif row.state == CommandState.STARTING and at - row.created_at > OVERDUE:
            enqueue(Names.START_COMMAND, row.pk)
            rung += 1
        elif row.state == CommandState.RUNNING and not _look(row):
            overdue = row.started_at is not None and at - row.started_at > limit + OVERTIME
            asked = row.cancel_requested_at is not None and at - row.cancel_requested_at > OVERDUE
            if overdue or asked:
                enqueue(Names.END_COMMAND, row.pk)
                rung += 1
    _tidy()
    return rung


def _look(row: Command) -> bool:
    """Settle the command if it has ended; one whose files are gone is lost."""
    folder = folder_of(row.pk)
    if not folder.started.exists():
        return settle_by(folder, CommandState.LOST, "Its files are gone from the studio's data folder.")
    return look(folder)


_tidied = 0.0


def _tidy() -> None:
    """Look after what is kept, at most every ten minutes in this process."""
    global _tidied
    if time.monotonic() - _tidied > keep.EVERY_SECONDS or not _tidied:
        _tidied = time.monotonic()
        keep.prune()
