"""Real threads with connections of their own: what must happen once happens once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
from django.db import connection, connections, transaction

from agents.models import AgentRole
from sessions_app.models import AgentSession, Delivery, Turn
from sessions_app.services import clock, inbox
from sessions_app.services.follow_up import open_next
from studio import outbox
from studio.kernel.errors import Conflict
from studio.models import FeedEvent
from tasks.choices import Phase, RunPhaseState, Status
from tasks.models import Finding, PhaseRun, Task
from tasks.services import results
from tasks.services.advance import advance_turn
from tasks.services.board import create_task
from tasks.services.lifecycle import act
from tasks.services.moves import lock
from tasks.services.prepare import prepare_run
from tasks.services.schedule import schedule
from tasks.verdicts import FoundFinding
from tests.factories import make_project, make_server, make_task, settle_turn
from tests.tasks.pipeline import Pipeline
from workspaces.models import MergeAttempt, Workspace

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(count: int, do: Callable[[int], object]) -> list[object]:
    """Call `do` in `count` threads at the same moment; results and StudioErrors, in no order."""
    barrier = Barrier(count)

    def one(number: int) -> object:
        try:
            barrier.wait(20)
            return do(number)
        except Conflict as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_two_starts__one_wins():
    task = make_task()
    answers = at_once(4, lambda _: act(actor=None, task_ref=task.pk, action="start"))
    conflicts = [answer for answer in answers if isinstance(answer, Conflict)]
    assert len(conflicts) == 3
    assert all(conflict.allowed == ["stop", "cancel"] for conflict in conflicts)
    assert PhaseRun.objects.filter(task=task).count() == 1
    assert task.history.filter(action="start").count() == 1


def test_approve_and_reject__one_wins():
    pipeline = Pipeline()
    pipeline.act("start")
    pipeline.plan()
    answers = at_once(
        2, lambda n: act(actor=None, task_ref=pipeline.task.pk, action=["approve_plan", "reject_plan"][n], feedback="x")
    )
    assert sum(isinstance(answer, Conflict) for answer in answers) == 1
    assert PhaseRun.objects.filter(state=RunPhaseState.QUEUED).count() == 1


def test_create__numbers_are_used_once():
    project = make_project()
    at_once(6, lambda n: create_task(actor=None, project=project, title=f"Task {n}"))
    assert sorted(Task.objects.values_list("number", flat=True)) == [1, 2, 3, 4, 5, 6]
    seqs = list(FeedEvent.objects.order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, 7))


def test_schedulers__keep_the_caps():
    make_server(max_parallel_runs=2)
    project = make_project(max_parallel_runs=64)
    for _ in range(5):
        act(actor=None, task_ref=make_task(project), action="start")
    assert sum(at_once(4, lambda _: schedule())) == 2
    assert PhaseRun.objects.filter(state=RunPhaseState.PREPARING).count() == 2


def test_prepare__one_workspace_one_turn():
    pipeline = Pipeline()
    pipeline.act("start")
    schedule()
    run_id = pipeline.run().pk
    at_once(4, lambda _: prepare_run(run_id))
    assert (Workspace.objects.count(), AgentSession.objects.count(), Turn.objects.count()) == (1, 1, 1)
    assert pipeline.run().state == RunPhaseState.RUNNING


def test_advance__once():
    pipeline = Pipeline()
    run = pipeline.to(Phase.IMPLEMENTATION)
    pipeline.write("x.py", "x\n")
    settle_turn(run.turn)
    at_once(4, lambda _: advance_turn(run.turn_id))
    assert pipeline.shown[0] == Status.AI_REVIEW
    assert pipeline.history().count(("implemented", "in_progress", "ai_review")) == 1


def test_advance_and_stop__end_in_one_of_two_ways():
    pipeline = Pipeline()
    run = pipeline.to(Phase.PLANNING)
    results.submit_plan(str(run.pk), "# Plan")
    settle_turn(run.turn)
    calls = [lambda: advance_turn(run.turn_id), lambda: act(actor=None, task_ref=pipeline.task.pk, action="stop")]
    at_once(2, lambda n: calls[n]())
    advance_turn(run.turn_id)
    assert pipeline.shown[:2] in [(Status.PLANNING_REVIEW, "waiting"), (Status.PLANNING, "stopped")]


def test_findings__numbers_are_used_once():
    pipeline = Pipeline()
    run = pipeline.to(Phase.REVIEW)
    at_once(5, lambda n: results.report_finding(str(run.pk), FoundFinding("info", f"t{n}", "", "", None)))
    assert sorted(Finding.objects.values_list("number", flat=True)) == [1, 2, 3, 4, 5]


def first_and_second(hold: Callable[[], object], change: Callable[[], object], other: Callable[[], object]) -> None:
    """One transaction takes what `hold` locks and, when `other` waits for it, makes its `change`. Both come to an end."""
    held, ended = Event(), Event()

    def first() -> None:
        with transaction.atomic():
            hold()
            held.set()
            until_somebody_waits(ended)
            change()

    def second() -> None:
        assert held.wait(20)
        try:
            other()
        finally:
            ended.set()

    at_once(2, lambda number: [first, second][number]())


def until_somebody_waits(ended: Event) -> None:
    """SQLite has one writer: there the other one waits already, for its turn."""
    waiting = connection.vendor != "postgresql"
    while not (waiting or ended.is_set()):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")
            [waiting] = cursor.fetchone()


def test_schedule__and_a_person_who_cancels_a_queued_task_do_not_block_each_other():
    make_server(max_parallel_runs=8)
    project = make_project(max_parallel_runs=64)
    begun, cancelled = (act(actor=None, task_ref=make_task(project), action="start") for _ in range(2))
    first_and_second(
        lambda: lock(cancelled.pk), lambda: act(actor=None, task_ref=cancelled.pk, action="cancel"), schedule
    )
    assert begun.runs.get().state == RunPhaseState.PREPARING
    assert cancelled.runs.get().state == RunPhaseState.STOPPED


@pytest.mark.parametrize("first", ["message", "merge"])
def test_complete__and_a_message_that_opens_a_turn_in_the_same_moment_do_not_both_happen(first):
    pipeline = Pipeline()
    pipeline.to_review()
    session = AgentSession.objects.get(workspace=pipeline.task.workspace, role=AgentRole.IMPLEMENTER)
    inbox.post(session=session, text="Also rename it.", delivery=Delivery.QUEUE)

    def complete() -> None:
        act(actor=None, task_ref=pipeline.task.pk, action="complete")

    def open_turn() -> None:
        with transaction.atomic():
            open_next(session.pk)

    order = [open_turn, complete] if first == "message" else [complete, open_turn]
    first_and_second(order[0], lambda: None, order[1])
    opened, merges = session.turns.filter(number=2).exists(), MergeAttempt.objects.exists()
    assert (opened, merges) == (first == "message", first == "merge")
    assert pipeline.shown[:2] == (Status.REVIEW, "running" if merges else "waiting")
    assert session.inbox.get().state == ("delivered" if opened else "waiting")


def test_stop__reaches_the_turn_that_a_message_opens_in_the_same_moment():
    pipeline = Pipeline()
    pipeline.to_review()
    turn = pipeline.follow_up()
    inbox.post(session=turn.session, text="And then this.", delivery=Delivery.QUEUE)
    first_and_second(
        lambda: settle_turn(turn),
        lambda: None,
        lambda: act(actor=None, task_ref=pipeline.task.pk, action="stop"),
    )
    opened = turn.session.turns.get(number=3)
    assert (opened.prompt, opened.abort_reason) == ("And then this.", "stopped")


def test_stop__and_an_ask_that_opens_do_not_block_each_other():
    pipeline = Pipeline()
    run = pipeline.to(Phase.IMPLEMENTATION)
    first_and_second(
        lambda: clock.hold(run.turn_id),
        lambda: outbox.publish(run.task.project_id, f"task:{run.task_id}", "ask.opened", {}),
        lambda: act(actor=None, task_ref=run.task_id, action="stop"),
    )
    assert Turn.objects.get(pk=run.turn_id).abort_reason == "stopped"
