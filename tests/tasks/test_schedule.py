from __future__ import annotations

from typing import Any

import pytest

from agents.models import AgentServer, ServerState
from studio.models import FeedEvent
from studio.queue import Names
from tasks import selectors
from tasks.choices import Phase, RunPhaseState, RunState, Status
from tasks.models import PhaseRun, Task
from tasks.services.lifecycle import act
from tasks.services.runs import requeue_run
from tasks.services.schedule import NO_SERVER, schedule
from tests.factories import make_profiles, make_project, make_run, make_server, make_task
from workspaces.models import Project

pytestmark = pytest.mark.django_db


def queued(project: Project, **fields: Any) -> Task:
    return act(actor=None, task_ref=make_task(project, **fields), action="start")


def began() -> list[str]:
    return sorted(PhaseRun.objects.filter(state=RunPhaseState.PREPARING).values_list("task__key", flat=True))


def test_schedule__begins_what_has_a_place(requested_jobs, django_capture_on_commit_callbacks):
    server, project = make_server(), make_project()
    task = queued(project)
    with django_capture_on_commit_callbacks(execute=True):
        assert schedule() == 1
    run = task.runs.get()
    assert (run.state, run.server) == (RunPhaseState.PREPARING, server)
    assert requested_jobs == [(Names.PREPARE_RUN, (str(run.pk),))]
    task.refresh_from_db()
    assert (task.run_state, task.reason) == (RunState.RUNNING, "Preparing the workspace.")


def test_schedule__twice_is_once():
    make_server()
    queued(make_project())
    assert [schedule(), schedule()] == [1, 0]


def test_schedule__nothing_queued():
    make_server()
    assert schedule() == 0


def test_schedule__keeps_the_projects_cap_in_board_order():
    make_server(max_parallel_runs=64)
    project, other = make_project(max_parallel_runs=2), make_project()
    tasks = [queued(project) for _ in range(4)]
    elsewhere = queued(other)
    assert schedule() == 3
    assert began() == sorted([tasks[0].key, tasks[1].key, elsewhere.key])
    waiting = Task.objects.get(pk=tasks[2].pk)
    assert waiting.run_state == RunState.QUEUED
    assert waiting.reason == "Waiting: 2 runs of this project are under way, its limit."
    assert selectors.queue_positions(project) == {tasks[2].pk: 1, tasks[3].pk: 2}
    PhaseRun.objects.filter(task=tasks[0]).update(state=RunPhaseState.SUCCEEDED)
    assert schedule() == 1
    assert tasks[2].key in began()


def test_schedule__keeps_the_servers_caps_and_spreads():
    one, two = make_server(max_parallel_runs=2), make_server(max_parallel_runs=1)
    project = make_project(max_parallel_runs=64)
    for _ in range(5):
        queued(project)
    assert schedule() == 3
    assert PhaseRun.objects.filter(server=one).count() == 2
    assert PhaseRun.objects.filter(server=two).count() == 1
    assert Task.objects.filter(reason="Waiting: every agent server has as many runs as it may.").count() == 2


def test_schedule__counts_what_is_under_way_in_every_state():
    server = make_server(max_parallel_runs=3)
    project = make_project(max_parallel_runs=64)
    for state in (RunPhaseState.PREPARING, RunPhaseState.RUNNING, RunPhaseState.FINISHING, RunPhaseState.FAILED):
        make_run(make_task(project, status=Status.PLANNING), state=state, server=server)
    queued(project)
    assert schedule() == 0


@pytest.mark.parametrize("fields", [{"state": ServerState.DOWN}, {"state": ServerState.STARTING}, {"enabled": False}])
def test_schedule__without_a_ready_server_waits_and_says_so_once(fields):
    make_server(**fields)
    task = queued(make_project())
    assert schedule() == 0
    task.refresh_from_db()
    assert (task.run_state, task.reason) == (RunState.QUEUED, NO_SERVER)
    before = FeedEvent.objects.count()
    assert schedule() == 0
    assert FeedEvent.objects.count() == before
    AgentServer.objects.update(enabled=True, state=ServerState.READY)
    assert schedule() == 1
    task.refresh_from_db()
    assert task.reason == "Preparing the workspace."


def test_order__urgent_first_then_nearest_to_done_then_the_board():
    make_server(max_parallel_runs=64)
    project = make_project()
    plain = queued(project)
    urgent = queued(project, priority=5)
    fixing = make_task(project, status=Status.IN_PROGRESS)
    make_run(fixing, phase=Phase.FIX, state=RunPhaseState.QUEUED)
    reviewing = make_task(project, status=Status.AI_REVIEW)
    make_run(reviewing, phase=Phase.REVIEW, state=RunPhaseState.QUEUED)
    first = queued(project)
    Task.objects.filter(pk=first.pk).update(position=-1)
    order = [run.task.key for run in selectors.queued_runs()]
    assert order == [task.key for task in (urgent, reviewing, fixing, first, plain)]


def test_requeue__puts_a_stuck_preparation_back(django_capture_on_commit_callbacks, requested_jobs):
    make_server()
    task = queued(make_project())
    schedule()
    run = task.runs.get()
    epoch = run.lease_epoch
    with django_capture_on_commit_callbacks(execute=True):
        assert requeue_run(run.pk)
    run.refresh_from_db()
    assert run.state == RunPhaseState.QUEUED
    assert run.lease_epoch > epoch
    assert requested_jobs == [(Names.SCHEDULE_RUNS, ())]
    assert requeue_run(run.pk)


def test_requeue__leaves_a_turn_alone():
    make_profiles()
    run = make_run(state=RunPhaseState.RUNNING)
    assert not requeue_run(run.pk)
    assert not requeue_run("00000000-0000-0000-0000-000000000000")
