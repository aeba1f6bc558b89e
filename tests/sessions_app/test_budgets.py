"""A budget that is used up: told, asked about, or the end of the turn; once, whoever looks how often."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from sessions_app import log
from sessions_app.budget_state import reached_by
from sessions_app.budget_use import use_in_project, use_of_task
from sessions_app.models import AgentSession, Ask, Budget, BudgetHit, SessionEvent, Turn, Usage
from sessions_app.services import budgets, turns
from sessions_app.services.abort import abort
from sessions_app.services.dispatch import dispatch
from sessions_app.services.pause import release_turn
from studio.kernel.clock import now
from studio.models import FeedEvent
from tests.sessions_app.test_usage import step

TASK, OTHER = str(uuid.uuid4()), str(uuid.uuid4())


@pytest.fixture
def running(turn, session):
    AgentSession.objects.filter(pk=session.pk).update(subject=TASK, external_id="ses_1")
    Turn.objects.filter(pk=turn.pk).update(state="running", started_at=now(), last_event_at=now(), max_steps=99)
    return Turn.objects.select_related("session").get(pk=turn.pk)


def budget(scope: str = "task", action: str = "ask", amount: Any = 1, metric: str = "cost", **fields: Any) -> Budget:
    return Budget.objects.create(scope=scope, action=action, amount=amount, metric=metric, **fields)


def spend(turn: Turn, cost: object = 0.6, **tokens: Any) -> Turn:
    """A step of the turn, and the look at the budgets after it."""
    log.append(turn.session_id, [step(f"{Usage.objects.count()}", cost=cost, **tokens)])
    budgets.check_sessions([turn.session_id])
    return Turn.objects.select_related("session").get(pk=turn.pk)


def answer(ask: Ask, reply: str, message: str = "") -> Turn:
    """A person's answer, as the service for asks gives it."""
    with transaction.atomic():
        ask.state, ask.reply, ask.message, ask.answered_name = "answered", reply, message, "ada"
        ask.save()
        budgets.answered(ask)
    return Turn.objects.select_related("session").get(pk=str(ask.turn_id))


def another(turn: Turn, subject: str = OTHER) -> Turn:
    """A running turn of another session of the same project."""
    session = turns.open_session(
        workspace=turn.session.workspace,
        server=turn.session.server,
        role="planner",
        title="Another",
        agent="studio-planner",
        model="",
        subject=subject,
    )
    made = turns.admit_turn(session=session, prompt="Plan", max_steps=99, wall_seconds=60, idle_seconds=30)
    Turn.objects.filter(pk=made.pk).update(state="running", started_at=now())
    return Turn.objects.select_related("session").get(pk=made.pk)


def test_check__below_the_budget_nothing_happens(running):
    budget()
    spend(running, 0.99)
    assert not BudgetHit.objects.exists()


def test_warn__is_told_once_and_the_turn_goes_on(running):
    budget(action="warn")
    spend(running, 1)
    turn = spend(running, 1)
    assert (turn.state, turn.hold, turn.abort_requested_at) == ("running", "", None)
    hit = BudgetHit.objects.get()
    assert (hit.counted, hit.used) == (TASK, 1)
    event = SessionEvent.objects.get(kind="budget.reached")
    assert event.data["message"] == "This task has used $1.00 of $1.00."
    feed = FeedEvent.objects.get(kind="budget.reached")
    assert (feed.topic, feed.payload["action"], feed.payload["scope"]) == (f"task:{TASK}", "warn", "task")


def test_ask__the_turn_waits_and_one_question_is_open(running):
    budget()
    spend(running, 0.42)
    turn = spend(running, 0.6)
    assert turn.hold == "budget"
    assert turn.waiting_since is not None
    ask = Ask.objects.get()
    assert (ask.kind, ask.state, ask.turn_id) == ("budget", "pending", turn.pk)
    assert ask.title == "This task has used $1.02 of $1.00: go on?"
    spend(running, 0.1)
    budgets.check([turn.pk])
    assert Ask.objects.count() == 1
    assert SessionEvent.objects.filter(kind="ask.opened").count() == 1


