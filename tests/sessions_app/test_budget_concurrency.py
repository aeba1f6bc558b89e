"""Real threads that look at the same budget at the same moment: what people are told and asked, they are told and asked once."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from agents.backend import LogEntry
from sessions_app import log, usage
from sessions_app.models import AgentSession, Ask, Budget, BudgetHit, Turn, Usage
from sessions_app.services import budgets, turns
from studio.kernel.clock import now
from studio.kernel.ids import new_id
from studio.models import FeedEvent
from tests.factories import make_project, make_server, make_session, make_turn, make_workspace
from tests.sessions_app.test_concurrency import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def step(key: str, **data: Any) -> LogEntry:
    return LogEntry("step.finished", f"step:{key}", {"part": key, "cost": 0.1, "tokens": {"input": 10}, **data}, now())


@pytest.fixture
def turn():
    session = make_session(make_workspace(make_project()), server=make_server(), subject=str(new_id()), external_id="s")
    return make_turn(session, state="running", started_at=now(), last_event_at=now())


def test_check__many_at_once_ask_once(turn):
    Budget.objects.create(scope="task", metric="cost", amount="0.05", action="ask")
    Budget.objects.create(scope="run", metric="tokens", amount=1, action="warn")
    Turn.objects.filter(pk=turn.pk).update(tool_subject="run-1")
    log.append(turn.session_id, [step("a")])
    at_once(lambda _: budgets.check_sessions([turn.session_id]))
    assert Ask.objects.count() == 1
    assert BudgetHit.objects.count() == 2
    assert FeedEvent.objects.filter(kind="budget.reached").count() == 2
    assert Turn.objects.get(pk=turn.pk).hold == "budget"


def test_append__the_same_steps_from_many_sides_count_once(turn):
    steps = [step(f"{number}") for number in range(20)]
    at_once(lambda number: log.append(turn.session_id, steps[number:] + steps[:number]))
    session = AgentSession.objects.get(pk=turn.session_id)
    assert Usage.objects.count() == 20
    assert session.tokens_input == usage.of_turn(turn.pk).input == 200
    assert float(session.cost) == pytest.approx(2.0)


def test_check__many_turns_of_one_day_are_held_each_and_let_go_by_one_answer(turn):
    others = []
    for number in range(5):
        session = turns.open_session(
            workspace=turn.session.workspace,
            server=turn.session.server,
            role="planner",
            title=f"{number}",
            agent="studio-planner",
            model="",
        )
        others.append(make_turn(session, state="running", started_at=now()))
    everyone = [turn, *others]
    Budget.objects.create(scope="day", metric="cost", amount="0.05", action="ask")
    log.append(turn.session_id, [step("a")])
    at_once(lambda number: budgets.check([everyone[number].pk]))
    assert Ask.objects.filter(state="pending").count() == 6
    assert BudgetHit.objects.count() == 1
    Turn.objects.update(state="admitted")
    ask = Ask.objects.first()
    with transaction.atomic():
        ask.state, ask.reply, ask.answered_name = "answered", "once", "ada"
        ask.save()
        budgets.answered(ask)
    at_once(lambda _: budgets.reconsider())
    assert not Turn.objects.filter(hold="budget").exists()
    assert Ask.objects.filter(state="withdrawn").count() == 5
