"""The setup of a checkout, step by step: a port, copies, links, variables, then the script as a command in the background.

Once per checkout, unless it failed or somebody asks again. What is placed is written down and excluded before it is there, so
a crash in between leaves nothing behind that could be committed. Nothing waits here: whoever needs the setup asks again.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from django.db import transaction

from studio import outbox
from studio.kernel.clock import now
from studio.kernel.errors import Conflict, StudioError, Upstream
from studio.kernel.faultpoints import reach
from studio.kernel.permissions import Role
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces.commands.services import start_command
from workspaces.locks import held
from workspaces.models import (
    CommandKind,
    CommandState,
    RequestedBy,
    Workspace,
    WorkspaceSetup,
    WorkspaceState,
)
from workspaces.selectors import require_role
from workspaces.services.checkouts import LOCK_PATIENCE, opened
from workspaces.setup.config import Setup
from workspaces.setup.effective import setup_of
from workspaces.setup.environment import variables
from workspaces.setup.placing import place, plan
from workspaces.setup.selectors import DONE, FAILED, NONE, RUNNING, Standing, read_row, standing_of

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

NOTES_KEPT = 50
LOST_TRIES = 3  # starts for one run when the script's process is lost, as when the machine is switched off
TITLE = "Setup script"
AGAIN = "again"


def ensure_setup(workspace: Workspace, *, origin: str) -> Standing:
    """Take the setup of a ready checkout further, for `origin`; how it stands then. Idempotent.

    One that failed is begun again, once for each `origin`. Raises Invalid for a setup that cannot be used, and Upstream.
    """
    standing = standing_of(read_row(workspace.pk))
    if standing.state in (RUNNING, DONE) or _is_final(workspace, standing, origin):
        return standing
    return _begin(workspace, origin)


def _is_final(workspace: Workspace, standing: Standing, origin: str) -> bool:
    """Whether the setup failed for this very `origin`."""
    command = standing.command
    if standing.state != FAILED or command is None or command.origin != origin:
        return False
    tries = workspace.commands.filter(kind=CommandKind.SETUP, origin=origin).count()
    return command.state != CommandState.LOST or tries >= LOST_TRIES


def run_again(*, workspace: Workspace, actor: Person) -> None:
    """Have the setup run once more: copies and links are made anew, then the script runs. Needs the role maintainer.

    Raises Conflict while it runs and when the checkout is gone.
    """
    require_role(actor, workspace.project, Role.MAINTAINER)
    with transaction.atomic():
        live = Workspace.objects.select_for_update(of=("self",)).get(pk=workspace.pk)
        if live.state != WorkspaceState.READY:
            raise Conflict(
                f"The checkout of {live.label} is {live.state}; there is nothing to set up.", code="workspace_gone"
            )
        if standing_of(read_row(live.pk)).state == RUNNING:
            raise Conflict("The setup is running already. Wait for it, or cancel its script.", code="setup_running")
        WorkspaceSetup.objects.update_or_create(workspace=live, defaults={"again": True})
        publish(live, RUNNING)
        enqueue(Names.RUN_SETUP, live.pk)


def run_asked(workspace_id: uuid.UUID | str) -> None:
    """Begin the setup that somebody asked for again. Idempotent; what goes wrong is said in the row."""
    row = (
        WorkspaceSetup.objects.select_related("workspace__project")
        .filter(workspace_id=workspace_id, again=True)
        .first()
    )
    if row is None:
        return
    try:
        if row.workspace.state == WorkspaceState.READY:
            _begin(row.workspace, AGAIN)
    except StudioError as error:
        if isinstance(error, Upstream) and error.transient:
            return  # the sweeper asks again
        _fail(row.workspace, error.message)
    WorkspaceSetup.objects.filter(pk=row.pk).update(again=False)


def _begin(workspace: Workspace, origin: str) -> Standing:
    """Place what is to be placed and start the script. Raises StudioError."""
    setup = setup_of(workspace)
    if setup.is_empty:
        return Standing(NONE)
    try:
        with held(f"workspace:{workspace.pk}", patience=LOCK_PATIENCE):
            standing = standing_of(row := read_row(workspace.pk))
            if standing.state == RUNNING and not (row is not None and row.again):
                return standing  # somebody else was first
            notes = _place(workspace, setup)
            reach("setup.placed")
            return _start_script(workspace, setup, notes, origin)
    except OSError as error:
        sentence = f"The checkout could not be set up: {error.strerror}."
        _fail(workspace, sentence)
        raise Upstream(sentence, code="setup_failed") from error


def _place(workspace: Workspace, setup: Setup) -> list[str]:
    """Fill the checkout; what was left out, in words."""
    known = variables(workspace, setup)
    row = WorkspaceSetup.objects.get(workspace=workspace)
    with opened(workspace) as (vcs, checkout):
        made = plan(setup, Path(workspace.project.path), checkout, row.placed)
        earlier = [path for path in row.placed if os.path.lexists(checkout / path)]
        row.placed = list(dict.fromkeys([*made.paths, *earlier]))
        row.save(update_fields=["placed"])
        for path in vcs.exclude(checkout, row.placed):
            made.leave_out(path, "it is tracked, so it is left alone.")
        return made.notes + place(made, checkout, known)


def _start_script(workspace: Workspace, setup: Setup, notes: list[str], origin: str) -> Standing:
    with transaction.atomic():
        command = None
        if setup.script:
            command = start_command(
                workspace=workspace,
                text=setup.script,
                actor=None,
                title=TITLE,
                time_limit=setup.script_seconds,
                requested_by=RequestedBy.STUDIO,
                origin=origin,
                kind=CommandKind.SETUP,
            )
        kept = [cut(clean(note), 300) for note in notes[:NOTES_KEPT]]
        WorkspaceSetup.objects.filter(workspace=workspace).update(
            placed_at=now(), notes=kept, error="", again=False, command=command
        )
        publish(workspace, RUNNING if command else DONE)
    return Standing(RUNNING if command else DONE, command)


def _fail(workspace: Workspace, sentence: str) -> None:
    with transaction.atomic():
        WorkspaceSetup.objects.update_or_create(
            workspace=workspace, defaults={"error": cut(clean(sentence), 1_000), "again": False}
        )
        publish(workspace, FAILED)


def publish(workspace: Workspace, state: str) -> None:
    """Tell the project's feed how the setup stands. Inside the transaction that makes it true."""
    payload = {"workspace": str(workspace.pk), "state": state}
    outbox.publish(workspace.project_id, f"workspace:{workspace.pk}", "workspace.setup", payload)