def test_ask__once_grants_the_amount_again_and_the_turn_goes_on(running):
    budget()
    turn = answer_after_parking(spend(running, 1.02), "once")
    assert (turn.hold, turn.abort_requested_at) == ("", None)
    spend(turn, 0.9)
    assert Ask.objects.filter(state="pending").count() == 0
    turn = spend(turn, 0.1)
    assert turn.hold == "budget"
    second = Ask.objects.get(state="pending")
    assert second.title == "This task has used $2.02 of $2.02: go on?"
    assert BudgetHit.objects.count() == 1


def answer_after_parking(turn: Turn, reply: str) -> Turn:
    """The answer to a turn that the server has stopped meanwhile; a granted one is running again."""
    Turn.objects.filter(pk=turn.pk).update(state="admitted")
    turn = answer(Ask.objects.get(state="pending"), reply)
    if reply == "once":
        assert (turn.state, turn.hold) == ("admitted", "")
        assert not budgets.bars(turn)
        Turn.objects.filter(pk=turn.pk).update(state="running")
    return Turn.objects.select_related("session").get(pk=turn.pk)


def test_ask__a_jump_far_over_the_budget_is_asked_about_once(running):
    budget()
    turn = answer_after_parking(spend(running, 7), "once")
    turn = spend(turn, 0.9)
    assert not Ask.objects.filter(state="pending").exists()
    assert spend(turn, 0.2).hold == "budget"


def test_ask__no_ends_the_turn_with_the_reason(running, backend):
    budget()
    turn = spend(running, 1.02)
    Turn.objects.filter(pk=turn.pk).update(state="admitted")
    turn = answer(Ask.objects.get(), "reject", "too dear")
    abort(turn.pk)
    turn.refresh_from_db()
    assert (turn.state, turn.outcome, turn.error_code) == ("settled", "failed", "budget_exceeded")
    assert turn.error_message == "This task has used $1.02 of $1.00, and ada said no: too dear."


def test_stop__ends_the_turn_with_the_reason(running, backend):
    budget(action="stop", metric="tokens", amount=1000)
    turn = spend(running, 0, input=900, output=100, reasoning=34, cached=50_000)
    assert turn.abort_reason == "budget_exceeded"
    from agents.backend import TurnView

    backend.view = TurnView(state="aborted", error_code="aborted")
    abort(turn.pk)
    turn.refresh_from_db()
    assert (turn.outcome, turn.error_code) == ("failed", "budget_exceeded")
    assert turn.error_message == "This task has used 1,034 of 1,000 tokens."


def test_stop__ends_a_turn_that_was_held_and_released_before(running):
    Turn.objects.filter(pk=running.pk).update(hold="released")
    budget(action="stop")
    assert spend(running, cost=2).abort_reason == "budget_exceeded"


def test_several__the_strictest_acts_and_all_are_noted(running):
    budget(action="warn")
    budget(action="ask", scope="turn")
    budget(action="stop", scope="run")
    turn = spend(running, 2)
    assert (turn.abort_reason, turn.hold) == ("budget_exceeded", "")
    assert BudgetHit.objects.count() == 3
    assert not Ask.objects.exists()


@pytest.mark.parametrize("scope", ["turn", "run", "task", "project", "day"])
def test_scopes__each_counts_what_it_is_about(running, scope):
    budget(scope=scope, amount=1)
    assert spend(running, 1).hold == "budget"


def test_scopes__what_others_used_counts_for_the_project_but_not_for_the_task(running):
    other = another(running)
    budget(scope="task", amount=1)
    assert spend(other, 0.9).hold == ""
    assert spend(running, 0.9).hold == ""
    budget(scope="project", amount=1)
    budgets.check([running.pk, other.pk])
    assert Turn.objects.filter(hold="budget").count() == 2


