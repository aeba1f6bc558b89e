"""What steps use is counted once, whoever made them and however they were learnt of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from agents.backend import LogEntry
from sessions_app import log, usage
from sessions_app.models import AgentSession, Budget, Turn, Usage
from sessions_app.services import turns
from studio.kernel.clock import now


def step(key: str, *, cost: object = 0.5, at: datetime | None = None, child: str = "", **tokens: object) -> LogEntry:
    data: dict[str, object] = {"part": key, "cost": cost, "tokens": tokens}
    if child:
        data["child"] = child
    return LogEntry("step.finished", f"step:{key}", data, at or now())


@pytest.fixture
def running(turn, session):
    AgentSession.objects.filter(pk=session.pk).update(subject="task-1")
    Turn.objects.filter(pk=turn.pk).update(state="running", started_at=now(), model="p/m")
    turn.refresh_from_db()
    return turn


def test_append__a_step_is_a_row_of_usage(running, session):
    log.append(session.pk, [step("a", input=100, output=20, reasoning=5, cached=900)])
    row = Usage.objects.get()
    assert (row.session_id, row.turn_id, row.project_id) == (session.pk, running.pk, session.project_id)
    assert (row.subject, row.run, row.role, row.model) == ("task-1", "run-1", "planner", "p/m")
    assert (row.cost, row.tokens_input, row.tokens_output) == (Decimal("0.5"), 100, 20)
    assert (row.tokens_reasoning, row.tokens_cached, row.key) == (5, 900, "step:a")
    assert row.day == now().astimezone(UTC).date()


def test_append__the_same_step_twice_counts_once(running, session):
    log.append(session.pk, [step("a", input=100)])
    log.append(session.pk, [step("a", input=100), step("b", input=1)])
    assert usage.of_task("task-1").input == 101
    session.refresh_from_db()
    assert (session.tokens_input, session.cost) == (101, Decimal(1))


def test_append__sub_agents_count_too(running, session):
    log.append(session.pk, [step("a", input=10), step("b", input=5, child="ses_child")])
    used = usage.of_turn(running.pk)
    assert (used.input, used.cost, used.steps) == (15, Decimal(1), 2)


def test_append__the_context_is_that_of_the_newest_own_step(running, session):
    log.append(
        session.pk, [step("a", input=10), step("b", input=7, cached=50), step("c", input=9000, child="ses_child")]
    )
    session.refresh_from_db()
    assert session.context_tokens == 57


def test_append__a_step_of_nothing_keeps_the_context(running, session):
    """What an answer that failed leaves behind says nothing about the conversation."""
    log.append(session.pk, [step("a", input=10), step("b")])
    session.refresh_from_db()
    assert session.context_tokens == 10


@pytest.mark.parametrize("cost", [None, "NaN", "much", -1, "1e999", [], {}])
@pytest.mark.parametrize("tokens", [None, "many", [], {"input": "x", "output": -5, "reasoning": True, "cached": 1e30}])
def test_append__rubbish_counts_as_nothing(running, session, cost, tokens):
    entry = LogEntry("step.finished", "step:a", {"part": "a", "cost": cost, "tokens": tokens}, now())
    log.append(session.pk, [entry])
    used = usage.of_turn(running.pk)
    assert (used.cost, used.tokens, used.cached, used.steps, used.unpriced) == (0, 0, 0, 1, 0)


def test_append__absurd_amounts_are_stored_nevertheless(running, session):
    steps = [step(f"{number}", cost=99_999.9999999, input=2**40) for number in range(15)]
    log.append(session.pk, steps)
    session.refresh_from_db()
    assert session.cost == Decimal(999_999)
    assert session.context_tokens == 2**31 - 1


def test_append__a_clock_ahead_does_not_count_for_tomorrow(running, session):
    log.append(session.pk, [step("a", input=1, at=now() + timedelta(days=3))])
    assert Usage.objects.get().day == usage.today()


def test_append__a_step_after_its_turns_end_is_still_the_turns(running, session):
    Turn.objects.filter(pk=running.pk).update(state="settled", outcome="completed")
    following = turns.admit_turn(session=session, prompt="More", max_steps=9, wall_seconds=60, idle_seconds=30)
    log.append(session.pk, [step("late", input=3)])
    assert usage.of_turn(running.pk).input == 3
    assert usage.of_turn(following.pk).input == 0


def test_append__a_model_that_nobody_chose_is_the_servers_default(turn, session, server):
    server.default_model = "practice/practice"
    server.save()
    Turn.objects.filter(pk=turn.pk).update(state="running", started_at=now())
    log.append(session.pk, [step("a", input=1)])
    assert Usage.objects.get().model == "practice/practice"


def test_append__budgets_are_looked_at_only_where_there_are_some(
    running, session, requested_jobs, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        log.append(session.pk, [step("a", input=1)])
    assert requested_jobs == []
    Budget.objects.create(scope="task", metric="cost", amount=5, action="warn")
    with django_capture_on_commit_callbacks(execute=True):
        log.append(session.pk, [step("b", input=1)])
    assert requested_jobs == [("sessions.check_budgets", (str(session.pk),))]


def test_sums__by_turn_run_task_project_and_day(running, session):
    yesterday = now() - timedelta(days=1)
    log.append(session.pk, [step("a", input=1), step("b", input=10, at=yesterday)])
    project = session.project
    for used in (usage.of_turn(running.pk), usage.of_run("run-1"), usage.of_task("task-1"), usage.of_project(project)):
        assert (used.input, used.steps) == (11, 2)
    assert usage.of_day(project).input == 1
    assert usage.of_day(project, usage.day_of(yesterday)).input == 10


def test_total__nothing_was_used(session):
    assert usage.of_project(session.project) == usage.Used()


def test_total__says_what_has_no_known_price(running, session):
    log.append(session.pk, [step("a", cost=0, input=1), step("b", cost=0, cached=5), step("c", cost=0)])
    used = usage.of_project(session.project)
    assert (used.unpriced, used.priced) == (2, False)
    log.append(session.pk, [step("d", cost=1, input=1)])
    assert usage.of_project(session.project).priced


def test_grouped__by_day_newest_first_and_by_model_dearest_first(running, session):
    yesterday = now() - timedelta(days=1)
    log.append(session.pk, [step("a", cost=1, input=1), step("b", cost=2, input=10, at=yesterday)])
    Turn.objects.filter(pk=running.pk).update(model="p/other")
    log.append(session.pk, [step("c", cost=9, input=4)])
    days = list(usage.grouped(Usage.objects.all(), "day"))
    assert [(one["of"], one["input"]) for one in days] == [(usage.today(), 5), (usage.day_of(yesterday), 10)]
    models = list(usage.grouped(Usage.objects.all(), "model"))
    assert [(one["of"], one["cost"], one["steps"]) for one in models] == [("p/other", 9, 1), ("p/m", 3, 2)]
    assert [one["of"] for one in usage.grouped(Usage.objects.all(), "role")] == ["planner"]
    assert [one["of"] for one in usage.grouped(Usage.objects.all(), "task")] == ["task-1"]
