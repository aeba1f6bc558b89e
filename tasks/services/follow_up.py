"""A turn that a person's message opened after its phase had ended: what the agent changed belongs to the task."""

from __future__ import annotations

import structlog
from django.db import transaction

from agents.roles import may_edit
from sessions_app.models import AgentSession, Turn
from studio import outbox
from studio.kernel.errors import StudioError
from studio.kernel.text import cut
from tasks.models import Task
from tasks.services.moves import lock, tell
from workspaces.services import commit_left

log = structlog.get_logger(__name__)

SUMMARY_LIMIT = 2_000  # characters of what the agent said, in the commit message


def conclude_follow_up(turn: Turn) -> None:
    """Commit what the agent left and tell the board. Idempotent; what fails here is committed by the next turn or merge."""
    session = AgentSession.objects.select_related("workspace").get(pk=turn.session_id)
    task = Task.objects.filter(workspace_id=session.workspace_id).first()
    if task is not None and may_edit(session.role):
        _commit(task, session, turn)
    tell_at_work(turn)


def tell_at_work(turn: Turn) -> None:
    """Tell the page of the turn's task that an agent works in its checkout, or has ended: that decides what can be done."""
    task_id = Task.objects.filter(workspace__sessions=turn.session_id).values_list("pk", flat=True).first()
    if task_id is None:
        return
    with transaction.atomic():
        tell(lock(task_id), "actions")


def _commit(task: Task, session: AgentSession, turn: Turn) -> None:
    before = session.workspace.head_commit
    summary = cut(turn.result_text.strip(), SUMMARY_LIMIT)
    message = "\n\n".join(part for part in (task.title, summary, f"Task: {task.key} (follow-up)") if part)
    try:
        head = commit_left(session.workspace, message=message, author_name=session.agent)
    except (StudioError, OSError) as error:
        log.warning("follow_up_not_committed", turn=str(turn.pk), error=str(error))
        return
    if head != before:
        with transaction.atomic():
            locked = lock(task.pk)
            payload = {"task": str(task.pk), "workspace": str(session.workspace_id), "head": head}
            outbox.publish(locked.project_id, f"task:{task.pk}", "workspace.updated", payload)
