from __future__ import annotations

import pytest

from sessions_app.models import Ask, AskState, Turn
from studio.queue import Names
from tasks import jobs
from tasks.choices import Needs, Phase, RunPhaseState, RunState, Status
from tasks.models import PhaseRun, Task
from tasks.services.advance import advance_merge
from tasks.services.card_refresh import refresh_card
from tasks.services.schedule import schedule
from tasks.services.sweep import sweep
from tests.factories import make_ask, settle_turn
from workspaces.models import MergeAttempt, MergeState
from workspaces.services import run_merge

pytestmark = pytest.mark.django_db
LATER, BEFORE = "2999-01-01T00:00:00Z", "2001-01-01T00:00:00Z"


@pytest.fixture
def rung(requested_jobs, django_capture_on_commit_callbacks):
    def ring() -> list[tuple[str, tuple[str, ...]]]:
        requested_jobs.clear()
        with django_capture_on_commit_callbacks(execute=True):
            sweep()
        return list(requested_jobs)

    return ring


def settled_merge(pipeline):
    """A task in review whose merge was made, and which has not heard of it."""
    pipeline.to_review()
    pipeline.act("complete", how="merge")
    attempt = MergeAttempt.objects.get()
    run_merge(attempt.pk)
    return attempt


def test_sweep__nothing_due(pipeline, rung):
    assert rung() == []
    pipeline.to(Phase.PLANNING)
    assert rung() == []


def test_sweep__queued(pipeline, rung):
    pipeline.act("start")
    assert rung() == [(Names.SCHEDULE_RUNS, ())]


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        ({}, True),
        ({"lease_until": BEFORE, "lease_owner": "dead"}, True),
        ({"lease_until": LATER, "lease_owner": "alive"}, False),
        ({"next_try_at": BEFORE}, True),
        ({"next_try_at": LATER}, False),
    ],
)
def test_sweep__preparing(pipeline, rung, fields, due):
    pipeline.act("start")
    schedule()
    PhaseRun.objects.update(**fields)
    assert rung() == ([(Names.PREPARE_RUN, (str(pipeline.run().pk),))] if due else [])


@pytest.mark.parametrize("state", [RunPhaseState.RUNNING, RunPhaseState.FINISHING])
def test_sweep__a_settled_turn_that_was_not_advanced(pipeline, rung, state):
    run = pipeline.to(Phase.PLANNING)
    settle_turn(run.turn, result_text="# Plan")
    PhaseRun.objects.update(state=state)
    assert rung() == [(Names.ADVANCE_TURN, (str(run.turn_id),))]
    PhaseRun.objects.update(lease_until=LATER)
    assert rung() == []


def test_sweep__a_run_whose_turn_is_gone(pipeline, rung):
    pipeline.to(Phase.PLANNING)
    Turn.objects.all().delete()
    rung()
    assert pipeline.shown[1:] == (RunState.FAILED, Needs.FAILURE, "session_lost")


def test_sweep__a_settled_merge_that_was_not_advanced(pipeline, rung):
    pipeline.to_review()
    pipeline.act("complete", how="merge")
    assert rung() == []
    attempt = MergeAttempt.objects.get()
    MergeAttempt.objects.update(state=MergeState.MERGED, result_commit="c1")
    assert rung() == [(Names.ADVANCE_MERGE, (str(attempt.pk),))]


def test_sweep__a_merge_that_the_card_hides(pipeline, rung):
    attempt = settled_merge(pipeline)
    # As an earlier version left it: news of an open pull request came first.
    Task.objects.update(run_state=RunState.WAITING, needs=Needs.PULL_REQUEST)
    assert rung() == [(Names.ADVANCE_MERGE, (str(attempt.pk),))]
    advance_merge(attempt.pk)
    assert pipeline.shown[0] == Status.DONE
    assert rung() == []


def test_sweep__a_merge_after_which_more_was_asked_for(pipeline, rung):
    attempt = settled_merge(pipeline)
    Task.objects.update(run_state=RunState.WAITING, needs=Needs.PULL_REQUEST)
    pipeline.act("request_changes", feedback="More.")
    pipeline.implement(text="print('more')\n")
    pipeline.review()
    advance_merge(attempt.pk)
    assert pipeline.shown == (Status.REVIEW, RunState.WAITING, Needs.REVIEW, "")
    assert rung() == []


def test_sweep__a_settled_revert_that_was_not_advanced(pipeline, rung):
    merge = settled_merge(pipeline)
    advance_merge(merge.pk)
    pipeline.act("revert")
    revert = MergeAttempt.objects.exclude(pk=merge.pk).get()
    due = (Names.ADVANCE_MERGE, (str(revert.pk),))
    assert due not in rung()
    run_merge(revert.pk)
    assert due in rung()
    advance_merge(revert.pk)
    assert pipeline.fresh().reverted_commit
    assert rung() == []


def test_sweep__a_card_that_did_not_hear_of_an_ask(pipeline, rung):
    turn = pipeline.to(Phase.IMPLEMENTATION).turn
    due = [(Names.REFRESH_CARD, (str(turn.pk),))]
    ask = make_ask(turn.session, turn)
    assert rung() == due
    refresh_card(turn.pk)
    assert (pipeline.shown[2], rung()) == (Needs.ANSWER, [])
    Ask.objects.filter(pk=ask.pk).update(state=AskState.WITHDRAWN)
    assert rung() == due
    refresh_card(turn.pk)
    assert (pipeline.shown[1], rung()) == (RunState.RUNNING, [])


def test_jobs__twice_is_once(pipeline):
    pipeline.act("start")
    jobs.schedule()
    jobs.schedule()
    run = pipeline.run()
    jobs.prepare_run(str(run.pk))
    jobs.prepare_run(str(run.pk))
    settle_turn(pipeline.run().turn, result_text="# Plan")
    for _ in range(2):
        jobs.advance_turn(str(pipeline.run().turn_id))
        jobs.sweep()
    assert pipeline.phases() == [(Phase.PLANNING, 1, 0)]
    assert pipeline.shown[2] == Needs.PLAN_APPROVAL


def test_jobs__carry_the_names_of_the_queue():
    registered = {
        job.name for job in (jobs.schedule, jobs.prepare_run, jobs.advance_turn, jobs.advance_merge, jobs.sweep)
    }
    assert registered == {
        Names.SCHEDULE_RUNS,
        Names.PREPARE_RUN,
        Names.ADVANCE_TURN,
        Names.ADVANCE_MERGE,
        Names.SWEEP_TASKS,
    }
