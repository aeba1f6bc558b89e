"""The parts of a task's page about its merge, read when they are shown: what it would be, and the sides of its conflicts."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from studio.kernel.errors import Conflict, NotFound, StudioError
from tasks import selectors
from tasks.models import Task
from workspaces.models import Workspace
from workspaces.services import conflicted_files, preview_merge
from workspaces.services.merges.request import WAYS

SIDES = (
    ("target", "On {target}"),
    ("source", "This task"),
    ("base", "What both began from"),
    ("merged", "Both, marked"),
)


@require_GET
def merge_preview(request: HttpRequest, ref: str) -> HttpResponse:
    """What the merge that the form describes would be."""
    task, workspace = _subject(request, ref)
    how = request.GET.get("how", "")
    context: dict[str, Any] = {"task": task}
    try:
        target = request.GET.get("target", "")
        context["preview"] = preview_merge(workspace, target=target, how=how if how in WAYS else "merge")
    except StudioError as error:
        context["trouble"] = error.message
    return render(request, "tasks/_merge_preview.html", context)


@require_GET
def conflicts(request: HttpRequest, ref: str) -> HttpResponse:
    """The files in which the last merge conflicts now; with `file` the sides of that one."""
    task, workspace = _subject(request, ref)
    merge = selectors.last_conflict(task)
    how, target = (merge.how, merge.target_branch) if merge is not None else ("merge", workspace.base_branch)
    asked = request.GET.get("file", "")
    context: dict[str, Any] = {"task": task, "target": target}
    try:
        found = conflicted_files(workspace, target=target, how=how, file=asked)
    except StudioError as error:
        context["trouble"] = error.message
        return render(request, "tasks/_conflicts.html", context)
    if not asked:
        return render(request, "tasks/_conflicts.html", {**context, "files": found})
    if not found:
        raise NotFound("This file is not in conflict any more.")
    sides = [(name, label.format(target=target), getattr(found[0], name)) for name, label in SIDES]
    return render(request, "tasks/_conflict_file.html", {**context, "file": found[0], "sides": sides})


def _subject(request: HttpRequest, ref: str) -> tuple[Task, Workspace]:
    task = selectors.by_ref(request.user, ref)
    if task.workspace is None:
        raise Conflict(f"{task.key} has no workspace.", allowed=[])
    return task, task.workspace
