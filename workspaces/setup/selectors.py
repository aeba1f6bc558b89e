"""How the setup of a checkout stands, from its row and the command of its script."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workspaces.commands.report import setup_report
from workspaces.commands.services import ACTIVE
from workspaces.models import Command, CommandState, WorkspaceSetup

NONE, PENDING, RUNNING, DONE, FAILED = "none", "pending", "running", "done", "failed"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a checkout's setup is. `sentence` says why it failed."""

    state: str  # none, pending, running, done, failed
    command: Command | None = None
    sentence: str = ""
    log: str = ""  # the last lines of the script, when it failed


def standing_of(row: WorkspaceSetup | None) -> Standing:
    """How the setup stands, from its row and the command of its script."""
    if row is None:
        return Standing(NONE)
    if row.again:
        return Standing(RUNNING, row.command)
    if row.error:
        return Standing(FAILED, None, row.error)
    if row.placed_at is None:
        return Standing(PENDING)
    command = row.command
    if command is None or command.state == CommandState.SUCCEEDED:
        return Standing(DONE, command)
    if command.state in ACTIVE:
        return Standing(RUNNING, command)
    return Standing(FAILED, command, *setup_report(command))


def read_row(workspace_id: uuid.UUID | str) -> WorkspaceSetup | None:
    """The setup's row with its commands; None when nothing was ever set up."""
    return WorkspaceSetup.objects.select_related("command", "cleanup").filter(workspace_id=workspace_id).first()
