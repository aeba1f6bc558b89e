"""The clean-up script of a project, before a checkout is removed: once, bounded in time, and no reason to keep the checkout."""

from __future__ import annotations

from django.db import transaction

from studio.kernel.errors import StudioError
from workspaces.commands.report import WORDS
from workspaces.commands.services import ACTIVE, start_command
from workspaces.models import (
    CommandKind,
    CommandState,
    DevServer,
    RequestedBy,
    ServerState,
    Workspace,
    WorkspaceSetup,
)
from workspaces.services.checkouts import checkout_path
from workspaces.setup.effective import setup_of
from workspaces.setup.ports import give_back
from workspaces.setup.selectors import read_row

TITLE = "Clean-up script"


def clean_up(workspace: Workspace) -> bool:
    """Whether the removal may go on. False: the script runs, and its end asks for the removal again. Idempotent."""
    row = read_row(workspace.pk)
    if row is not None and row.cleanup is not None:
        if row.cleanup.state in ACTIVE:
            return False
        if row.cleanup.state != CommandState.SUCCEEDED and not row.cleanup_note:
            said = f"The clean-up script {WORDS[CommandState(row.cleanup.state)]}. {row.cleanup.note}".strip()
            WorkspaceSetup.objects.filter(pk=row.pk).update(cleanup_note=said)
        return True
    try:
        setup = setup_of(workspace)
        there = checkout_path(workspace).is_dir()
    except StudioError as error:
        if row is not None:
            WorkspaceSetup.objects.filter(pk=row.pk).update(cleanup_note=f"No clean-up script ran. {error.message}")
        return True
    if not (setup.cleanup and there):
        return True
    _start(workspace, setup.cleanup, setup.cleanup_seconds)
    return False


def _start(workspace: Workspace, text: str, seconds: int) -> None:
    """Start the script unless another worker has."""
    with transaction.atomic():
        Workspace.objects.select_for_update(of=("self",)).get(pk=workspace.pk)
        row, _ = WorkspaceSetup.objects.get_or_create(workspace=workspace)
        if row.cleanup_id is None:
            row.cleanup = start_command(
                workspace=workspace,
                text=text,
                actor=None,
                title=TITLE,
                time_limit=seconds,
                requested_by=RequestedBy.STUDIO,
                kind=CommandKind.CLEANUP,
            )
            row.save(update_fields=["cleanup"])


def release(workspace: Workspace) -> None:
    """Give back what a checkout that is gone had: its port, and its place among the dev servers. Idempotent."""
    give_back(workspace)
    DevServer.objects.filter(workspace=workspace).update(
        state=ServerState.STOPPED, wanted=False, renew=False, note="Its checkout was removed."
    )
