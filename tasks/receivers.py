"""News from below. Receivers run inside the sender's transaction and only publish, request a job, or refuse a removal."""

from __future__ import annotations

import uuid
from typing import Any

from sessions_app.models import Ask, Turn, TurnState
from sessions_app.signals import ask_closed, ask_opened, turn_changed, turn_settled
from studio import outbox
from studio.kernel.errors import Conflict
from studio.queue import Names, enqueue
from tasks.choices import ACTIVE_RUN_STATES, RunState, Status
from tasks.models import PhaseRun, Task
from workspaces.models import Command, CommandKind, Project, PullRequest, Workspace
from workspaces.signals import (
    command_settled,
    merge_settled,
    pull_request_changed,
    removing_project,
    workspace_changed,
)


def on_turn_settled(*, turn: Turn, **_: Any) -> None:
    """A turn has ended: its run may advance."""
    enqueue(Names.ADVANCE_TURN, turn.pk)


def on_turn_changed(*, turn: Turn, **_: Any) -> None:
    """A turn waits for something, or goes on: its card says so."""
    enqueue(Names.REFRESH_CARD, turn.pk)


def on_ask_changed(*, ask: Ask, **_: Any) -> None:
    """An agent waits for an answer, or no longer: its card says so."""
    if ask.turn_id is not None:
        enqueue(Names.REFRESH_CARD, ask.turn_id)


def on_merge_settled(*, attempt_id: uuid.UUID | str, **_: Any) -> None:
    """A merge has ended: its task may be done."""
    enqueue(Names.ADVANCE_MERGE, attempt_id)


def on_command_settled(*, command: Command, **_: Any) -> None:
    """A setup has ended: the run that waits for it may go on."""
    if command.kind == CommandKind.SETUP:
        enqueue(Names.CONTINUE_RUN, command.workspace_id)


def on_pull_request_changed(*, pull_request: PullRequest, **_: Any) -> None:
    """Something is new about a pull request: its task says so, or is done."""
    enqueue(Names.ADVANCE_PULL_REQUEST, pull_request.pk)


def on_workspace_changed(*, workspace: Workspace, **_: Any) -> None:
    """Something is new about a checkout, or about what was kept of one: the page of its task shows it."""
    for task in Task.objects.filter(project=workspace.project_id, key=workspace.label):
        payload = {"task": str(task.pk), "workspace": str(workspace.pk)}
        outbox.publish(task.project_id, f"task:{task.pk}", "workspace.updated", payload)


def on_removing_project(*, project: Project, **_: Any) -> None:
    """A project is not removed under an agent or a merge."""
    runs = PhaseRun.objects.filter(task__project=project, state__in=ACTIVE_RUN_STATES)
    turns = Turn.objects.filter(session__project=project).exclude(state=TurnState.SETTLED)
    merging = Task.objects.filter(project=project, status__in=[Status.REVIEW, Status.DONE], run_state=RunState.RUNNING)
    if runs.exists() or turns.exists() or merging.exists():
        raise Conflict(f"Agents are at work in {project.name}: stop or cancel its tasks first.", allowed=[])


def connect() -> None:
    """Called once by the app's configuration; connecting again changes nothing."""
    turn_settled.connect(on_turn_settled, dispatch_uid="tasks.turn_settled")
    turn_changed.connect(on_turn_changed, dispatch_uid="tasks.turn_changed")
    ask_opened.connect(on_ask_changed, dispatch_uid="tasks.ask_opened")
    ask_closed.connect(on_ask_changed, dispatch_uid="tasks.ask_closed")
    merge_settled.connect(on_merge_settled, dispatch_uid="tasks.merge_settled")
    command_settled.connect(on_command_settled, dispatch_uid="tasks.command_settled")
    pull_request_changed.connect(on_pull_request_changed, dispatch_uid="tasks.pull_request_changed")
    workspace_changed.connect(on_workspace_changed, dispatch_uid="tasks.workspace_changed")
    removing_project.connect(on_removing_project, dispatch_uid="tasks.removing_project")
