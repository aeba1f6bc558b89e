"""What is kept of commands that have ended: bounded in number and in bytes, and gone with their checkout."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from django.conf import settings

from workspaces.commands.files import ACTIVE as MARKERS
from workspaces.commands.files import FOLDER, command_folder
from workspaces.commands.services import ACTIVE
from workspaces.models import Command, CommandKind, Workspace

EVERY_SECONDS = 600.0
OUTPUTS = 300  # outputs that are kept, the newest; each is at most one megabyte
PER_WORKSPACE = 100  # commands of a workspace that are kept, the newest
BATCH = 500


def prune() -> int:
    """Delete what is beyond the bounds, and folders that belong to no command; how many folders. Idempotent."""
    root = Path(settings.DATA) / FOLDER
    try:
        names = [name for name in os.listdir(root) if name != MARKERS]  # noqa: PTH208 -- names are all that is needed
    except OSError:
        return 0
    ids = [wanted for name in names if (wanted := _id(name)) is not None]
    known: set[uuid.UUID] = set()
    for begin in range(0, len(ids), BATCH):
        known |= set(Command.objects.filter(pk__in=ids[begin : begin + BATCH]).values_list("pk", flat=True))
    removed = [pk for pk in ids if pk not in known and not command_folder(root.parent, pk).is_kept()]
    for pk in removed:
        command_folder(root.parent, pk).remove()
    ended = Command.objects.exclude(state__in=ACTIVE)
    older = list(ended.filter(output_gone=False).order_by("-created_at").values_list("pk", flat=True)[OUTPUTS:])
    forget(older)
    return len(removed) + len(older)


def prune_workspace(workspace: Workspace) -> None:
    """Delete the oldest commands of a workspace, of each kind, rows and all."""
    ended = workspace.commands.exclude(state__in=ACTIVE).order_by("-created_at")
    oldest = [pk for kind in CommandKind for pk in ended.filter(kind=kind).values_list("pk", flat=True)[PER_WORKSPACE:]]
    forget(oldest)
    Command.objects.filter(pk__in=oldest).delete()


def forget_outputs(workspace: Workspace) -> None:
    """Delete the outputs of a workspace's commands, as when its checkout goes. The rows stay. Idempotent.

    What its clean-up script wrote is kept: that is the time when somebody wants to read it.
    """
    ended = workspace.commands.exclude(state__in=ACTIVE).exclude(kind=CommandKind.CLEANUP)
    forget(list(ended.filter(output_gone=False).values_list("pk", flat=True)))


def forget(command_ids: list[uuid.UUID]) -> None:
    """Delete the outputs of commands that have ended."""
    for pk in command_ids:
        command_folder(Path(settings.DATA), pk).remove()
    for begin in range(0, len(command_ids), BATCH):
        Command.objects.filter(pk__in=command_ids[begin : begin + BATCH]).update(output_gone=True)


def _id(name: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(name)
    except ValueError:
        return None
