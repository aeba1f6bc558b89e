"""A project's storage page: checkouts and kept work with what they take, and what people do about them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from studio import outbox
from studio.kernel.errors import Invalid, NotFound, StudioError
from studio.kernel.pages import is_fragment, say, status_of
from studio.kernel.permissions import Role, at_least
from workspaces import services
from workspaces.models import KeptWork, MergedHow, Project, Workspace, WorkspaceState
from workspaces.models.project import MOST_DAYS, MOST_MEGABYTES
from workspaces.selectors import project_by, require_role, workspace_visible_to
from workspaces.storage import goes_at, kept_of, kept_until, storage_of
from workspaces.storage_api import sent

DIGITS = 20  # of a number that is read at all
LIMITS = {  # of each: how its sentence begins, the range, and what empty means
    "retention_days": ("Days are", 0, MOST_DAYS, "for ever"),
    "quota_mb": ("Megabytes are", 1, MOST_MEGABYTES, "that nobody is warned"),
}
MERGED: dict[str, str] = {
    MergedHow.MERGE: "Merged as {commit}",
    MergedHow.SQUASH: "Merged, squashed as {commit}",
    MergedHow.REBASE: "Merged, rebased as {commit}",
    MergedHow.PULL_REQUEST: "Merged by a pull request as {commit}",
    MergedHow.TAKEN_BACK: "Merged as {commit} and taken back since; its commits are in the history of {branch}",
}


@dataclass(frozen=True, slots=True)
class CheckoutView:
    """A checkout on the page."""

    row: Workspace
    goes_at: datetime | None

    @property
    def look(self) -> tuple[str, str]:
        """Its state in words, and the tone."""
        if self.row.trouble or self.row.state == WorkspaceState.FAILED:
            return ("damaged" if self.row.trouble else "not made"), "red"
        if self.row.state == WorkspaceState.REMOVING:
            return ("waits to be removed" if self.row.error else "being removed"), "amber"
        if self.row.state == WorkspaceState.CREATING:
            return "being made", "accent"
        if self.row.finished_at and self.row.restores_id:
            return "restored", "accent"
        return ("finished", "grey") if self.row.finished_at else ("in work", "green")

    @property
    def unmerged(self) -> str:
        """What is in it and nowhere else, in words; empty when that is nothing, or not known yet."""
        parts = []
        if self.row.ahead:
            parts.append(f"{self.row.ahead} commit{'s' if self.row.ahead != 1 else ''}")
        if self.row.uncommitted:
            parts.append(f"{self.row.uncommitted} uncommitted file{'s' if self.row.uncommitted != 1 else ''}")
        return ", ".join(parts)

    @property
    def merged(self) -> str:
        """By which recorded merge its target has it, in words; empty when by none."""
        if not self.row.merged_how:
            return ""
        commit = self.row.merged_as[:8]
        return MERGED[self.row.merged_how].format(commit=commit, branch=self.row.base_branch)

    @property
    def is_known(self) -> bool:
        """Whether the last look could tell what is merged and what is not."""
        return self.row.looked_at is not None and None not in (self.row.ahead, self.row.uncommitted)


@require_http_methods(["GET", "POST"])
def storage(request: HttpRequest, key: str) -> HttpResponse:
    """The page; a POST changes the project's limits, which only an owner may."""
    project = project_by(key)
    role = require_role(request.user, project, Role.VIEWER)
    wrong: dict[str, Any] = {}
    if request.method == "POST":
        try:
            services.update_project(actor=request.user, project=project, **_limits(request))
        except StudioError as error:
            wrong = {"message": error.message, "status": status_of(error)}
        else:
            messages.success(request, "Saved.")
            return redirect("project-storage", key=project.key)
    cursor = outbox.project_head(str(project.pk))
    found = storage_of(project)
    services.mark_seen(kept_of(project))
    values = {name: getattr(project, name) for name in LIMITS}
    context = {
        "project": project,
        "cursor": cursor,
        "storage": found,
        "used_share": _share(found.stored.bytes, found.stored.quota_bytes),
        "checkouts": [CheckoutView(row, goes_at(row)) for row in found.workspaces],
        "kept": [(row, kept_until(row)) for row in found.kept],
        "values": {name: request.POST.get(name, "") for name in LIMITS} if wrong else values,
        "wrong": wrong,
        "may_hold": at_least(role, Role.REVIEWER),
        "may_work": at_least(role, Role.MAINTAINER),
        "may_configure": role == Role.OWNER,
    }
    template = "workspaces/_storage.html" if is_fragment(request) else "workspaces/storage.html"
    return render(request, template, context, status=wrong.get("status", 200))


