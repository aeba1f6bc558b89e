"""Taking a merged task back: it stays done, with a mark and the commit by which it was taken back.

A finished task is history. Moving it to another column would let an agent go on in a workspace that is gone; who wants that
reopens it, reverted or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.kernel.errors import Conflict
from tasks.actions import possible_for
from tasks.choices import ERRORS, RunState
from tasks.models import Task
from tasks.services.moves import Card, account, record, show
from workspaces.models import MergeAttempt, MergeKind, MergeState
from workspaces.services import request_revert

if TYPE_CHECKING:
    from tasks.services.moves import Actor


def request(task: Task, *, message: str = "", actor: Actor = None, reason: str = "") -> None:
    """Have the merge of a locked task that is done taken back. Raises Conflict when the studio did not merge it."""
    merges = MergeAttempt.objects.filter(workspace=task.workspace, kind=MergeKind.MERGE, state=MergeState.MERGED)
    merge = merges.filter(result_commit=task.completed_commit).select_related("workspace").first()
    if merge is None:
        raise Conflict(f"{task.key} was not merged by the studio, so it cannot take it back.", allowed=["reopen"])
    words = message or f"Revert “{task.title}”\n\nThis takes back {merge.result_commit}.\n\nTask: {task.key}"
    try:
        attempt = request_revert(merge=merge, message=words, actor=account(actor))
    except Conflict as error:
        error.allowed = possible_for(task)
        raise
    record(task, "revert", actor=actor, reason=reason or f"Asked for, on {attempt.target_branch}.")
    show(task, Card(RunState.RUNNING, reason=f"Taking it back from {attempt.target_branch}."))


def conclude(task: Task, attempt: MergeAttempt) -> None:
    """Write down how the revert of a locked task ended."""
    if attempt.state == MergeState.MERGED:
        task.reverted_commit = attempt.result_commit
        task.save(update_fields=["reverted_commit", "updated_at"])
        record(task, "revert", reason=f"Taken back from {attempt.target_branch} as {attempt.result_commit[:10]}.")
        show(task, Card(reason=attempt.checkout_note))
        return
    code = "revert_conflict" if attempt.state == MergeState.CONFLICTED else "revert_refused"
    said = f"Files: {', '.join(attempt.conflicts)}" if attempt.conflicts else attempt.error
    record(task, "revert", reason=f"Nothing was moved. {said}")
    show(task, Card(reason=f"{ERRORS[code].sentence} {said}".strip(), error_code=code))
