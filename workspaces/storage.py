"""What a project's checkouts and kept work take, for its page, the API and the warnings. Reads rows and one disk figure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import F, Prefetch, Sum

from workspaces.disk import MEGABYTE, Disk, disk
from workspaces.models import KeptWork, Project, Workspace, WorkspaceState
from workspaces.selectors import projects_visible_to
from workspaces.services.checkouts import Away, require_repository
from workspaces.services.ownership import unknown_folders

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from workspaces.selectors import Person

SHOWN = 200  # rows of each list on the page; the rest is counted
FOLDERS_SHOWN = 100  # unknown folders that are named; the rest is counted


@dataclass(frozen=True, slots=True)
class Stored:
    """What a project takes on the disk."""

    checkout_bytes: int
    kept_bytes: int
    quota_bytes: int | None

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.checkout_bytes + self.kept_bytes

    @property
    def over(self) -> bool:
        """Whether that is more than its people wanted."""
        return self.quota_bytes is not None and self.bytes > self.quota_bytes


@dataclass(frozen=True, slots=True)
class Storage:
    """A project's storage page."""

    stored: Stored
    disk: Disk
    away: str  # why the repository cannot be used now; empty when it can
    workspaces: list[Workspace]
    kept: list[KeptWork]
    more: int  # rows that are not listed


def checkouts_of(project: Project) -> QuerySet[Workspace]:
    """The workspaces that are still there, the largest first."""
    rows = Workspace.objects.filter(project=project).exclude(state=WorkspaceState.REMOVED)
    return rows.select_related("project", "restores").order_by(F("size_bytes").desc(nulls_last=True), "-created_at")


def kept_of(project: Project) -> QuerySet[KeptWork]:
    """The kept work that is still there, the newest first, with the checkouts that were made from it."""
    rows = KeptWork.objects.filter(project=project, deleted_at__isnull=True).select_related("project", "workspace")
    return rows.prefetch_related(restored())


def restored() -> Prefetch[str]:
    """The checkouts that kept work was restored in and that are still there."""
    return Prefetch("restored_in", Workspace.objects.exclude(state=WorkspaceState.REMOVED).order_by("-created_at"))


def stored_by(project: Project) -> Stored:
    """What the project takes, as last measured."""
    checkouts = checkouts_of(project).aggregate(whole=Sum("size_bytes"))["whole"] or 0
    kept = kept_of(project).aggregate(patches=Sum("patch_bytes"), bundles=Sum("bundle_bytes"))
    quota = project.quota_mb * MEGABYTE if project.quota_mb is not None else None
    return Stored(checkouts, (kept["patches"] or 0) + (kept["bundles"] or 0), quota)


def storage_of(project: Project) -> Storage:
    """Everything on the project's storage page."""
    checkouts, kept = checkouts_of(project), kept_of(project)
    more = max(0, checkouts.count() - SHOWN) + max(0, kept.count() - SHOWN)
    return Storage(
        stored_by(project), disk(), repository_trouble(project), list(checkouts[:SHOWN]), list(kept[:SHOWN]), more
    )


def repository_trouble(project: Project) -> str:
    """Why the project's repository cannot be used now, in words; empty when it is at its place."""
    try:
        require_repository(project)
    except Away as away:
        return away.message
    return ""


def goes_at(workspace: Workspace) -> datetime | None:
    """When a finished workspace goes by itself; None: not before somebody says so."""
    days = workspace.project.retention_days
    if workspace.finished_at is None or workspace.keep or days is None:
        return None
    return workspace.finished_at + timedelta(days=days)


def kept_until(kept: KeptWork) -> datetime | None:
    """When kept work goes by itself; None: not before somebody says so, or was shown it."""
    if settings.STUDIO_KEPT_DAYS is None or kept.keep or kept.folder or kept.seen_at is None:
        return None
    return kept.seen_at + timedelta(days=settings.STUDIO_KEPT_DAYS)


def storage_notes(user: Person | None) -> list[str]:
    """What `user` should know of disks and folders, as sentences; empty when all is well.

    Of projects that is what the person may see of them. None is the operator at the command line, who like a superuser
    also reads of folders that no project has.
    """
    projects = (Project.objects.all() if user is None else projects_visible_to(user)).order_by("name")
    notes = [disk().message] if disk().low else []
    for project, stored in _over_quota(projects):
        used, quota = stored.bytes // MEGABYTE, (stored.quota_bytes or 0) // MEGABYTE
        notes.append(f"{project.name} takes {used} MB of the {quota} MB that its people set as a limit.")
    for project in projects:
        if away := repository_trouble(project):
            notes.append(away)
    if user is None or getattr(user, "is_superuser", False):
        unknown = unknown_folders()
        notes += [
            f"Unknown folder: {folder}. No task has it, and the studio never deletes what it did not make."
            for folder in unknown[:FOLDERS_SHOWN]
        ]
        if len(unknown) > FOLDERS_SHOWN:
            notes.append(f"Unknown folders besides these: {len(unknown) - FOLDERS_SHOWN}.")
    return notes


def _over_quota(projects: QuerySet[Project]) -> list[tuple[Project, Stored]]:
    found = [(project, stored_by(project)) for project in projects.filter(quota_mb__isnull=False)]
    return [(project, stored) for project, stored in found if stored.over]
