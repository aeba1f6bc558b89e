"""The end of a background command, told to the session whose agent started it: at most once, and only where somebody listens."""

from __future__ import annotations

import uuid

import structlog
from django.core.exceptions import ValidationError
from django.db import transaction

from agents.backend import LogEntry
from sessions_app import log as session_log
from sessions_app.models import AgentSession, Delivery, Turn, TurnState
from sessions_app.services import inbox
from sessions_app.services.settle import INTERRUPTED
from sessions_app.services.turns import lock_session
from studio.kernel.clock import now
from studio.kernel.errors import StudioError
from studio.queue import Names, enqueue
from workspaces.commands.report import ending_report
from workspaces.commands.services import end_commands_of, take_delivery, undelivered
from workspaces.models import Command, CommandState

log = structlog.get_logger(__name__)

KINDS = {CommandState.LOST: "command.lost", CommandState.CANCELLED: "command.cancelled"}


def note_start(session: AgentSession, command: Command) -> None:
    """Note in the session's log that its agent has started a command. Inside the transaction that starts it."""
    data = {"command": str(command.pk), "title": command.title}
    session_log.append(
        session.pk, [LogEntry("command.started", f"command.started:{command.pk}", data, command.created_at)]
    )


def deliver(command_id: uuid.UUID | str) -> bool:
    """Note the end in the session's log, and tell the agent: at once while a turn runs, else only when it asked for that.

    Idempotent; whether a message was posted. What the inbox refuses (it is full, the checkout is gone) is not tried again.
    """
    text = ""
    with transaction.atomic():
        command = take_delivery(command_id)
        session = None if command is None else _session(command.deliver_to)
        if command is None or session is None:
            return False
        _note_end(session, command)
        active = session.turns.exclude(state=TurnState.SETTLED).exists()
        if not active and not command.wake:
            return False
        text = ending_report(command)
        try:
            with transaction.atomic():
                inbox.post(
                    session=session,
                    text=text,
                    delivery=Delivery.STEER if active else Delivery.QUEUE,
                    author_name=inbox.STUDIO,
                )
        except StudioError as error:
            log.warning("command_end_not_told", command=str(command.pk), error=error.message)
            return False
    return True


def sweep() -> int:
    """Ring for ends that nobody was told of; how many."""
    missed = undelivered()
    for command_id in missed:
        enqueue(Names.DELIVER_COMMAND, command_id)
    return len(missed)


def end_with(turn: Turn) -> int:
    """Ask for the end of what the agent of a stopped turn still runs in the background; how many commands.

    Who stops a turn means all of it. An interruption is no stop: the agent goes on, with other words. Inside the
    transaction that settles the turn.
    """
    if turn.abort_requested_at is None or turn.abort_reason == INTERRUPTED:
        return 0
    return end_commands_of(str(turn.session_id), "The agent that started it was stopped.")


def _session(session_id: str) -> AgentSession | None:
    """The session, locked, or the one in which its conversation goes on."""
    try:
        newest = AgentSession.objects.filter(pk=session_id).first()
    except (ValueError, ValidationError):
        return None
    while newest is not None and (following := newest.successors.order_by("-created_at").first()):
        newest = following
    return None if newest is None else lock_session(newest.pk)


def _note_end(session: AgentSession, command: Command) -> None:
    kind = KINDS.get(CommandState(command.state), "command.finished")
    data = {
        "command": str(command.pk),
        "title": command.title,
        "state": command.state,
        "exit_code": command.exit_code,
    }
    session_log.append(session.pk, [LogEntry(kind, f"command.ended:{command.pk}", data, command.ended_at or now())])
