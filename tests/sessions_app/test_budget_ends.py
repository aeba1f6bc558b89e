"""A budget that the last step of a turn uses up: nobody could be asked in time, so the next turn does not begin unasked."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from sessions_app import log
from sessions_app.budget_use import use_in_project
from sessions_app.models import AgentSession, Ask, Budget, BudgetHit, Turn, TurnOutcome, TurnState
from sessions_app.services import budgets
from sessions_app.services.abort import abort
from sessions_app.services.dispatch import dispatch
from sessions_app.services.settle import settle
from studio.kernel.clock import now
from tests.sessions_app.test_budgets import TASK, another, answer, budget, running
from tests.sessions_app.test_usage import step

__all__ = ["running"]  # the fixture


def end_over(turn: Turn, outcome: TurnOutcome = TurnOutcome.COMPLETED) -> None:
    """The last step goes over the budget, the turn ends, and only then somebody looks."""
    log.append(turn.session_id, [step("last", cost=1.02)])
    assert settle(turn.pk, outcome)
    budgets.check_sessions([turn.session_id])


def follow(turn: Turn) -> Turn:
    """The first turn of the task's next run, not sent yet."""
    following = another(turn, TASK)
    Turn.objects.filter(pk=following.pk).update(state="admitted", started_at=None, tool_subject=str(uuid.uuid4()))
    AgentSession.objects.filter(pk=following.session_id).update(external_id=f"ses_{following.pk.hex}")
    dispatch(following.pk)
    return Turn.objects.select_related("session").get(pk=following.pk)


@pytest.fixture
def first(running):
    Turn.objects.filter(pk=running.pk).update(tool_subject=str(uuid.uuid4()))
    running.refresh_from_db()
    return running


@pytest.mark.parametrize(
    ("scope", "who"),
    [("task", "This task"), ("run", "The run before this one"), ("turn", "The turn before this one")],
)
def test_ask__after_a_last_step_over_the_budget_the_next_run_waits_for_an_answer(first, backend, scope, who):
    budget(scope=scope)
    end_over(first)
    turn = follow(first)
    assert (turn.state, turn.hold, backend.prompts) == ("admitted", "budget", [])
    ask = Ask.objects.get(state="pending")
    assert ask.title == f"{who} has used $1.02 of $1.00: go on?"
    assert ask.detail["more"] == ("1.0000" if scope == "task" else "")
    assert budgets.reconsider() == 0
    answer(ask, "once")
    dispatch(turn.pk)
    assert len(backend.prompts) == 1


@pytest.mark.parametrize("scope", ["run", "turn"])
def test_stop__after_a_last_step_over_the_budget_the_next_run_ends_unsent_and_the_one_after_a_decision_begins(
    first, backend, scope
):
    budget(scope=scope, action="stop")
    end_over(first)
    turn = follow(first)
    abort(turn.pk)
    turn.refresh_from_db()
    assert (turn.outcome, turn.error_code, backend.prompts) == ("failed", "budget_exceeded", [])
    assert turn.error_message == f"The {scope} before this one has used $1.02 of $1.00."
    assert follow(turn).state == TurnState.RUNNING


def test_ask__a_turn_that_failed_bars_nothing(first, backend):
    budget(scope="run")
    end_over(first, TurnOutcome.FAILED)
    assert follow(first).state == TurnState.RUNNING


def test_ask__a_budget_that_did_not_hold_then_bars_nothing(first, backend):
    end_over(first)
    later = budget(scope="run")
    Budget.objects.filter(pk=later.pk).update(created_at=now() + timedelta(seconds=1))
    assert follow(first).state == TurnState.RUNNING


def test_warn__bars_nothing(first, backend):
    budget(scope="run", action="warn")
    end_over(first)
    assert follow(first).state == TurnState.RUNNING


def test_use__a_budget_of_single_runs_says_which_one_reached_it(first):
    limit = budget(scope="run")
    end_over(first)
    (use,) = use_in_project(first.session.project)
    assert use.reached
    (hit,) = use.hits
    assert (hit.session.pk, hit.used) == (first.session_id, BudgetHit.objects.get(budget=limit).used)


def test_use__what_a_person_has_granted_is_not_reached(first):
    limit = budget(scope="task")
    end_over(first)
    assert use_in_project(first.session.project)[0].reached
    BudgetHit.objects.filter(budget=limit).update(allowance=1)
    assert not use_in_project(first.session.project)[0].reached
