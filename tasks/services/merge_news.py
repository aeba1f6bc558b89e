"""What became of a merge and its task was not told yet: a doorbell was lost, or another job came first."""

from __future__ import annotations

import uuid

from tasks.choices import RunState, Status
from tasks.models import Task
from workspaces.models import MergeAttempt, MergeKind, MergeState

ACTIVE = (MergeState.QUEUED, MergeState.COMPUTED)


def newest_merge(task: Task) -> MergeAttempt | None:
    """The last that was asked for: a merge, its reverse, or a return of the checkout."""
    return MergeAttempt.objects.filter(workspace=task.workspace_id).order_by("-created_at").first()


def decides(task: Task) -> bool:
    """Whether a merge by the studio itself is on its way, or has ended and its task was not told."""
    newest = newest_merge(task)
    return newest is not None and (newest.state in ACTIVE or is_untold(task, newest))


def is_untold(task: Task, attempt: MergeAttempt) -> bool:
    """Whether how `attempt`, the newest one and settled, ended is still to be told to its task, locked.

    Nothing can be asked for while a card says that a merge is on its way, so what was recorded later came after its end was told.
    What is on its target is true whatever the card says.
    """
    column = Status.DONE if attempt.kind == MergeKind.REVERT else Status.REVIEW
    merged = attempt.kind == MergeKind.MERGE and attempt.state == MergeState.MERGED
    if task.status != column or not (merged or task.run_state == RunState.RUNNING):
        return False
    return attempt.settled_at is None or not task.history.filter(at__gt=attempt.settled_at).exists()


def untold_merges() -> list[uuid.UUID]:
    """Merges that were carried out while the cards of their tasks, still in review, say something else."""
    tasks = Task.objects.filter(status=Status.REVIEW, workspace__merges__state=MergeState.MERGED).distinct()
    newest = [(task, newest_merge(task)) for task in tasks.exclude(run_state=RunState.RUNNING)]
    return [merge.pk for task, merge in newest if merge is not None and is_untold(task, merge)]
