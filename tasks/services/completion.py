"""Finishing a task: by a merge or a pull request that `workspaces` carries out, or without either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.kernel.errors import Conflict, Invalid
from studio.kernel.text import cut
from tasks import selectors
from tasks.actions import possible_for
from tasks.choices import CompletionWay, RunState, Status
from tasks.models import Task
from tasks.services.moves import REASON_LIMIT, Card, account, at_work_refusal, move, record, show
from tasks.services.proposal import made_body, made_title
from workspaces.models import Workspace
from workspaces.services import release_workspace, request_merge, request_pull_request, withdraw_pull_request

if TYPE_CHECKING:
    from tasks.services.moves import Actor


def default_message(task: Task) -> str:
    """The message of the commit by which a task is merged, unless somebody writes another one."""
    return f"{task.title}\n\nTask: {task.key}"


@dataclass(frozen=True, slots=True)
class Wording:
    """What a pull request is to say; what is empty is made from the task."""

    title: str = ""
    body: str = ""
    draft: bool | None = None  # None: as the connection says


def request(
    task: Task,
    *,
    how: str = "",
    target: str = "",
    message: str = "",
    meant: Sequence[str] = (),
    actor: Actor = None,
    reason: str = "",
    wording: Wording = Wording(),
) -> None:
    """Complete a locked task that is in review: at once without a merge, else when the merge has settled, or when the
    forge says that its pull request was merged. Its sessions are held (`hold_sessions`), so that no message opens a turn.

    `target` (else the branch that the task came from) has been looked at; see `check_target`. In the files `meant` lines of a
    conflict are meant to stand. Raises Invalid for an unknown way and Conflict when there is nothing to merge, a merge is
    already on its way, or an agent is at work in the checkout: what it has half written would be taken along.
    """
    way = how or CompletionWay.MERGE
    if way not in CompletionWay.values:
        ways = ", ".join(CompletionWay.values)
        raise Invalid(f"“{cut(way, 40)}” is not a way to complete a task; there are {ways}.", detail={"field": "how"})
    if selectors.at_work(task):
        raise at_work_refusal(task)
    if way == CompletionWay.NONE:
        note = task.reason if task.error_code == "merged_early" else ""  # a part of it was merged after all
        finish(task, way, note=note, actor=actor, reason=reason)
        return
    if task.workspace is None:
        raise Conflict(f"{task.key} has no workspace to merge; complete it with “none”.", allowed=["complete"])
    if way == CompletionWay.PULL_REQUEST:
        _propose(task, task.workspace, wording, meant, actor=actor, reason=reason)
        return
    try:
        attempt = request_merge(
            workspace=task.workspace,
            how=way,
            target=target,
            message=message or default_message(task),
            meant=meant,
            actor=account(actor),
        )
    except Conflict as error:
        error.allowed = possible_for(task)
        raise
    asked = reason or f"Asked for: {way}."
    record(task, "complete", actor=actor, reason=cut(f"{asked}{_meant(attempt.meant)}", REASON_LIMIT))
    show(task, Card(RunState.RUNNING, reason=f"Merging into {attempt.target_branch}."))


def _meant(files: Sequence[str]) -> str:
    """What the history says about lines of a conflict that somebody lets stand."""
    return f" Lines of a conflict are meant in {', '.join(files)}." if files else ""


def _propose(
    task: Task, workspace: Workspace, wording: Wording, meant: Sequence[str], *, actor: Actor, reason: str
) -> None:
    """Have the pull request opened, or brought up to date when there is one."""
    try:
        row = request_pull_request(
            workspace=workspace,
            title=wording.title or made_title(task),
            body=wording.body or made_body(task),
            draft=wording.draft,
            meant=meant,
        )
    except Conflict as error:
        error.allowed = possible_for(task)
        raise
    asked = reason or f"Asked for: {CompletionWay.PULL_REQUEST}."
    record(task, "complete", actor=actor, reason=cut(f"{asked}{_meant(meant)}", REASON_LIMIT))
    doing = "Opening a pull request." if row.number is None else f"Bringing pull request #{row.number} up to date."
    show(task, Card(RunState.RUNNING, reason=doing))


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
        withdraw_pull_request(workspace)
        release_workspace(workspace)
    return task


def requester(task: Task) -> Actor:
    """Who asked for the merge that is on its way; None is the studio."""
    row = task.history.filter(action="complete", to_status=Status.REVIEW).order_by("-at", "-id").first()
    return row.actor if row is not None else None