def test_scopes__yesterday_does_not_count_for_today(running):
    budget(scope="day", amount=1)
    log.append(running.session_id, [step("old", cost=5, at=now() - timedelta(days=1))])
    budgets.check([running.pk])
    assert not BudgetHit.objects.exists()


def test_check__another_projects_budget_does_not_matter(running, db):
    from workspaces.models import Project

    elsewhere = Project.objects.create(name="Else", key="ELSE", path="/else", default_branch="main")
    budget(project=elsewhere)
    budget(enabled=False)
    assert spend(running, 9).hold == ""


def test_check__a_budget_without_a_project_holds_for_each(running):
    budget(project=None)
    assert spend(running, 9).hold == "budget"


def test_check__costs_that_nobody_knows_reach_no_cost_budget_but_tokens_do(running):
    budget(amount=Decimal("0.0001"))
    assert spend(running, 0, input=10**9).hold == ""
    budget(metric="tokens", amount=10**9)
    assert spend(running, 0).hold == "budget"


def test_check__a_turn_that_ended_meanwhile_is_only_noted(running):
    budget()
    Turn.objects.filter(pk=running.pk).update(state="settled", outcome="completed")
    turn = spend(running, 2)
    assert (turn.hold, Ask.objects.count(), BudgetHit.objects.count()) == ("", 0, 1)


def test_dispatch__a_used_up_task_is_asked_about_before_anything_is_sent(running, backend):
    budget()
    Turn.objects.filter(pk=running.pk).update(state="settled", outcome="completed")
    spend(running, 2)
    following = turns.admit_turn(
        session=running.session, prompt="More", max_steps=9, wall_seconds=60, idle_seconds=30, tool_subject="run-2"
    )
    dispatch(following.pk)
    dispatch(following.pk)
    following.refresh_from_db()
    assert (following.state, following.hold, backend.prompts) == ("admitted", "budget", [])
    ask = Ask.objects.get()
    assert ask.turn_id == following.pk
    answer(ask, "once")
    dispatch(following.pk)
    following.refresh_from_db()
    assert (following.state, len(backend.prompts)) == ("running", 1)


def test_dispatch__a_used_up_budget_that_stops_ends_the_turn_unsent(running, backend):
    budget(action="stop")
    Turn.objects.filter(pk=running.pk).update(state="settled", outcome="completed")
    spend(running, 2)
    following = turns.admit_turn(session=running.session, prompt="More", max_steps=9, wall_seconds=60, idle_seconds=30)
    dispatch(following.pk)
    abort(following.pk)
    following.refresh_from_db()
    assert (following.outcome, following.error_code, backend.prompts) == ("failed", "budget_exceeded", [])
    assert not following.unconfirmed  # the server never heard of it


def test_dispatch__a_warning_keeps_nothing_back(turn, session, backend):
    AgentSession.objects.filter(pk=session.pk).update(subject=TASK)
    log.append(session.pk, [step("a", cost=5)])
    budget(action="warn")
    dispatch(turn.pk)
    assert len(backend.prompts) == 1
    assert BudgetHit.objects.count() == 1


def test_answered__one_grant_lets_every_turn_go_on_that_waits_for_it(running):
    other = another(running)
    budget(scope="day", amount=1)
    spend(other, 0.6)
    spend(running, 0.6)
    budgets.check([other.pk])
    Turn.objects.filter(hold="budget").update(state="admitted")
    assert Ask.objects.filter(state="pending").count() == 2
    answer(Ask.objects.get(turn=running), "once")
    assert budgets.reconsider() == 1
    assert Ask.objects.get(turn=other).state == "withdrawn"
    assert not Turn.objects.filter(hold="budget").exists()


def test_answered__a_turn_that_another_budget_holds_stays(running):
    budget(scope="task")
    turn = spend(running, 1)
    budget(scope="run", amount=Decimal("0.5"))
    Turn.objects.filter(pk=turn.pk).update(state="admitted")
    answer(Ask.objects.get(), "once")
    turn.refresh_from_db()
    turn.session.refresh_from_db()
    assert budgets.bars(turn)
    turn.refresh_from_db()
    assert turn.hold == "budget"


