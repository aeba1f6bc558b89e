"""The parts of a task's page about its merge, read when they are shown: what it would be, and the sides of its conflicts."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.views.decorators.http import require_GET

from studio.kernel.errors import Conflict, NotFound, StudioError
from studio.kernel.unseen import escaped
from tasks import selectors
from tasks.choices import CompletionWay
from tasks.models import Task
from workspaces.models import Workspace
from workspaces.services import conflicted_files, preview_merge
from workspaces.services.merges.markers import proposed_markers
from workspaces.services.merges.preview import Preview
from workspaces.services.merges.request import MARKED_LIMIT
from workspaces.services.merges.request import WAYS as POSSIBLE

# The ways to finish: value, name, and what it does in plain words. {branch} is the target, where one has been chosen.
WAYS = (
    (CompletionWay.MERGE, "Merge", "Keeps every commit and adds a merge commit to {branch}."),
    (CompletionWay.SQUASH, "Squash", "Puts the whole change into one new commit on {branch}."),
    (CompletionWay.REBASE, "Rebase", "Replays the commits on top of {branch}, without a merge commit."),
    (CompletionWay.NONE, "Don't merge", "Finishes the task and moves no branch. What was changed is kept as a patch."),
)
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
        found = preview_merge(workspace, target=target, how=how if how in POSSIBLE else "merge")
        context |= {"preview": found, **_said(found, meant_of(request.GET))}
    except StudioError as error:
        context["trouble"] = error.message
    return render(request, "tasks/_merge_preview.html", context)


@require_GET
def proposed(request: HttpRequest, ref: str) -> HttpResponse:
    """The lines of a conflict that a pull request would bring, for its form."""
    _, workspace = _subject(request, ref)
    context: dict[str, Any] = {}
    try:
        found = proposed_markers(workspace)
        context |= {"files": found, "marked": json.dumps(found) if len(found) <= MARKED_LIMIT else ""}
    except StudioError as error:
        context["trouble"] = error.message
    return render(request, "tasks/_pull_request_marked.html", context)


def meant_of(form: QueryDict) -> list[str]:
    """The files of which the form says that lines of a conflict are meant in them: all that it named, as JSON, or none."""
    try:
        found = json.loads(form.get("markers_meant", "[]"))
    except (ValueError, RecursionError):
        return []
    return [file for file in found if isinstance(file, str)] if isinstance(found, list) else []


def _said(preview: Preview, meant: list[str]) -> dict[str, Any]:
    """What stands around a preview: what the way does, and whether the merge goes through with what the person says."""
    is_meant = bool(preview.marked) and set(preview.marked) <= set(meant)
    return {
        "words": next(words for way, _, words in WAYS if way == preview.how).format(branch=escaped(preview.target)),
        "goes": not preview.nothing and (preview.possible or (preview.markers_alone and is_meant)),
        "is_meant": is_meant,
        "marked": json.dumps(preview.marked) if len(preview.marked) <= MARKED_LIMIT else "",
    }


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
    sides = [(name, label.format(target=escaped(target)), getattr(found[0], name)) for name, label in SIDES]
    return render(request, "tasks/_conflict_file.html", {**context, "file": found[0], "sides": sides})


def _subject(request: HttpRequest, ref: str) -> tuple[Task, Workspace]:
    task = selectors.by_ref(request.user, ref)
    if task.workspace is None:
        raise Conflict(f"{task.key} has no workspace.", allowed=[])
    return task, task.workspace
