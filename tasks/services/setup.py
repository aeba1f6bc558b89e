"""A run waits until its checkout is set up; what it waits for stands on the card. A setup that failed fails the run."""

from __future__ import annotations

import uuid

from django.db import transaction

from studio import outbox
from studio.kernel.claim import fenced
from studio.kernel.clock import later
from studio.queue import Names, enqueue
from tasks.cards import SETTING_UP
from tasks.choices import RunPhaseState, RunState
from tasks.models import PhaseRun
from tasks.services.moves import Card, lock, show
from tasks.services.steps import StepError, failing_as
from workspaces.models import Workspace
from workspaces.setup.selectors import FAILED, RUNNING
from workspaces.setup.services import ensure_setup

LOOK_SECONDS = 3.0  # until a setup whose end was not told is looked at again
WHERE = "Its output is under Commands."


def is_set_up(run: PhaseRun, epoch: int, workspace: Workspace) -> bool:
    """Whether the workspace is ready for an agent. False: the run was given back and waits. Raises StepError(setup_failed)."""
    with failing_as("setup_failed"):
        standing = ensure_setup(workspace, origin=str(run.pk))
    if standing.state == FAILED:
        _take_workspace(run, epoch, workspace)
        raise StepError("setup_failed", standing.sentence, transient=False)
    if standing.state != RUNNING:
        return True
    _take_workspace(run, epoch, workspace, note=WHERE)
    return False


def _take_workspace(run: PhaseRun, epoch: int, workspace: Workspace, *, note: str = "") -> None:
    """Let the task's page show the workspace before an agent is in it; with a `note` the run waits, which is no failure."""
    with transaction.atomic():
        task = lock(run.task_id)
        mine = fenced(PhaseRun, run.pk, epoch).filter(state=RunPhaseState.PREPARING)
        told = mine.filter(note=note).exists()
        values = {
            "failures": 0,
            "note": note,
            "next_try_at": later(LOOK_SECONDS),
            "lease_owner": "",
            "lease_until": None,
        }
        if not (mine.update(**values) if note else mine.exists()):
            return
        if task.workspace_id != workspace.pk:
            task.workspace = workspace
            task.save(update_fields=["workspace", "updated_at"])
            payload = {"task": str(task.pk), "workspace": str(workspace.pk), "head": workspace.head_commit}
            outbox.publish(task.project_id, f"task:{task.pk}", "workspace.updated", payload)
        if note and not told:
            show(task, Card(RunState.RUNNING, reason=SETTING_UP), run=run)


def continue_run(workspace_id: uuid.UUID | str) -> None:
    """Ring for the run that waits for the setup of this workspace. Idempotent."""
    waiting = PhaseRun.objects.filter(task__workspace_id=workspace_id, state=RunPhaseState.PREPARING)
    for pk in waiting.values_list("pk", flat=True):
        PhaseRun.objects.filter(pk=pk, state=RunPhaseState.PREPARING).update(next_try_at=None)
        enqueue(Names.PREPARE_RUN, pk)
