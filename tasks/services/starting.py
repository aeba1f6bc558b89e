"""Choosing what a task starts from, before it starts: a person's branch, or what was kept of an earlier attempt."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import transaction

from studio import outbox
from studio.kernel.errors import Conflict, Invalid
from studio.kernel.permissions import Role
from studio.kernel.text import clean
from tasks import selectors
from tasks.choices import Status
from tasks.models import Task
from tasks.services.moves import lock, record
from workspaces.models import Workspace, WorkspaceState
from workspaces.selectors import require_role
from workspaces.services import find_kept, let_go, start_at_branch, start_at_kept, write_started

if TYPE_CHECKING:
    from tasks.services.moves import Actor
    from workspaces.services.checkouts import Start


def start_from(
    *, actor: Actor, task_ref: Task | uuid.UUID | str, branch: str = "", kept: uuid.UUID | str | None = None
) -> Task:
    """Have a task that has not started begin at a local branch or at kept work; with neither at the target branch again.

    The checkout gets a branch of its own that begins there: the named branch is never moved. Needs the role maintainer.
    Raises Conflict when the task has started, Invalid when both are given or the branch cannot be used.
    """
    task = selectors.by_ref(actor, task_ref)
    if actor is not None:
        require_role(actor, task.project, Role.MAINTAINER)
    if branch.strip() and kept:
        raise Invalid("A task starts from a branch or from kept work, not from both.", detail={"field": "branch"})
    _require_unstarted(task)
    start = _start(actor, task, branch, kept)
    row = None
    if start is not None:
        wanted = uuid.uuid4()
        row = write_started(project=task.project, label=task.key, start=start, workspace_id=wanted)
    with transaction.atomic():
        locked = lock(task.pk)
        if locked.status != Status.TODO:
            if row is not None:
                let_go(row)
            _require_unstarted(locked)
        _attach(locked, row, actor)
    return selectors.by_ref(None, task.pk)


def _start(actor: Actor, task: Task, branch: str, kept: uuid.UUID | str | None) -> Start | None:
    if branch.strip():
        return start_at_branch(task.project, branch)
    if not kept:
        return None
    found = find_kept(actor, kept) if actor is not None else None
    if found is None or found.project_id != task.project_id:
        raise Invalid("This kept work belongs to another project.", detail={"field": "kept"})
    return start_at_kept(found)


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
