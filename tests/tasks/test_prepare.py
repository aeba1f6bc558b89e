from __future__ import annotations

from pathlib import Path

import pytest

from agents.models import AgentProfile, AgentRole
from sessions_app.models import AgentSession, Turn
from studio.kernel.errors import Invalid, Upstream
from studio.models import FeedEvent
from studio.queue import Names
from tasks.choices import Needs, Phase, RunPhaseState, RunState, Status
from tasks.models import PhaseRun, Review
from tasks.services import steps
from tasks.services.prepare import prepare_run
from tasks.services.schedule import schedule
from tests.factories import make_profiles
from tests.repositories import git
from tests.tasks.pipeline import Pipeline
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db


def test_prepare__workspace_session_and_turn(pipeline, requested_jobs, django_capture_on_commit_callbacks):
    make_profiles(max_steps=7, wall_seconds=70, idle_seconds=17, model="practice/practice", instructions="Be brief.")
    pipeline.act("start")
    with django_capture_on_commit_callbacks(execute=True):
        run = pipeline.begin()
    task = pipeline.fresh()
    turn = Turn.objects.get()
    assert run.state == RunPhaseState.RUNNING
    assert (run.turn, run.session, run.failures, run.note) == (turn, turn.session, 0, "")
    assert run.started_at
    assert run.base_commit == git(task.project.path, "rev-parse", "HEAD").strip()
    assert task.workspace == turn.session.workspace
    assert (task.run_state, task.reason) == (RunState.RUNNING, "")
    assert (turn.max_steps, turn.wall_seconds, turn.idle_seconds) == (7, 70, 17)
    assert (turn.agent, turn.model, turn.tool_subject) == ("studio-planner", "practice/practice", str(run.pk))
    assert turn.session.role == AgentRole.PLANNER
    assert turn.prompt.startswith(f"Phase: planning\nRound: 1\nTask: {task.key}\nTitle: Add a farewell\n")
    assert "Be brief." in turn.system
    assert (Names.DISPATCH_TURN, (str(turn.pk),)) in requested_jobs
    kinds = list(FeedEvent.objects.filter(topic=f"task:{task.pk}").order_by("seq").values_list("kind", flat=True))
    assert kinds[-3:] == ["workspace.updated", "session.opened", "run.state"]


@pytest.mark.parametrize(
    ("phase", "role"),
    [
        (Phase.PLANNING, AgentRole.PLANNER),
        (Phase.IMPLEMENTATION, AgentRole.IMPLEMENTER),
        (Phase.REVIEW, AgentRole.REVIEWER),
        (Phase.FIX, AgentRole.IMPLEMENTER),
    ],
)
def test_prepare__each_phase_has_its_role_a_session_of_its_own_and_the_same_workspace(pipeline, phase, role):
    run = pipeline.to(phase)
    assert run.session.role == role
    assert AgentSession.objects.count() == PhaseRun.objects.count()
    assert Workspace.objects.count() == 1
    assert Review.objects.filter(run=run).exists() == (phase == Phase.REVIEW)


def test_prepare__twice_is_once(pipeline):
    run = pipeline.to(Phase.PLANNING)
    prepare_run(run.pk)
    prepare_run(str(run.pk))
    assert Turn.objects.count() == AgentSession.objects.count() == 1


def test_prepare__only_what_was_scheduled(pipeline):
    pipeline.act("start")
    prepare_run(pipeline.run().pk)
    prepare_run("00000000-0000-0000-0000-000000000000")
    assert Turn.objects.count() == 0


def test_prepare__held_by_another(pipeline):
    pipeline.act("start")
    schedule()
    PhaseRun.objects.update(lease_until="2999-01-01T00:00:00Z", lease_owner="another")
    prepare_run(pipeline.run().pk)
    assert Turn.objects.count() == 0


def test_prepare__not_before_its_time(pipeline):
    pipeline.act("start")
    schedule()
    PhaseRun.objects.update(next_try_at="2999-01-01T00:00:00Z")
    prepare_run(pipeline.run().pk)
    assert Turn.objects.count() == 0


