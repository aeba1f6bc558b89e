"""Registering a repository, a project's settings, and the difference that a checkout holds."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.conf import settings as configuration
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from studio.kernel.errors import Forbidden, Invalid, StudioError
from studio.kernel.pages import is_fragment, number, status_of
from studio.kernel.permissions import Role
from workspaces.diff import FileDiff
from workspaces.diff_colours import coloured
from workspaces.diff_looks import look_of, range_of, without_space
from workspaces.selectors import NO_REGISTERING, may_register, project_by, require_role, workspace_visible_to
from workspaces.services import checkout_note, diff_for, register_project, update_project

FIELDS = ("path", "name", "key")
SWITCHES = ("plan_approval", "auto_complete", "trusted")
NUMBERS = ("max_review_rounds", "max_parallel_runs")

OPEN_LINES = 2_500  # lines of a change that are on its page from the start
OPEN_FILE_LINES = 600  # of one file


@dataclass(frozen=True, slots=True)
class FileView:
    """A changed file on the page. `lazy`: its lines are fetched when it is opened."""

    file: FileDiff
    open: bool
    lazy: bool
    lines: int

    @property
    def letter(self) -> str:
        """Its status as git abbreviates it."""
        return self.file.status[:1].upper()


@require_http_methods(["GET", "POST"])
def register(request: HttpRequest) -> HttpResponse:
    """Register a repository. What is wrong with it is said next to the field, in the service's words."""
    if not may_register(request.user):
        raise Forbidden(NO_REGISTERING)
    wrong: dict[str, Any] = {}
    if request.method == "POST":
        posted = {name: request.POST.get(name, "").strip() for name in FIELDS}
        try:
            project = register_project(
                actor=request.user, path=posted["path"], name=posted["name"] or None, key=posted["key"].upper() or None
            )
        except StudioError as error:
            wrong = {"field": error.detail.get("field", ""), "message": error.message, "status": status_of(error)}
        else:
            messages.success(request, f"{project.name} is registered. Write the first task.")
            if note := checkout_note(project):
                messages.info(request, note)
            return redirect("board", key=project.key)
    roots = configuration.STUDIO_REPOSITORY_ROOTS
    context = {
        "posted": request.POST,
        "wrong": wrong,
        "fields": FIELDS,
        "roots": roots,
        "example": Path(roots[0]) / "code" / "my-repository" if roots else "",
    }
    return render(request, "workspaces/register.html", context, status=wrong.get("status", 200))


@require_http_methods(["GET", "POST"])
def settings(request: HttpRequest, key: str) -> HttpResponse:
    """What an owner may change of a project."""
    project = project_by(key)
    require_role(request.user, project, Role.OWNER)
    wrong: dict[str, Any] = {}
    values: dict[str, Any] = {name: getattr(project, name) for name in ("name", "default_branch", *SWITCHES, *NUMBERS)}
    if request.method == "POST":
        values = _values(request)
        try:
            for name in NUMBERS:
                if not values[name].isdecimal():
                    raise Invalid("Rounds and agents are whole numbers.", detail={"field": name})
            fields = {**values, **{name: int(values[name]) for name in NUMBERS}}
            project = update_project(actor=request.user, project=project, **fields)
        except StudioError as error:
            wrong = {"message": error.message, "status": status_of(error)}
        else:
            messages.success(request, "Saved.")
            return redirect("project-settings", key=project.key)
    context = {"project": project, "values": values, "wrong": wrong}
    return render(request, "workspaces/settings.html", context, status=wrong.get("status", 200))


def _values(request: HttpRequest) -> dict[str, Any]:
    posted = request.POST
    texts = {name: posted.get(name, "").strip() for name in ("name", "default_branch", *NUMBERS)}
    return {**texts, **{name: posted.get(name) == "1" for name in SWITCHES}}


@require_GET
def diff(request: HttpRequest, workspace_id: uuid.UUID) -> HttpResponse:
    """Everything in the checkout against its base, or one round of it; with `file` that file alone, however long it is."""
    found = workspace_visible_to(request.user, workspace_id)
    asked = request.GET.get("file", "")
    offset = number(request, "offset") or 0
    look = look_of(request)
    context: dict[str, Any] = {"workspace": found, "project": found.project, "look": look}
    try:
        base, head = range_of(found, look.round)
        change = diff_for(found, base=base, head=head, file=asked, offset=offset)
        files = [without_space(file) for file in change.files] if look.hide_space else change.files
        context |= {"diff": change, "files": shown(files), "next_offset": offset + len(files)}
        if asked and is_fragment(request):
            return render(request, "workspaces/_diff_lines.html", {"f": coloured(files)[0], "look": look})
    except StudioError as error:
        context["trouble"] = error.message
    template = "workspaces/_diff.html" if is_fragment(request) else "workspaces/diff.html"
    return render(request, template, context)


def shown(files: list[FileDiff]) -> list[FileView]:
    """The files as the page begins with them: the first ones open, the rest as lines that open when they are asked for."""
    views: list[FileView] = []
    room = OPEN_LINES
    for file in files:
        lines = sum(len(hunk.lines) for hunk in file.hunks)
        fits = not file.collapsed and lines <= min(room, OPEN_FILE_LINES)
        only = len(files) == 1 and not file.collapsed
        if fits:
            room -= lines
        views.append(FileView(file, open=fits or only, lazy=not (fits or only), lines=file.additions + file.deletions))
    begun = iter(coloured([view.file for view in views if not view.lazy]))
    return [view if view.lazy else replace(view, file=next(begun)) for view in views]
