"""A repository that vanishes: tasks wait with a sentence, however long, and go on by themselves when it is back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.db import DatabaseError

from sessions_app.models import TurnState
from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Upstream
from tasks.choices import Phase, RunPhaseState, Status
from tasks.models import PhaseRun
from tasks.services import starting
from tasks.services.advance import advance_turn
from tasks.services.prepare import prepare_run
from tasks.services.schedule import schedule
from tasks.services.starting import begin_at, find_start, start_from
from tasks.services.sweep import sweep
from tests.factories import git, settle_turn
from workspaces.models import Workspace
from workspaces.services import remove_workspace, request_removal

pytestmark = pytest.mark.django_db


@pytest.fixture
def away(pipeline):
    """Takes the repository away, and gives what brings it back."""
    repository = Path(pipeline.task.project.path)
    elsewhere = repository.with_name(f"{repository.name}-away")

    def take():
        repository.rename(elsewhere)

        def bring():
            elsewhere.rename(repository)
            PhaseRun.objects.update(next_try_at=None)  # the time has passed

        return bring

    return take


def test_start__waits_and_goes_on(pipeline, away):
    pipeline.act("start")
    back = away()
    schedule()
    for _ in range(6):  # more often than a step may fail
        prepare_run(pipeline.run().pk)
        PhaseRun.objects.update(next_try_at=None)
    run = pipeline.run()
    assert (run.state, run.failures) == (RunPhaseState.PREPARING, 0)
    assert "is not there" in run.note
    assert "goes on by itself" in run.note
    back()
    prepare_run(run.pk)
    assert (pipeline.run().state, pipeline.run().note) == (RunPhaseState.RUNNING, "")


def test_end_of_a_turn__waits_with_the_work_and_goes_on(pipeline, away):
    run = pipeline.to(Phase.IMPLEMENTATION)
    pipeline.write("goodbye.py", "print('bye')\n")
    back = away()
    settle_turn(run.turn)
    for _ in range(6):
        advance_turn(run.turn.pk)
        PhaseRun.objects.update(next_try_at=None)
    run.refresh_from_db()
    assert (run.state, pipeline.fresh().status, "is not there" in run.note) == ("finishing", Status.IN_PROGRESS, True)
    back()
    advance_turn(run.turn.pk)
    assert pipeline.fresh().status == Status.AI_REVIEW


def test_removal__waits_for_an_agent_at_work(pipeline):
    run = pipeline.to(Phase.IMPLEMENTATION)
    type(run.turn).objects.filter(pk=run.turn.pk).update(state=TurnState.RUNNING)
    workspace = run.session.workspace
    request_removal(workspace)
    remove_workspace(workspace.pk)
    workspace.refresh_from_db()
    assert (workspace.state, "An agent is still at work" in workspace.error) == ("removing", True)
    assert Path(workspace.path).is_dir()
    settle_turn(run.turn)
    remove_workspace(workspace.pk)
    workspace.refresh_from_db()
    assert workspace.state == "removed"


def test_finished__a_checkout_from_before_days_were_counted(pipeline):
    pipeline.to(Phase.IMPLEMENTATION)
    pipeline.act("cancel")
    Workspace.objects.update(finished_at=None)
    sweep()
    assert Workspace.objects.get().finished_at is not None


def test_start_from__not_once_it_has_started(pipeline, owner):
    pipeline.act("start")
    with pytest.raises(Conflict, match="has started"):
        start_from(actor=owner, task_ref=pipeline.task, branch="main")


def test_start_from__somebody_starts_it_in_the_same_moment(pipeline, owner):
    start = find_start(actor=owner, project=pipeline.task.project, branch="main")
    pipeline.act("start")
    with pytest.raises(Conflict, match="has started"):
        begin_at(actor=owner, task=pipeline.task, start=start)
    pipeline.task.refresh_from_db()
    (unwanted,) = Workspace.objects.exclude(pk=pipeline.task.workspace_id)
    assert unwanted.state == "removing"


def test_start_from__a_worktree_whose_commit_gets_no_branch_leaves_nothing(pipeline, owner):
    repository = Path(pipeline.task.project.path)
    (repository / "begun.txt").write_text("1\n")
    git(repository, "branch", "studio")
    with pytest.raises(Upstream, match="in the way of the new one's"):
        start_from(actor=owner, task_ref=pipeline.task, worktree=str(repository))
    row = Workspace.objects.get()
    assert (row.state, pipeline.fresh().workspace, (repository / "begun.txt").exists()) == ("removing", None, True)
    remove_workspace(row.pk)
    row.refresh_from_db()
    assert (row.state, row.error, row.kept_patch) == ("removed", "", "")


@pytest.mark.parametrize("fault", [DatabaseError, KeyboardInterrupt])
def test_start_from__that_fails_or_is_killed_before_the_task_has_it(pipeline, owner, monkeypatch, fault):
    start = find_start(actor=owner, project=pipeline.task.project, branch="main")
    kept = begin_at(actor=owner, task=pipeline.task, start=start).workspace

    def die(*_args):
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(starting, "_attach", die)
        with pytest.raises(fault):
            begin_at(actor=owner, task=pipeline.task, start=start)
    row = Workspace.objects.exclude(pk=kept.pk).get()
    assert row.state == ("creating" if fault is KeyboardInterrupt else "removing")
    sweep()
    assert Workspace.objects.filter(state="removing").exists() is (
        fault is DatabaseError
    )  # it may be given in this moment
    Workspace.objects.update(created_at=now() - timedelta(hours=2))
    sweep()
    assert list(Workspace.objects.filter(state="removing")) == [row]


def test_reopen__a_checkout_that_a_person_keeps_stays(pipeline):
    pipeline.to(Phase.IMPLEMENTATION)
    pipeline.act("cancel")
    Workspace.objects.update(keep=True)
    task = pipeline.act("reopen")
    assert task.workspace is None
    assert Workspace.objects.get().state == "ready"