@pytest.mark.parametrize("change", ["raised", "off", "warns", "gone"])
def test_reconsider__a_changed_budget_lets_the_turn_go(running, change):
    limit = budget()
    turn = spend(running, 1)
    assert budgets.reconsider() == 0
    if change == "gone":
        limit.delete()
    else:
        fields = {"raised": {"amount": 5}, "off": {"enabled": False}, "warns": {"action": "warn"}}[change]
        Budget.objects.filter(pk=limit.pk).update(**fields)
    assert budgets.reconsider() == 1
    turn.refresh_from_db()
    assert turn.hold == "released"  # the server had not stopped it yet: it is sent again as soon as it has
    assert Ask.objects.get().state == "withdrawn"


def test_reconsider__a_new_day_is_a_new_budget(running, monkeypatch):
    budget(scope="day")
    spend(running, 1)
    tomorrow = now().date() + timedelta(days=1)
    for module in ("services.budgets", "budget_state"):
        monkeypatch.setattr(f"sessions_app.{module}.today", lambda: tomorrow)
    assert budgets.reconsider() == 1


def test_check__a_budget_that_is_lowered_again_asks_again(running):
    limit = budget()
    turn = spend(running, 1)
    Budget.objects.filter(pk=limit.pk).update(amount=5)
    budgets.reconsider()
    Turn.objects.filter(pk=turn.pk).update(state="running", hold="")
    Budget.objects.filter(pk=limit.pk).update(amount=1)
    budgets.check([turn.pk])
    assert Ask.objects.filter(state="pending").count() == 1


def test_release__without_an_answer_the_turn_is_not_sent(running, backend):
    budget()
    turn = spend(running, 1)
    Turn.objects.filter(pk=turn.pk).update(state="admitted")
    release_turn(turn_id=turn.pk)
    dispatch(turn.pk)
    turn.refresh_from_db()
    assert (turn.hold, backend.prompts) == ("budget", [])


def test_check__costs_the_same_for_one_turn_and_for_many(running):
    for scope in ("turn", "run", "task", "project", "day"):
        budget(scope=scope, amount=1000)
    spend(running, 1)

    def statements(ids: list[Any]) -> int:
        with CaptureQueriesContext(connection) as seen:
            budgets.check(ids)
        return len(seen)

    one = statements([running.pk])
    many = [running.pk] + [another(running, str(uuid.uuid4())).pk for number in range(20)]
    assert statements(many) == one


def test_check__without_budgets_it_is_two_statements(running, django_assert_num_queries):
    with django_assert_num_queries(2):
        budgets.check([running.pk])


def test_use__in_a_project_and_of_a_task(running):
    whole, day, task = budget(scope="project", amount=4), budget(scope="day", amount=8), budget(scope="task", amount=2)
    spend(running, 1)
    uses = {one.budget.pk: one for one in use_in_project(running.session.project)}
    assert (uses[whole.pk].percent, uses[day.pk].percent, uses[task.pk].used) == (25, 12, None)
    (mine,) = use_of_task(running.session.project, TASK)
    assert (mine.percent, mine.used, mine.limit) == (50, 1, 2)
    BudgetHit.objects.create(budget=task, counted=TASK, used=1, allowance=2)
    (mine,) = use_of_task(running.session.project, TASK)
    assert (mine.percent, mine.limit) == (25, 4)


def test_reached_by__a_turn_without_task_and_run_counts_for_its_project(running):
    AgentSession.objects.filter(pk=running.session_id).update(subject="")
    Turn.objects.filter(pk=running.pk).update(tool_subject="")
    for scope in ("run", "task", "project"):
        budget(scope=scope, amount=1)
    turn = Turn.objects.select_related("session").get(pk=running.pk)
    log.append(turn.session_id, [step("a", cost=3)])
    assert [one.budget.scope for one in reached_by([turn])[turn.pk]] == ["project"]
