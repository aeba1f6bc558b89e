"""Reading commands: whose they are, how they stand, and what people ran before."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.db.models import QuerySet

from studio import outbox
from studio.kernel.errors import NotFound
from studio.topics import Event
from workspaces.commands import output
from workspaces.commands.files import output_total
from workspaces.commands.places import folder_of
from workspaces.commands.services import ACTIVE
from workspaces.models import Command, CommandKind, Project, Workspace
from workspaces.selectors import projects_visible_to

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

SUGGESTIONS = 10
SUGGESTION_LENGTH = 300  # a longer one is a script, which nobody picks from a list
LOOKED_AT = 60  # of the newest commands, for suggestions


def commands_visible_to(user: Person) -> QuerySet[Command]:
    """The commands of the projects that `user` may see."""
    rows = Command.objects.filter(workspace__project__in=projects_visible_to(user))
    return rows.select_related("workspace__project")


def command_visible_to(user: Person, command_id: uuid.UUID | str) -> Command:
    """The command, if the person may see it. Raises NotFound."""
    found = commands_visible_to(user).filter(pk=command_id).first()
    if found is None:
        raise NotFound("There is no such command.")
    return found


def is_active(command: Command) -> bool:
    """Whether the command has not ended."""
    return command.state in ACTIVE


def counted(commands: Iterable[Command]) -> list[Command]:
    """The commands, those that run with the bytes that they have written until now."""
    rows = list(commands)
    for row in rows:
        if is_active(row):
            row.output_bytes = output_total(folder_of(row.pk).output)
    return rows


def output_of(command: Command, after: int, limit: int) -> output.Piece:
    """The text of the output that follows byte `after`; an empty piece where nothing is kept."""
    piece = output.read(folder_of(command.pk).output, after, limit=limit, ended=not is_active(command))
    return piece or output.Piece(after, after, command.output_bytes, 0, "")


def end_of_output(command: Command, size: int) -> output.Piece:
    """The last `size` bytes or so of the output as text; an empty piece where nothing is kept."""
    piece = output.read_end(folder_of(command.pk).output, size, ended=not is_active(command))
    return piece or output.Piece(0, 0, command.output_bytes, 0, "")


def suggestions(project: Project) -> list[str]:
    """What people ran in the project lately, the newest first, each once."""
    rows = Command.objects.filter(workspace__project=project, kind=CommandKind.COMMAND).order_by("-created_at")
    texts = [text for text in rows.values_list("text", flat=True)[:LOOKED_AT] if _suggestible(text)]
    return list(dict.fromkeys(texts))[:SUGGESTIONS]


def active_in(workspace: Workspace) -> int:
    """How many commands run in the workspace."""
    return workspace.commands.filter(state__in=ACTIVE).count()


def read_command(command_id: str, after: int, limit: int) -> list[Event]:
    """The changes of a command's state after a cursor, ascending."""
    return outbox.read_topic(f"command:{command_id}", after, limit)


def command_head(command_id: str) -> int:
    """The number of a command's last change."""
    return outbox.topic_head(f"command:{command_id}")


def read_workspace(workspace_id: str, after: int, limit: int) -> list[Event]:
    """What happened to a workspace after a cursor, ascending."""
    return outbox.read_topic(f"workspace:{workspace_id}", after, limit)


def workspace_head(workspace_id: str) -> int:
    """The number of the last thing that happened to a workspace."""
    return outbox.topic_head(f"workspace:{workspace_id}")


def _suggestible(text: str) -> bool:
    return "\n" not in text and len(text) <= SUGGESTION_LENGTH
