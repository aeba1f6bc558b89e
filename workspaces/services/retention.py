"""How long workspaces stay: until their task is finished, the project's days after that, or until a person says."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction

from studio.kernel.clock import now
from studio.kernel.errors import Conflict
from studio.kernel.permissions import Role
from workspaces.commands.services import ACTIVE, request_end
from workspaces.locks import Busy, held
from workspaces.models import Project, Workspace, WorkspaceState
from workspaces.selectors import require_role
from workspaces.services.leaving import Leaving, leaving_of
from workspaces.services.news import tell
from workspaces.services.removal import request_removal

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

REMOVALS_AT_ONCE = 5  # in one sweep, so that a hundred old checkouts do not keep every worker busy
LOCK_PATIENCE = 5.0  # seconds that a person who confirms waits for whoever else is in the checkout
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
    if request_removal(workspace, unless_kept=True):
        return True
    kept = Workspace.objects.filter(pk=workspace.pk, state__in=STAYING)
    kept.filter(finished_at__isnull=True).update(finished_at=now())
    return not kept.exists()


def hold_workspace(*, actor: Person, workspace: Workspace, keep: bool) -> Workspace:
    """Keep the workspace until a person says otherwise, or let its days count again. Needs the role reviewer.

    Raises Conflict for one that is gone or on its way.
    """
    require_role(actor, workspace.project, Role.REVIEWER)
    with transaction.atomic():
        if not Workspace.objects.filter(pk=workspace.pk, state__in=STAYING).update(keep=keep):
            workspace.refresh_from_db(fields=["state"])
            raise Conflict(workspace.absence, allowed=[])
        # Why it was not removed is answered by that; why one could not be made is not.
        Workspace.objects.filter(pk=workspace.pk, state=WorkspaceState.READY).update(error="")
        tell(workspace)
    workspace.keep = keep
    return workspace


def look_before_removal(*, actor: Person, workspace: Workspace) -> Leaving:
    """What would go with the checkout now, and what of it is kept. Needs the role maintainer, as the removal does.

    Raises Conflict when it has gone, or its task is not finished.
    """
    require_role(actor, workspace.project, Role.MAINTAINER)
    row = Workspace.objects.select_related("project").get(pk=workspace.pk)
    _require_removable(row)
    return leaving_of(row)


def discard_workspace(*, actor: Person, workspace: Workspace, confirm: str = "") -> None:
    """Remove the workspace of a finished task now; what is not merged is kept. Needs the role maintainer.

    `confirm` is the fingerprint of what the person was shown. Raises Conflict while its task is not finished: its work goes on
    in it; without `confirm` when something would go that is not kept; and when what goes is not what was shown. What goes is
    compared once more right before it does. A removal that was begun and failed is tried again without being asked for twice.
    """
    require_role(actor, workspace.project, Role.MAINTAINER)
    row = Workspace.objects.select_related("project").get(pk=workspace.pk)
    _require_removable(row)
    remove_confirmed(row, confirm)


def remove_confirmed(row: Workspace, confirm: str) -> None:
    """Have the workspace removed by somebody who was shown what goes, as `confirm` says; see `discard_workspace`."""
    if row.state == WorkspaceState.REMOVING:
        request_removal(row, confirmed=row.confirmed)
        return
    try:
        with held(f"workspace:{row.pk}", patience=LOCK_PATIENCE):
            found = leaving_of(row)
            _require_confirmed(row, found, confirm)
            request_removal(row, confirmed=found.fingerprint if row.state == WorkspaceState.READY else "")
    except Busy:
        raise Conflict(
            f"The checkout of {row.label} was not removed: the studio is at work in it just now. Wait, then try again.",
            allowed=[],
        ) from None


def _require_confirmed(row: Workspace, found: Leaving, confirm: str) -> None:
    if confirm == found.fingerprint or not (confirm or found.needs_confirmation):
        return
    why = "what goes with it has changed since it was shown." if confirm else _loss(found)
    raise Conflict(
        f"The checkout of {row.label} was not removed, because {why} Look at what goes now, then confirm the removal.",
        code="confirmation_needed",
        allowed=[],
        detail={
            "confirm": found.fingerprint,
            "not_merged": found.standing.beyond,
            "uncommitted": found.uncommitted,
            "lost": [asdict(one) for one in found.lost],
            "lost_more": found.lost_more,
            "lost_files": found.lost_files,
            "lost_bytes": found.lost_bytes,
            "lost_partial": found.lost_partial,
            "unknown": found.unknown,
        },
    )


def _loss(found: Leaving) -> str:
    """What would go that is not kept, as a sentence."""
    if found.unknown:
        return f"it cannot be said what would go: {found.unknown}"
    many = "1 ignored file" if found.lost_files == 1 else f"{found.lost_files} ignored files"
    named = (
        f" ({', '.join(one.name for one in found.lost[:3])}{', …' if len(found.lost) > 3 else ''})"
        if found.lost
        else ""
    )
    return f"{many}{named} would go and {'is' if found.lost_files == 1 else 'are'} not kept."


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
            found += request_removal(row, unless_kept=True)  # somebody may have kept it since it was read
    return found
