"""Asking for commands, asking for their end, and writing down how they ended: rows only. The work is done in jobs.

A row changes its state by a conditional update, so two watchers that see the same end settle it once.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction

from studio import outbox
from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Invalid, NotFound
from studio.kernel.permissions import Role
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces.models import Command, CommandKind, CommandState, RequestedBy, Workspace, WorkspaceState
from workspaces.selectors import require_role
from workspaces.signals import command_settled

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

TEXT_LIMIT = 10_000  # characters of a command
TITLE_LIMIT = 120
DEFAULT_SECONDS = 15 * 60
LONGEST_SECONDS = 4 * 60 * 60
ACTIVE_PER_WORKSPACE = 4
ACTIVE_IN_ALL = 16
STUDIO = "studio"

ACTIVE = (CommandState.STARTING, CommandState.RUNNING)


def start_command(
    *,
    workspace: Workspace,
    text: str,
    actor: Person | None,
    title: str = "",
    time_limit: int | None = None,
    requested_by: str = RequestedBy.PERSON,
    author_name: str = "",
    origin: str = "",
    deliver_to: str = "",
    wake: bool = False,
    kind: str = CommandKind.COMMAND,
) -> Command:
    """Have `text` run by bash in the workspace, in the background; its row, which is `starting`.

    A `kind` of the studio's own has no bounds but those of its caller (see `workspaces.setup`). A person needs the role maintainer; without an actor the caller has decided. Raises Invalid for a command that cannot be
    run, and Conflict when the workspace is gone or too many run already.
    """
    if actor is not None:
        require_role(actor, workspace.project, Role.MAINTAINER)
    own = kind != CommandKind.COMMAND
    body, seconds = _checked_text(text), time_limit if own and time_limit else _checked_limit(time_limit)
    with transaction.atomic():
        # The row is the lock under which its commands are counted.
        row = Workspace.objects.select_for_update(of=("self",)).get(pk=workspace.pk)
        if not own:
            _require_room(row)
        command = Command.objects.create(
            workspace=row,
            kind=kind,
            text=body,
            title=_title(title) or _title(body),
            time_limit=seconds,
            requested_by=requested_by,
            started_by_id=actor.pk if actor is not None else None,
            started_by_name=cut(clean(author_name) or (actor.get_username() if actor else STUDIO), 150),
            origin=origin,
            deliver_to=deliver_to,
            wake=wake,
        )
        publish(command, row.project_id)
        payload = {"workspace": str(row.pk), "command": str(command.pk)}
        outbox.publish(row.project_id, f"workspace:{row.pk}", "workspace.updated", payload)
        enqueue(Names.START_COMMAND, command.pk)
    return command


def cancel_command(*, command: Command, actor: Person | None, by: str = "") -> Command:
    """Have a command ended: asked first, then killed. Asking again changes nothing.

    A person needs the role maintainer. Raises Conflict when it has ended already.
    """
    if actor is not None:
        require_role(actor, command.workspace.project, Role.MAINTAINER)
    who = by or (actor.get_username() if actor is not None else STUDIO)
    with transaction.atomic():
        if not request_end(command.pk, f"Cancelled by {who}."):
            raise Conflict("This command has ended already.", code="command_ended", allowed=[])
    command.refresh_from_db()
    return command


def request_end(command_id: uuid.UUID, note: str) -> bool:
    """Note that the command is to end, and have it done; False when it has ended. The first note stays."""
    with transaction.atomic():
        active = Command.objects.filter(pk=command_id, state__in=ACTIVE)
        active.filter(cancel_requested_at__isnull=True).update(
            cancel_requested_at=now(), cancel_note=cut(clean(note), 200)
        )
        if not active.exists():
            return False
        enqueue(Names.END_COMMAND, command_id)
    return True


def end_commands_of(session_id: str, note: str) -> int:
    """Note that what the agent of this session runs is to end; how many commands. Idempotent."""
    mine = Command.objects.filter(deliver_to=session_id, requested_by=RequestedBy.AGENT, state__in=ACTIVE)
    return sum(request_end(pk, note) for pk in mine.values_list("pk", flat=True))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended. `output_bytes` is everything that it wrote."""

    state: str
    note: str = ""
    exit_code: int | None = None
    output_bytes: int = 0
    output_cut: bool = False
    output_gone: bool = False


