"""Finishing a task: by a merge that `workspaces` carries out, or without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.kernel.errors import Conflict, Invalid
from studio.kernel.text import cut
from tasks.actions import possible_for
from tasks.choices import CompletionWay, RunState, Status
from tasks.models import Task
from tasks.services.moves import Card, account, move, record, show
from workspaces.services import release_workspace, request_merge

if TYPE_CHECKING:
    from tasks.services.moves import Actor


def default_message(task: Task) -> str:
    """The message of the commit by which a task is merged, unless somebody writes another one."""
    return f"{task.title}\n\nTask: {task.key}"


def request(
    task: Task, *, how: str = "", target: str = "", message: str = "", actor: Actor = None, reason: str = ""
) -> None:
    """Complete a locked task that is in review: at once without a merge, else when the merge has settled.

    `target` (else the branch that the task came from) has been looked at; see `check_target`. Raises Invalid for an unknown way and Conflict when there is nothing to merge or a merge is already on its way.
    """
    way = how or CompletionWay.MERGE
    if way not in CompletionWay.values:
        ways = ", ".join(CompletionWay.values)
        raise Invalid(f"“{cut(way, 40)}” is not a way to complete a task; there are {ways}.", detail={"field": "how"})
    if way == CompletionWay.NONE:
        finish(task, way, actor=actor, reason=reason)
        return
    if task.workspace is None:
        raise Conflict(f"{task.key} has no workspace to merge; complete it with “none”.", allowed=["complete"])
    try:
        attempt = request_merge(
            workspace=task.workspace,
            how=way,
            target=target,
            message=message or default_message(task),
            actor=account(actor),
        )
    except Conflict as error:
        error.allowed = possible_for(task)
        raise
    record(task, "complete", actor=actor, reason=reason or f"Asked for: {way}.")
    show(task, Card(RunState.RUNNING, reason=f"Merging into {attempt.target_branch}."))


def finish(
    task: Task,
    way: str,
    *,
    commit: str = "",
    note: str = "",
    actor: Actor = None,
    reason: str = "",
) -> Task:
    """Move a locked task to done, write down the way and its result, and let the workspace's days begin."""
    workspace = task.workspace
    task = move(task.pk, "complete", card=Card(reason=note), actor=actor, reason=reason or way)
    task.completed_how, task.completed_commit = way, commit
    task.save(update_fields=["completed_how", "completed_commit", "updated_at"])
    if workspace is not None:
        release_workspace(workspace)
    return task


def requester(task: Task) -> Actor:
    """Who asked for the merge that is on its way; None is the studio."""
    row = task.history.filter(action="complete", to_status=Status.REVIEW).order_by("-at", "-id").first()
    return row.actor if row is not None else None
