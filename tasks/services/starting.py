"""Choosing what a task starts from, before it starts: a person's branch or worktree, or what was kept."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction

from studio import outbox
from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Invalid
from studio.kernel.permissions import Role
from studio.kernel.text import clean
from tasks import selectors
from tasks.choices import Status
from tasks.models import Task
from tasks.services.moves import lock, record
from workspaces.models import Project, Workspace, WorkspaceState
from workspaces.selectors import require_role
from workspaces.services import (
    find_kept,
    let_go,
    start_at_branch,
    start_at_kept,
    start_at_worktree,
    write_started,
)

if TYPE_CHECKING:
    from tasks.services.moves import Actor
    from workspaces.services.checkouts import Start

UNATTACHED = timedelta(hours=1)  # after that no process is about to give a row to its task any more
LET_GO_AT_ONCE = 20


def start_from(
    *,
    actor: Actor,
    task_ref: Task | uuid.UUID | str,
    branch: str = "",
    worktree: str = "",
    kept: uuid.UUID | str | None = None,
) -> Task:
    """Have a task that has not started begin at a branch, a worktree of a person or kept work; with none at the target again.

    The checkout gets a branch of its own that begins there: neither branch nor worktree is touched. Needs the role
    maintainer. Raises Conflict when the task has started, Invalid when several are given or one cannot be used.
    """
    task = selectors.by_ref(actor, task_ref)
    if actor is not None:
        require_role(actor, task.project, Role.MAINTAINER)
    if sum(map(bool, (branch.strip(), worktree, kept))) > 1:
        raise Invalid("A task starts from one place: a branch, a worktree or kept work.", detail={"field": "branch"})
    _require_unstarted(task)
    start = find_start(actor=actor, project=task.project, branch=branch, worktree=worktree, kept=kept)
    return begin_at(actor=actor, task=task, start=start)


def find_start(
    *, actor: Actor, project: Project, branch: str = "", worktree: str = "", kept: uuid.UUID | str | None = None
) -> Start | None:
    """What a task is to begin at, looked at before there is a row of it; None: the target branch. Needs the role maintainer.

    One place at most is given. Raises Invalid when it cannot be used.
    """
    if not (branch.strip() or worktree or kept):
        return None
    if actor is not None:
        require_role(actor, project, Role.MAINTAINER)
    if worktree:
        return start_at_worktree(project, worktree)
    if branch.strip():
        return start_at_branch(project, branch)
    found = find_kept(actor, kept) if actor is not None and kept else None
    if found is None or found.project_id != project.pk:
        raise Invalid("This kept work belongs to another project.", detail={"field": "kept"})
    return start_at_kept(found)


def begin_at(*, actor: Actor, task: Task, start: Start | None) -> Task:
    """Have the task begin at what `find_start` found. Raises Conflict when it has started meanwhile."""
    row = None
    if start is not None:
        row = write_started(project=task.project, label=task.key, start=start, workspace_id=uuid.uuid4())
    try:
        with transaction.atomic():
            locked = lock(task.pk)
            _require_unstarted(locked)
            _attach(locked, row, actor)
    except Exception:
        if row is not None:
            let_go(row)
        raise
    return selectors.by_ref(None, task.pk)


def let_go_unattached() -> None:
    """Let go of what was to be begun at by a task, when the process was killed before the task had it. Idempotent."""
    rows = Workspace.objects.filter(state=WorkspaceState.CREATING, finished_at__isnull=True, tasks__isnull=True)
    rows = rows.filter(created_at__lte=now() - UNATTACHED).exclude(start_commit="")
    for row in rows.order_by("created_at")[:LET_GO_AT_ONCE]:
        let_go(row)


def _require_unstarted(task: Task) -> None:
    started = task.workspace is not None and task.workspace.state not in (
        WorkspaceState.CREATING,
        WorkspaceState.FAILED,
    )
    if task.status != Status.TODO or started:
        raise Conflict(
            f"{task.key} has started: what it starts from can no longer be chosen. Cancel and reopen it for a new attempt.",
            allowed=[],
        )


def _attach(task: Task, row: Workspace | None, actor: Actor) -> None:
    """Give the locked task its chosen workspace; one that was chosen before goes."""
    if task.workspace is not None:
        let_go(task.workspace)
    task.workspace = row
    task.save(update_fields=["workspace", "updated_at"])
    words = row.started_from if row is not None else f"the target branch {task.project.default_branch}"
    record(task, "start_from", actor=actor, reason=clean(f"Starts from {words}."))
    payload = {"task": str(task.pk), "workspace": str(row.pk) if row is not None else "", "head": ""}
    outbox.publish(task.project_id, f"task:{task.pk}", "workspace.updated", payload)
