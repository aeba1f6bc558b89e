"""A merge that conflicted: an agent resolves it in a fix round, or it is given up and the checkout is as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.kernel.errors import Conflict
from tasks import selectors
from tasks.actions import possible_for
from tasks.choices import ERRORS, Needs, Phase, RunState, Status
from tasks.models import Task
from tasks.services.moves import QUEUED, Card, account, move, record, show
from tasks.services.runs import open_run
from workspaces.models import MergeAttempt, MergeState
from workspaces.services import request_restore

if TYPE_CHECKING:
    from tasks.services.moves import Actor


def resolve(task: Task, transition: str, *, actor: Actor, feedback: str) -> None:
    """Send a locked task whose merge conflicted to an agent, who finds the conflicts in the checkout.

    `transition` is `resolve`, or `request_changes` for who asks for more than that. Raises Conflict without a conflict.
    """
    merge = selectors.last_conflict(task)
    if merge is None:
        raise Conflict(f"No merge of {task.key} has conflicted.", allowed=possible_for(task))
    words = "\n\n".join(part for part in (feedback, task.reason) if part)
    target = merge.target_branch
    task = move(task.pk, transition, card=QUEUED, actor=actor, reason=feedback or f"Conflicts with {target}.")
    task.resolving = target
    task.save(update_fields=["resolving", "updated_at"])
    open_run(task, Phase.FIX, feedback=words, update_from=target)


def abort(task: Task, *, actor: Actor, reason: str) -> None:
    """Give the merge of a locked task up: the checkout goes back to what it was before, and the task to its review."""
    merge = selectors.last_conflict(task)
    if merge is None or task.workspace is None or not merge.source_commit:
        raise Conflict(f"No merge of {task.key} has conflicted.", allowed=possible_for(task))
    request_restore(workspace=task.workspace, commit=merge.source_commit, actor=account(actor))
    card = Card(RunState.RUNNING, reason="The checkout is put back to what it was.")
    if task.status == Status.IN_PROGRESS:
        move(task.pk, "abort", card=card, actor=actor, reason=reason or "The conflicts are not resolved.")
    else:
        record(task, "abort", actor=actor, reason=reason or "The conflicts are not resolved.")
        show(task, card)


def conclude_abort(task: Task, attempt: MergeAttempt) -> None:
    """Show a locked task in its review again when its checkout was put back, or why it was not."""
    if attempt.state == MergeState.MERGED:
        text = "The merge was given up, and the checkout is as it was before. What was done meanwhile is kept by git."
        show(task, Card(RunState.WAITING, Needs.REVIEW, text))
        return
    text = f"{ERRORS['restore_failed'].sentence} {attempt.error}"
    show(task, Card(RunState.WAITING, Needs.REVIEW, text, "restore_failed"))
