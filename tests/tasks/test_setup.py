from __future__ import annotations

import pytest

from studio.models import FeedEvent
from studio.queue import Names
from tasks.cards import mark_of
from tasks.choices import Needs, Phase, RunPhaseState, RunState, Status
from tasks.models import PhaseRun
from tasks.selectors import detail
from tasks.services.prepare import prepare_run
from tasks.services.setup import continue_run
from tasks.task_page import page_of
from workspaces.commands.services import Ending, settle_command
from workspaces.models import CommandState, DevServer, ProjectSetup, ServerState

pytestmark = pytest.mark.django_db


@pytest.fixture
def setting_up(pipeline):
    """A run that waits for its checkout's setup; the task and the script's command."""
    ProjectSetup.objects.create(project=pipeline.task.project, script="npm ci", server="serve", at_review=True)
    pipeline.act("start")
    run = pipeline.begin()
    task = pipeline.fresh()
    return run, task, task.workspace.commands.get()


def test_prepare__waits_for_the_setup_and_says_so(pipeline, setting_up, owner):
    run, task, command = setting_up
    assert (run.state, run.turn, run.failures) == (RunPhaseState.PREPARING, None, 0)
    assert (command.text, command.kind, command.origin) == ("npm ci", "setup", str(run.pk))
    assert (task.run_state, task.reason) == (RunState.RUNNING, "The setup script runs.")
    assert mark_of(task, run).text == "Setting up"
    page = page_of(detail(owner, task), owner, [])
    assert (page.now.title, page.tab) == ("The checkout is being set up", "commands")  # where its output is
    events = FeedEvent.objects.count()
    continue_run(task.workspace_id)
    prepare_run(run.pk)
    assert (FeedEvent.objects.count(), task.workspace.commands.count()) == (
        events,
        1,
    )  # looked at again, nothing is new
    assert pipeline.run().turn is None


def test_prepare__goes_on_when_the_setup_has_ended(
    pipeline, setting_up, requested_jobs, django_capture_on_commit_callbacks
):
    run, task, command = setting_up
    with django_capture_on_commit_callbacks(execute=True):
        settle_command(command.pk, Ending(CommandState.SUCCEEDED))
        continue_run(task.workspace_id)
    assert (Names.CONTINUE_RUN, (str(task.workspace_id),)) in requested_jobs
    assert (Names.PREPARE_RUN, (str(run.pk),)) in requested_jobs
    prepare_run(run.pk)
    assert pipeline.run().state == RunPhaseState.RUNNING
    pipeline.plan()
    pipeline.act("approve_plan")
    assert pipeline.begin().state == RunPhaseState.RUNNING  # once for the checkout
    assert task.workspace.commands.count() == 1


def test_prepare__a_failed_setup_is_a_failed_run_and_retry_runs_it_again(pipeline, setting_up):
    run, task, command = setting_up
    settle_command(command.pk, Ending(CommandState.FAILED, exit_code=7))
    continue_run(task.workspace_id)
    prepare_run(run.pk)
    assert pipeline.shown == (Status.PLANNING, RunState.FAILED, Needs.FAILURE, "setup_failed")
    assert "The setup script has failed (exit code 7)." in pipeline.fresh().reason
    pipeline.act("retry")
    pipeline.begin()
    assert pipeline.fresh().run_state == RunState.RUNNING
    assert task.workspace.commands.count() == 2


def test_prepare__a_stop_while_it_is_set_up_ends_the_run(pipeline, setting_up):
    run, task, command = setting_up
    pipeline.act("stop")
    settle_command(command.pk, Ending(CommandState.SUCCEEDED))
    continue_run(task.workspace_id)
    prepare_run(run.pk)
    assert pipeline.shown[1] == RunState.STOPPED
    assert PhaseRun.objects.get().turn is None


def test_review__asks_for_the_dev_server_and_cancel_lets_it_go(pipeline, setting_up, requested_jobs):
    run, task, command = setting_up
    settle_command(command.pk, Ending(CommandState.SUCCEEDED))
    continue_run(task.workspace_id)
    prepare_run(run.pk)
    pipeline.plan()
    pipeline.act("approve_plan")
    pipeline.begin()
    pipeline.write("x.txt", "x")
    pipeline.settle()
    assert pipeline.run().phase == Phase.REVIEW
    assert not DevServer.objects.exists()
    pipeline.act("skip_ai_review", reason="Small.")
    row = DevServer.objects.get()
    assert (row.state, row.wanted, row.by_review) == (ServerState.REQUESTED, True, True)
    pipeline.act("cancel")
    row.refresh_from_db()
    assert (row.state, row.wanted, row.note) == (ServerState.STOPPING, False, f"{task.key} was cancelled.")