def _share(used: int, quota: int | None) -> int | None:
    return min(100, used * 100 // quota) if quota else None


def _limits(request: HttpRequest) -> dict[str, int | None]:
    return {name: _limit(name, request.POST.get(name, "").strip()) for name in LIMITS}


def _limit(name: str, given: str) -> int | None:
    if not given:
        return None
    begins, least, most, empty = LIMITS[name]
    value = int(given) if given.isdecimal() and len(given) <= DIGITS else None
    if value is None or not least <= value <= most:
        raise Invalid(f"{begins} a whole number from {least} to {most}; empty means {empty}.", detail={"field": name})
    return value


@require_POST
def relocate(request: HttpRequest, key: str) -> HttpResponse:
    """Name the new place of a repository that was moved."""
    project = project_by(key)
    require_role(request.user, project, Role.VIEWER)
    try:
        services.relocate_project(actor=request.user, project=project, path=request.POST.get("path", ""))
    except StudioError as error:
        say(request, error)
    else:
        messages.success(request, "The repository is found again. What waited for it goes on.")
    return redirect("project-storage", key=project.key)


def _hold(request: HttpRequest, workspace: Workspace) -> str:
    services.hold_workspace(actor=request.user, workspace=workspace, keep=True)
    return f"The checkout of {workspace.label} stays until you say otherwise."


def _free(request: HttpRequest, workspace: Workspace) -> str:
    services.hold_workspace(actor=request.user, workspace=workspace, keep=False)
    return f"The checkout of {workspace.label} goes when its days are over."


def _repair(request: HttpRequest, workspace: Workspace) -> str:
    return " ".join(services.repair_workspace(actor=request.user, workspace=workspace))


WORKSPACE_ACTIONS: dict[str, Callable[[HttpRequest, Workspace], str]] = {
    "keep": _hold,
    "free": _free,
    "repair": _repair,
}


@require_POST
def workspace_do(request: HttpRequest, workspace_id: uuid.UUID, action: str) -> HttpResponse:
    """Do something with a checkout and say how it went, on the page that it came from."""
    workspace = workspace_visible_to(request.user, workspace_id)
    if action not in WORKSPACE_ACTIONS:
        raise NotFound("There is no such action.")
    return _done(request, workspace.project, lambda: WORKSPACE_ACTIONS[action](request, workspace))


@require_http_methods(["GET", "POST"])
def workspace_remove(request: HttpRequest, workspace_id: uuid.UUID) -> HttpResponse:
    """What goes with a checkout, to be confirmed; a POST that confirms just that has the checkout removed."""
    workspace = workspace_visible_to(request.user, workspace_id)
    project = workspace.project
    if request.method == "POST":
        confirm = request.POST.get("confirm", "")
        try:
            services.discard_workspace(actor=request.user, workspace=workspace, confirm=confirm)
        except StudioError as error:
            say(request, error)
            if error.code == "confirmation_needed":
                return redirect("workspace-remove", workspace_id=workspace.pk)
        else:
            messages.success(
                request, f"The checkout of {workspace.label} is being removed. What is not merged is kept."
            )
        return redirect("project-storage", key=project.key)
    require_role(request.user, project, Role.MAINTAINER)
    try:
        found = services.look_before_removal(actor=request.user, workspace=workspace)
    except StudioError as error:
        say(request, error)
        return redirect("project-storage", key=project.key)
    view = CheckoutView(workspace, goes_at(workspace))
    context = {"project": project, "workspace": workspace, "found": found, "merged": view.merged}
    return render(request, "workspaces/remove.html", context)


def _keep_kept(request: HttpRequest, kept: KeptWork) -> str:
    services.hold_kept(actor=request.user, kept=kept, keep=True)
    return f"What was kept of {kept.label} stays until you say otherwise."


def _free_kept(request: HttpRequest, kept: KeptWork) -> str:
    services.hold_kept(actor=request.user, kept=kept, keep=False)
    return f"What was kept of {kept.label} goes when its time is over."


def _restore(request: HttpRequest, kept: KeptWork) -> str:
    row = services.restore_kept(actor=request.user, kept=kept)
    return f"A checkout is being made on the branch {row.branch}."


def _delete(request: HttpRequest, kept: KeptWork) -> str:
    services.delete_kept(actor=request.user, kept=kept)
    return f"What was kept of {kept.label} is deleted."


KEPT_ACTIONS: dict[str, Callable[[HttpRequest, KeptWork], str]] = {
    "keep": _keep_kept,
    "free": _free_kept,
    "restore": _restore,
    "delete": _delete,
}


@require_POST
def kept_do(request: HttpRequest, kept_id: uuid.UUID, action: str) -> HttpResponse:
    """Do something with kept work and say how it went."""
    kept = services.find_kept(request.user, kept_id)
    if action not in KEPT_ACTIONS or kept.project is None:
        raise NotFound("There is no such action.")
    return _done(request, kept.project, lambda: KEPT_ACTIONS[action](request, kept))


def _done(request: HttpRequest, project: Project, do: Callable[[], str]) -> HttpResponse:
    try:
        messages.success(request, do())
    except StudioError as error:
        say(request, error)
    back = request.POST.get("back", "")
    if back.startswith("/") and url_has_allowed_host_and_scheme(back, allowed_hosts=None):
        return redirect(back)
    return redirect("project-storage", key=project.key)


@require_GET
def kept_file(request: HttpRequest, kept_id: uuid.UUID, form: str) -> StreamingHttpResponse:
    """Download the patch or the bundle."""
    return sent(services.open_kept(services.find_kept(request.user, kept_id), form))
