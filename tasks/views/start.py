"""Choosing what a task begins at, on its page."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from studio.kernel.errors import NotFound, StudioError
from studio.kernel.pages import say
from studio.kernel.permissions import Role, at_least
from tasks.choices import Status
from tasks.services.starting import start_from
from tasks.task_page import TaskPage
from workspaces.models import WorkspaceState
from workspaces.services import mark_seen, start_choices
from workspaces.storage import kept_of

KEPT_SHOWN = 10


@require_POST
def task_start_from(request: HttpRequest, ref: str) -> HttpResponse:
    """Begin at a branch, at kept work, or at the target branch again. What is refused is said on the task's page."""
    chosen = request.POST.get("from", "")
    kept = chosen.removeprefix("kept:") if chosen.startswith("kept:") else None
    branch = request.POST.get("branch", "") if chosen == "branch" else ""
    try:
        task = start_from(actor=request.user, task_ref=ref, branch=branch, kept=kept)
        words = task.workspace.started_from if task.workspace else f"the branch {task.project.default_branch}"
        messages.success(request, f"{task.key} starts from {words}.")
    except NotFound:
        raise
    except StudioError as error:
        say(request, error)
    return redirect("task", ref=ref)


def checkout_context(request: HttpRequest, page: TaskPage) -> dict[str, Any]:
    """What the page says of the task's checkout: its damage, what it may begin at, and what was kept of earlier ones."""
    task = page.task
    rows = kept_of(task.project).filter(label=task.key)
    mark_seen(rows)
    kept = list(rows[:KEPT_SHOWN])
    unmade = task.workspace is None or task.workspace.state in (WorkspaceState.CREATING, WorkspaceState.FAILED)
    may = at_least(page.role, Role.MAINTAINER)
    choosing = task.status == Status.TODO and unmade and may
    return {
        "kept": kept,
        "may_work": may,
        "may_choose_start": choosing,
        "branches": start_choices(task.project) if choosing and page.tab == "task" else [],
    }
