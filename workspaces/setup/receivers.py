"""What follows from the end of the studio's own commands. Receivers only publish, or request a job."""

from __future__ import annotations

from typing import Any

from studio.queue import Names, enqueue
from workspaces.models import Command, CommandKind, CommandState
from workspaces.setup.selectors import DONE, FAILED
from workspaces.setup.services import publish
from workspaces.signals import command_settled


def on_command_settled(*, command: Command, **_: Any) -> None:
    """A script or a server has ended."""
    if command.kind == CommandKind.SETUP:
        publish(command.workspace, DONE if command.state == CommandState.SUCCEEDED else FAILED)
    elif command.kind == CommandKind.CLEANUP:
        enqueue(Names.REMOVE_WORKSPACE, command.workspace_id)
    elif command.kind == CommandKind.DEV_SERVER:
        enqueue(Names.ADVANCE_SERVER, command.workspace_id)


def connect() -> None:
    """Called once by the app's configuration; connecting again changes nothing."""
    command_settled.connect(on_command_settled, dispatch_uid="workspaces.command_settled")
