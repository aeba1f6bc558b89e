"""What a command's files say becomes its row: how it ended, or that nobody knows."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any

from studio.queue import Names, enqueue
from workspaces.commands.files import HEAD_BYTES, TAIL_BYTES, CommandFolder, output_total, read_json
from workspaces.commands.services import ACTIVE, Ending, settle_command
from workspaces.models import Command, CommandState

LOST = (
    "Nobody knows how it ended: its process was gone and had left no word. That happens when the machine or the container is "
    "switched off, and when somebody kills the process. What it wrote until then is kept. Start it again if you need its result."
)
REASONS = {
    "studio_stopped": "The studio was stopped.",
    "terminated": "The system asked its process to end, as it does when it shuts down.",
    "settled": "Its checkout was removed.",
}


def look(folder: CommandFolder) -> bool:
    """Settle the command if it has ended; False while it runs, or has not begun. Idempotent."""
    ended = read_json(folder.ended)
    if ended is None:
        if not folder.started.exists() or folder.is_kept():
            return False
        ended = read_json(folder.ended)  # written between the two looks
    row = Command.objects.filter(pk=folder.root.name).first()
    if row is None:
        folder.remove()  # its project was removed
        return True
    if row.state in ACTIVE:
        if ended is None:
            settle_by(folder, CommandState.LOST, LOST)
            enqueue(Names.END_COMMAND, row.pk)  # what it started may have outlived its keeper
        else:
            settle_command(row.pk, _ending(folder, row, ended))
    tidy(folder)
    return True


def settle_by(folder: CommandFolder, state: str, note: str) -> bool:
    """Settle the command as `state`, with what is kept of its output."""
    total = output_total(folder.output)
    return settle_command(folder_id(folder), Ending(state, note, None, total, total > HEAD_BYTES + TAIL_BYTES))


def tidy(folder: CommandFolder) -> None:
    """Keep the output and the record of the end; everything else has done its work. Idempotent."""
    for path in (folder.active, folder.spec, folder.bell, folder.cancel):
        with suppress(OSError):
            path.unlink(missing_ok=True)
    log = folder.root / "wrapper.log"
    with suppress(OSError):
        if log.stat().st_size == 0:
            log.unlink()


def folder_id(folder: CommandFolder) -> Any:
    """The command's id."""
    return folder.root.name


def _ending(folder: CommandFolder, row: Command, ended: dict[str, Any]) -> Ending:
    """The wrapper's word as a state with its note."""
    outcome, note = str(ended.get("outcome", "")), str(ended.get("note", ""))
    total = output_total(folder.output)
    cut = total > HEAD_BYTES + TAIL_BYTES
    if outcome == "cancelled":
        why = row.cancel_note or REASONS.get(str(ended.get("reason")), "It was cancelled.")
        return Ending(CommandState.CANCELLED, f"{why} {note}".strip(), None, total, cut)
    if outcome == "timed_out":
        why = f"It was ended because it ran longer than its limit of {in_words(row.time_limit)}."
        return Ending(CommandState.TIMED_OUT, f"{why} {note}".strip(), None, total, cut)
    code = ended.get("code")
    if outcome != "exited" or not isinstance(code, int):
        return Ending(CommandState.FAILED, note or "It could not be run.", None, total, cut)
    if code < 0:
        note = f"A signal ended it: {_signal_name(-code)}. {note}".strip()
        return Ending(CommandState.FAILED, note, 128 - code, total, cut)
    return Ending(CommandState.SUCCEEDED if code == 0 else CommandState.FAILED, note, code, total, cut)


def in_words(seconds: int) -> str:
    """A duration as people say it."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    pieces = [(hours, "hour"), (minutes, "minute"), (rest, "second")]
    said = [f"{count} {name}{'' if count == 1 else 's'}" for count, name in pieces if count]
    return " ".join(said) or "0 seconds"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
