"""How long workspaces stay: until their task is finished, the project's days after that, or until a person says."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction

from studio.kernel.clock import now
from studio.kernel.errors import Conflict
from studio.kernel.permissions import Role
from workspaces.commands.services import ACTIVE, request_end
from workspaces.models import Project, Workspace, WorkspaceState
from workspaces.selectors import require_role
from workspaces.services.leaving import Leaving, leaving_of
from workspaces.services.news import tell
from workspaces.services.removal import request_removal

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

REMOVALS_AT_ONCE = 5  # in one sweep, so that a hundred old checkouts do not keep every worker busy
SETTLING = timedelta(seconds=30)  # for what still ends in it: a turn that was stopped, a command
STAYING = (WorkspaceState.CREATING, WorkspaceState.READY, WorkspaceState.FAILED)


def release_workspace(workspace: Workspace) -> None:
    """Nobody needs the workspace any more: its commands end and its days begin. Idempotent.

    With no days to stay the next sweeps have it removed; what is not merged is kept.
    """
    with transaction.atomic():
        fresh = Workspace.objects.filter(pk=workspace.pk, finished_at__isnull=True, state__in=STAYING)
        if not fresh.update(finished_at=now()):
            return
        for command_id in workspace.commands.filter(state__in=ACTIVE).values_list("pk", flat=True):
            request_end(command_id, "Its task was finished.")
        tell(workspace)


def let_go(workspace: Workspace) -> bool:
    """Have the workspace removed now, unless a person keeps it; whether it goes."""
    if Workspace.objects.filter(pk=workspace.pk, keep=True).exclude(state=WorkspaceState.REMOVING).exists():
        Workspace.objects.filter(pk=workspace.pk, finished_at__isnull=True).update(finished_at=now())
        return False
    request_removal(workspace)
    return True


def hold_workspace(*, actor: Person, workspace: Workspace, keep: bool) -> Workspace:
    """Keep the workspace until a person says otherwise, or let its days count again. Needs the role reviewer.

    Raises Conflict for one that is gone or on its way.
    """
    require_role(actor, workspace.project, Role.REVIEWER)
    with transaction.atomic():
        if not Workspace.objects.filter(pk=workspace.pk, state__in=STAYING).update(keep=keep):
            workspace.refresh_from_db(fields=["state"])
            raise Conflict(workspace.absence, allowed=[])
        tell(workspace)
    workspace.keep = keep
    return workspace


def look_before_removal(*, actor: Person, workspace: Workspace) -> Leaving:
    """What would go with the checkout now, and what of it is kept. Needs the role viewer.

    Raises Conflict when it has gone, or its task is not finished.
    """
    require_role(actor, workspace.project, Role.VIEWER)
    row = Workspace.objects.select_related("project").get(pk=workspace.pk)
    _require_removable(row)
    return leaving_of(row)


def discard_workspace(*, actor: Person, workspace: Workspace, confirmed: bool = False) -> None:
    """Remove the workspace of a finished task now; what is not merged is kept. Needs the role maintainer.

    Raises Conflict while its task is not finished: its work goes on in it; and unless `confirmed` when something would go that
    is not kept. A removal that was begun and failed is tried again without being asked for twice.
    """
    require_role(actor, workspace.project, Role.MAINTAINER)
    row = Workspace.objects.select_related("project").get(pk=workspace.pk)
    _require_removable(row)
    if not confirmed and row.state != WorkspaceState.REMOVING:
        _require_nothing_lost(row)
    request_removal(row)


def _require_nothing_lost(row: Workspace) -> None:
    found = leaving_of(row)
    if not found.needs_confirmation:
        return
    many = "1 ignored file" if found.lost_files == 1 else f"{found.lost_files} ignored files"
    named = (
        f" ({', '.join(one.name for one in found.lost[:3])}{', …' if len(found.lost) > 3 else ''})"
        if found.lost
        else ""
    )
    why = (
        f"it cannot be said what would go: {found.unknown}"
        if found.unknown
        else f"{many}{named} would go and are not kept."
    )
    raise Conflict(
        f"The checkout of {row.label} was not removed, because {why} Look at what goes first, then confirm the removal.",
        code="confirmation_needed",
        allowed=[],
        detail={"lost_files": found.lost_files, "lost_bytes": found.lost_bytes},
    )


def _require_removable(row: Workspace) -> None:
    if row.state == WorkspaceState.REMOVED:
        raise Conflict(f"The checkout of {row.label} has been removed already.", allowed=[])
    if row.finished_at is None and row.state != WorkspaceState.REMOVING:
        raise Conflict(
            f"{row.label} is not finished, and its work goes on in this checkout. Complete or cancel the task first.",
            allowed=["keep"],
        )


def remove_due() -> int:
    """Request the removal of workspaces whose days are over, the oldest first and a few at a time; how many."""
    at = now()
    finished = Workspace.objects.filter(finished_at__isnull=False, keep=False, state__in=STAYING)
    found = 0
    for days in (
        Project.objects.filter(retention_days__isnull=False).values_list("retention_days", flat=True).distinct()
    ):
        stay = max(timedelta(days=days or 0), SETTLING)
        rows = finished.filter(project__retention_days=days, finished_at__lte=at - stay)
        for row in rows.order_by("finished_at")[: REMOVALS_AT_ONCE - found]:
            request_removal(row)
            found += 1
    return found
