"""A command in words for an agent: how it stands or ended, and the end of what it wrote."""

from __future__ import annotations

from studio.kernel.clock import now
from studio.kernel.text import cut
from workspaces.commands import selectors
from workspaces.commands.output import folded
from workspaces.commands.settling import in_words
from workspaces.models import Command, CommandState

END_BYTES = 4_000  # of the output that an agent is shown
COMMAND_SHOWN = 300  # characters
LINES_SHOWN = 8  # the last ones of a setup script, on the task page

WORDS = {
    CommandState.STARTING: "is about to start",
    CommandState.RUNNING: "is running",
    CommandState.SUCCEEDED: "has succeeded",
    CommandState.FAILED: "has failed",
    CommandState.CANCELLED: "was cancelled",
    CommandState.TIMED_OUT: "was ended at its time limit",
    CommandState.LOST: "is lost",
}


def report(command: Command) -> str:
    """How the command stands."""
    lines = [f"The command {command.pk} (`{_shown(command)}`) {WORDS[CommandState(command.state)]}{_details(command)}."]
    if command.note:
        lines.append(command.note)
    lines.append(_end(command))
    return "\n\n".join(lines)


def ending_report(command: Command) -> str:
    """The same for an agent that does other things by now: where the message comes from, too."""
    return f"This is a message of the studio, not of a person. Your background command has ended.\n\n{report(command)}"


def _details(command: Command) -> str:
    said = [f"exit code {command.exit_code}"] if command.exit_code is not None else []
    if command.started_at is not None:
        seconds = int(((command.ended_at or now()) - command.started_at).total_seconds())
        said.append(f"{'after' if command.ended_at else 'for'} {in_words(seconds)}")
    return f" ({', '.join(said)})" if said else ""


def _shown(command: Command) -> str:
    return cut(" ".join(command.text.split()), COMMAND_SHOWN).replace("`", "'")


def _end(command: Command) -> str:
    piece = selectors.end_of_output(command, END_BYTES)
    text = folded(piece.text).rstrip()
    if not text:
        return "It has written nothing." if not command.output_gone else "Its output is not kept any more."
    fence = "```"
    while fence in text:
        fence += "`"
    which = "What it has written:" if piece.start == 0 else f"The end of the {piece.total:,} bytes that it has written:"
    return f"{which}\n\n{fence}\n{text}\n{fence}"


def setup_report(command: Command) -> tuple[str, str]:
    """Why a setup script did not succeed, for people: how it ended, and the last lines that it wrote."""
    said = f"The setup script {WORDS[CommandState(command.state)]}{_details(command)}."
    text = folded(selectors.end_of_output(command, END_BYTES).text).rstrip()
    return f"{said} {command.note}".strip(), "\n".join(text.splitlines()[-LINES_SHOWN:])