def test_prepare__agents_md_of_the_repository_is_passed(db):
    pipeline = Pipeline()
    folder = Path(pipeline.task.project.path)
    (folder / "AGENTS.md").write_text("Use tabs everywhere.\n" + "x" * 50_000)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Instruct")
    system = pipeline.to(Phase.PLANNING).turn.system
    assert "Use tabs everywhere." in system
    assert len(system) < 30_000


def test_prepare__a_crash_between_workspace_and_turn_leaves_one_workspace(pipeline, monkeypatch):
    pipeline.act("start")
    schedule()
    run = pipeline.run()
    with monkeypatch.context() as patched:
        patched.setattr("tasks.services.prepare._begin", _raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            prepare_run(run.pk)
    PhaseRun.objects.update(lease_until=None)
    prepare_run(run.pk)
    assert pipeline.run().state == RunPhaseState.RUNNING
    assert Workspace.objects.count() == 1
    assert Turn.objects.count() == 1


@pytest.mark.parametrize("change", [{"state": RunPhaseState.STOPPED}, {"lease_epoch": 77}, {"server": None}])
def test_prepare__writes_nothing_for_a_run_that_went_elsewhere(pipeline, monkeypatch, change):
    pipeline.act("start")
    schedule()
    run = pipeline.run()

    def overtaken(*_):
        PhaseRun.objects.filter(pk=run.pk).update(**change)
        return "prompt"

    monkeypatch.setattr("tasks.services.prepare.render_prompt", overtaken)
    prepare_run(run.pk)
    assert Turn.objects.count() == AgentSession.objects.count() == 0


def test_prepare__a_stop_in_the_meantime_stops(pipeline, monkeypatch):
    pipeline.act("start")
    schedule()
    run = pipeline.run()

    def stopping(*_):
        pipeline.act("stop")
        return "prompt"

    monkeypatch.setattr("tasks.services.prepare.render_prompt", stopping)
    prepare_run(run.pk)
    assert pipeline.shown == (Status.PLANNING, RunState.STOPPED, Needs.RESUME, "")
    assert Turn.objects.count() == 0


def test_prepare__a_server_that_is_gone_sends_it_back_to_the_queue(pipeline):
    pipeline.act("start")
    schedule()
    PhaseRun.objects.update(server=None)
    prepare_run(pipeline.run().pk)
    assert pipeline.run().state == RunPhaseState.QUEUED
    assert pipeline.shown[1] == RunState.QUEUED
    assert pipeline.begin().state == RunPhaseState.RUNNING


@pytest.mark.parametrize(
    ("error", "tries", "code"),
    [
        (Invalid("The repository is gone."), 1, "workspace_failed"),
        (Upstream("locked", transient=True), steps.MAX_FAILURES, "workspace_failed"),
        (OSError(28, "No space left on device"), steps.MAX_FAILURES, "workspace_failed"),
        (ZeroDivisionError("a bug"), steps.MAX_FAILURES, "internal_error"),
    ],
)
def test_prepare__what_keeps_failing_fails_the_run(pipeline, monkeypatch, error, tries, code):
    pipeline.act("start")
    schedule()
    with monkeypatch.context() as patched:
        patched.setattr("tasks.services.prepare.ensure_workspace", _raising(error))
        for _ in range(tries):
            assert pipeline.shown[1] == RunState.RUNNING
            PhaseRun.objects.update(next_try_at=None)
            prepare_run(pipeline.run().pk)
    assert pipeline.shown == (Status.PLANNING, RunState.FAILED, Needs.FAILURE, code)
    assert str(error) in pipeline.task.reason
    pipeline.act("retry")
    assert pipeline.begin().state == RunPhaseState.RUNNING


def test_prepare__without_a_profile(pipeline):
    AgentProfile.objects.all().delete()
    pipeline.to(Phase.PLANNING)
    assert pipeline.shown[1:] == (RunState.FAILED, Needs.FAILURE, "model_not_found")


def test_prepare__a_worker_that_dies_again_and_again_fails_the_run(pipeline):
    pipeline.act("start")
    schedule()
    PhaseRun.objects.update(failures=steps.MAX_FAILURES)
    prepare_run(pipeline.run().pk)
    assert pipeline.shown[1:] == (RunState.FAILED, Needs.FAILURE, "internal_error")


def _raising(error):
    def fail(*_args, **_kwargs):
        raise error

    return fail
