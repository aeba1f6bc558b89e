"""News from below. Receivers run inside the sender's transaction and only request a job, publish, or note in a row."""

from __future__ import annotations

from typing import Any

from sessions_app.models import Ask, Turn, TurnState
from sessions_app.services.ask_rows import publish
from sessions_app.services.commands import end_with
from sessions_app.signals import ask_closed, ask_opened, turn_settled
from studio.queue import Names, enqueue
from workspaces.models import Command, Workspace
from workspaces.signals import command_settled, workspace_leaving, workspace_needed


def on_command_settled(*, command: Command, **_: Any) -> None:
    """A background command has ended: the session that started it is told."""
    if command.deliver_to:
        enqueue(Names.DELIVER_COMMAND, command.pk)


def on_turn_settled(*, turn: Turn, **_: Any) -> None:
    """A turn has ended: if somebody stopped it, what its agent runs in the background is to end too."""
    end_with(turn)


def on_ask_opened(*, ask: Ask, **_: Any) -> None:
    """Whoever opens an ask, the feed hears of it."""
    publish(ask, "ask.opened")


def on_ask_closed(*, ask: Ask, **_: Any) -> None:
    """Whoever closes an ask, the feed hears of it."""
    publish(ask, "ask.closed")


def on_workspace_leaving(*, workspace: Workspace, **_: Any) -> None:
    """A workspace goes: its sessions are put away, and the agent servers forget its directory."""
    enqueue(Names.RELEASE_WORKSPACE, workspace.pk)


def on_workspace_needed(*, workspace: Workspace, **_: Any) -> str:
    """Nobody deletes the folder in which an agent works."""
    at_work = Turn.objects.filter(session__workspace=workspace, state__in=[TurnState.DISPATCHING, TurnState.RUNNING])
    return "An agent is still at work in the checkout." if at_work.exists() else ""


def connect() -> None:
    """Called once by the app's configuration; connecting again changes nothing."""
    turn_settled.connect(on_turn_settled, dispatch_uid="sessions.turn_settled")
    ask_opened.connect(on_ask_opened, dispatch_uid="sessions.ask_opened")
    ask_closed.connect(on_ask_closed, dispatch_uid="sessions.ask_closed")
    command_settled.connect(on_command_settled, dispatch_uid="sessions.command_settled")
    workspace_leaving.connect(on_workspace_leaving, dispatch_uid="sessions.workspace_leaving")
    workspace_needed.connect(on_workspace_needed, dispatch_uid="sessions.workspace_needed")