def settle_command(command_id: uuid.UUID, ending: Ending) -> bool:
    """Write down how a command ended, once, and tell who wants to know; False when that was done before."""
    with transaction.atomic():
        settled = Command.objects.filter(pk=command_id, state__in=ACTIVE).update(
            state=ending.state,
            note=cut(clean(ending.note), 1_000),
            exit_code=ending.exit_code,
            output_bytes=ending.output_bytes,
            output_cut=ending.output_cut,
            output_gone=ending.output_gone,
            ended_at=now(),
        )
        if not settled:
            return False
        command = Command.objects.select_related("workspace").get(pk=command_id)
        publish(command, command.workspace.project_id)
        command_settled.send(sender=Command, command=command)
    return True


def note_running(command_id: uuid.UUID, *, pid: int, process_started: float) -> bool:
    """The command's process has begun; False when the row is past that."""
    with transaction.atomic():
        begun = Command.objects.filter(pk=command_id, state=CommandState.STARTING).update(
            state=CommandState.RUNNING, pid=pid, process_started=process_started, started_at=now()
        )
        if not begun:
            return False
        command = Command.objects.select_related("workspace").get(pk=command_id)
        publish(command, command.workspace.project_id)
    return True


def take_delivery(command_id: uuid.UUID | str) -> Command | None:
    """The settled command whose end its session is to be told of now; None when that was done, or is not wanted.

    Call it in the transaction that tells: then it is told at most once.
    """
    waiting = Command.objects.filter(pk=command_id, delivered_at__isnull=True).exclude(deliver_to="")
    if not waiting.exclude(state__in=ACTIVE).update(delivered_at=now()):
        return None
    return Command.objects.select_related("workspace").get(pk=command_id)


def publish(command: Command, project_id: uuid.UUID) -> None:
    """Tell the project's feed how the command stands. Inside the transaction that makes it true."""
    payload = {
        "command": str(command.pk),
        "workspace": str(command.workspace_id),
        "title": command.title,
        "kind": command.kind,
        "state": command.state,
        "exit_code": command.exit_code,
    }
    outbox.publish(project_id, f"command:{command.pk}", "command.state", payload)


def undelivered() -> list[uuid.UUID]:
    """Commands that ended a moment ago and whose session has not been told."""
    at = now()
    rows = Command.objects.filter(delivered_at__isnull=True, ended_at__lte=at - timedelta(seconds=2))
    return list(rows.exclude(deliver_to="").exclude(state__in=ACTIVE).values_list("pk", flat=True))


def _checked_text(text: str) -> str:
    if len(text) > TEXT_LIMIT:
        raise Invalid(
            f"The command has {len(text):,} characters; {TEXT_LIMIT:,} are possible. Put it into a script.",
            detail={"field": "command", "limit": TEXT_LIMIT},
        )
    body = text.replace("\r\n", "\n").strip()
    if not body:
        raise Invalid("Write the command that is to run.", detail={"field": "command"})
    if clean(body) != body:
        raise Invalid(
            "The command holds control characters or broken text, which bash could not be given as they are.",
            detail={"field": "command"},
        )
    return body


def _checked_limit(seconds: int | None) -> int:
    if seconds is None:
        return DEFAULT_SECONDS
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise Invalid(
            f"A command may run for 1 to {LONGEST_SECONDS:,} seconds.",
            detail={"field": "time_limit", "limit": LONGEST_SECONDS},
        )
    return seconds


def _title(text: str) -> str:
    return cut(" ".join(clean(text).split()), TITLE_LIMIT)


def _require_room(workspace: Workspace) -> None:
    if workspace.state != WorkspaceState.READY:
        raise Conflict(
            f"The checkout of {workspace.label} is not there (it is {workspace.state}), so nothing can run in it.",
            code="workspace_gone",
        )
    running = Command.objects.filter(state__in=ACTIVE, kind=CommandKind.COMMAND)
    if running.filter(workspace=workspace).count() >= ACTIVE_PER_WORKSPACE:
        raise Conflict(
            f"{ACTIVE_PER_WORKSPACE} commands run in this checkout already. Wait for one, or cancel it.",
            code="too_many_commands",
            detail={"limit": ACTIVE_PER_WORKSPACE},
        )
    if running.count() >= ACTIVE_IN_ALL:
        raise Conflict(
            f"{ACTIVE_IN_ALL} commands run in this studio already. Wait for one, or cancel it.",
            code="too_many_commands",
            detail={"limit": ACTIVE_IN_ALL},
        )


def find_command(command_id: uuid.UUID | str) -> Command:
    """The command with its workspace and project, whoever asks. Raises NotFound."""
    try:
        found = Command.objects.select_related("workspace__project").filter(pk=uuid.UUID(str(command_id))).first()
    except ValueError:
        found = None
    if found is None:
        raise NotFound("There is no such command.")
    return found
