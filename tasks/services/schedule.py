"""Which queued run begins next: board order, under the caps of its project and of the agent servers."""

from __future__ import annotations

import uuid
from collections import Counter

from django.db import transaction

from agents.models import AgentServer
from agents.selectors import ready_servers, unready_note
from sessions_app.services.warming import AHEAD, warm_ahead
from studio.kernel.faultpoints import reach
from studio.queue import Names, enqueue
from tasks import selectors
from tasks.choices import OCCUPYING_RUN_STATES, RunPhaseState, RunState
from tasks.models import PhaseRun, Task
from tasks.services.moves import Card, lock, show
from workspaces.models import Workspace

NO_SERVER = "Waiting: no agent server is ready."


def schedule() -> int:
    """Begin every queued run that has a place; how many began. What waits says why on its card.

    Idempotent. Two schedulers at once keep the caps: both count under the lock of the servers' rows.
    """
    began = 0
    with transaction.atomic():
        held = _hold_tasks()
        queued = [run for run in selectors.queued_runs() if run.task_id in held]
        if not queued:
            return 0
        servers = _servers()
        nobody = "" if servers else unready_note() or NO_SERVER
        load = Counter(_occupied("server_id"))
        busy = Counter(_occupied("task__project_id"))
        for run in queued:
            project = run.task.project
            server = min(
                (one for one in servers if load[one.pk] < one.max_parallel_runs),
                key=lambda one: load[one.pk] / one.max_parallel_runs,
                default=None,
            )
            if not servers:
                _explain(run, nobody)
            elif busy[project.pk] >= project.max_parallel_runs:
                _explain(run, f"Waiting: {project.max_parallel_runs} runs of this project are under way, its limit.")
            elif server is None:
                _explain(run, "Waiting: every agent server has as many runs as it may.")
            elif _begin(run, server):
                load[server.pk] += 1
                busy[project.pk] += 1
                began += 1
        _warm(servers, load, [run for run in queued if run.state == RunPhaseState.QUEUED])
        if began:
            reach("schedule.in_transaction")
    return began


def _warm(servers: list[AgentServer], load: Counter[uuid.UUID], waiting: list[PhaseRun]) -> None:
    """Have the next ones' workspaces loaded where they will probably run."""
    if servers and waiting:
        likely = min(servers, key=lambda one: load[one.pk] / one.max_parallel_runs)
        ids = [run.task.workspace_id for run in waiting if run.task.workspace_id]
        warm_ahead(likely, Workspace.objects.filter(pk__in=ids[:AHEAD]))


def _hold_tasks() -> set[uuid.UUID]:
    """The tasks of all queued runs, locked before anything is published: whoever changes a task takes its lock first and
    the feed's second, so a scheduler that took another task's lock after the feed's would wait for them in a circle."""
    waiting = Task.objects.filter(runs__state=RunPhaseState.QUEUED).order_by("pk")
    return set(waiting.select_for_update(of=("self",)).values_list("pk", flat=True))


def _servers() -> list[AgentServer]:
    """The ready servers, locked: whoever counts places holds them. `no_key` lets sessions refer to them meanwhile."""
    ready = [server.pk for server in ready_servers()]
    return list(AgentServer.objects.select_for_update(no_key=True).filter(pk__in=ready).order_by("pk"))


def _occupied(column: str) -> list[uuid.UUID]:
    return list(PhaseRun.objects.filter(state__in=OCCUPYING_RUN_STATES).values_list(column, flat=True))


def _begin(run: PhaseRun, server: AgentServer) -> bool:
    task = lock(run.task_id)
    begun = PhaseRun.objects.filter(pk=run.pk, state=RunPhaseState.QUEUED).update(
        state=RunPhaseState.PREPARING, server=server, note="", next_try_at=None
    )
    if not begun:
        return False
    run.state, run.server = RunPhaseState.PREPARING, server
    show(task, Card(RunState.RUNNING, reason="Preparing the workspace."), run=run)
    enqueue(Names.PREPARE_RUN, run.pk)
    return True


def _explain(run: PhaseRun, note: str) -> None:
    """Say on the card why the run waits; nothing is written when it says so already."""
    if run.note == note:
        return
    task = lock(run.task_id)
    if PhaseRun.objects.filter(pk=run.pk, state=RunPhaseState.QUEUED).update(note=note):
        show(task, Card(RunState.QUEUED, reason=note), run=run)
