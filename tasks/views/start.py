"""Choosing what a task begins at, on its page."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from studio.kernel.errors import Invalid, NotFound, StudioError
from studio.kernel.pages import say
from studio.kernel.permissions import Role, at_least
from tasks.choices import Status
from tasks.services.starting import start_from
from tasks.task_page import TaskPage
from workspaces.models import Project, WorkspaceState
from workspaces.selectors import project_by, require_role
from workspaces.services import mark_seen, start_choices, worktree_choices
from workspaces.storage import kept_of

KEPT_SHOWN = 10


@require_POST
def task_start_from(request: HttpRequest, ref: str) -> HttpResponse:
    """Begin at a branch, a worktree, kept work, or at the target branch again. What is refused is said on the task's page."""
    chosen = request.POST.get("from", "")
    kept = chosen.removeprefix("kept:") if chosen.startswith("kept:") else None
    branch = request.POST.get("branch", "") if chosen == "branch" else ""
    worktree = request.POST.get("worktree", "") if chosen == "worktree" else ""
    try:
        if chosen == "worktree" and not worktree:
            raise Invalid("Choose the worktree.")
        task = start_from(actor=request.user, task_ref=ref, branch=branch, worktree=worktree, kept=kept)
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
        **(places(task.project) if choosing and page.tab == "task" else {}),
    }


def places(project: Project) -> dict[str, Any]:
    """What a task of the project may begin at, for a form."""
    return {"branches": start_choices(project), "worktrees": worktree_choices(project)}


@require_GET
def start_places(request: HttpRequest, key: str) -> HttpResponse:
    """The part of the form for a new task that says what it may begin at; read when it is opened."""
    project = project_by(key)
    require_role(request.user, project, Role.MAINTAINER)
    context = {"project": project, "posted": request.GET, **places(project)}
    return render(request, "tasks/_start_places.html", context)
