"""Asks under real threads with connections of their own: the first answer wins, and nothing is opened or sent twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connections

from agents.asks import PermissionAsked
from sessions_app.models import AgentSession, Ask, PermissionRule, Turn
from sessions_app.services import ask_timeouts, asks, reconcile
from studio.kernel.clock import now
from studio.kernel.errors import Conflict
from tests.factories import make_profiles

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Call all at the same moment; results and Conflicts, in their order."""
    barrier = Barrier(len(calls))

    def one(call: Callable[[], object]) -> object:
        try:
            barrier.wait(20)
            return call()
        except Conflict as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


@pytest.fixture
def working(turn, session):
    make_profiles()
    AgentSession.objects.filter(pk=session.pk).update(external_id="ses_a", role="implementer")
    Turn.objects.filter(pk=turn.pk).update(state="running", started_at=now())
    session.refresh_from_db()
    return turn


@pytest.fixture
def asked(session):
    return PermissionAsked("ses_a", "per_1", session.directory, "external_directory", ("/etc/*",))


@pytest.fixture
def ask(backend, server, working, asked):
    backend.asked.append(asked)
    return asks.take(server, asked)


def test_two_answers__the_first_wins_and_the_second_is_told(backend, ask):
    answers = at_once(
        *(lambda reply=reply: asks.answer(ask_id=ask.pk, actor=None, reply=reply) for reply in ("once", "reject") * 3)
    )
    (won,) = [one for one in answers if isinstance(one, Ask)]
    late = [one for one in answers if isinstance(one, Conflict)]
    assert {one.code for one in late} == {"already_answered"}
    assert {one.detail["reply"] for one in late} == {won.reply}
    at_once(*(lambda: asks.deliver(ask.pk) for _ in range(4)))
    assert len(backend.answered) == 1
    assert ask.session.events.filter(kind="ask.answered").count() == 1


def test_what_is_told_twice__is_opened_once(backend, server, working, asked):
    backend.asked.append(asked)
    at_once(*(lambda: asks.take(server, asked) for _ in range(4)), lambda: asks.sync(server, {asked.directory}))
    assert Ask.objects.count() == 1
    working.refresh_from_db()
    assert working.waiting_since is not None


def test_answer_and_time_out__one_of_both(ask, session):
    ask_timeouts.set_policy(actor=None, project=session.project, timeout_minutes=1, action="reject")
    Ask.objects.update(due_at=now())
    at_once(lambda: asks.answer(ask_id=ask.pk, actor=None, reply="once"), ask_timeouts.sweep_asks)
    ask.refresh_from_db()
    assert (ask.state, ask.reply) in [("answered", "once"), ("expired", "reject")]
    kinds = ask.session.events.filter(kind__in=["ask.answered", "ask.expired"])
    assert kinds.count() == 1


def test_answer_and_restart__the_answer_is_kept_or_refused(backend, server, ask, asked, working):
    """Whatever comes first, a person who was told "answered" is not asked again."""
    fresh = Turn.objects.get(pk=working.pk)
    said, _ = at_once(lambda: asks.answer(ask_id=ask.pk, actor=None, reply="once"), lambda: reconcile.resume(fresh))
    Turn.objects.filter(pk=working.pk).update(state="running")
    again = asks.take(server, PermissionAsked("ses_a", "per_2", asked.directory, asked.permission, asked.patterns))
    assert (again.state == "answered") == isinstance(said, Ask)


def test_always_twice_at_once__is_one_rule(backend, server, working, asked, session):
    rows = []
    for number in (1, 2, 3):
        one = PermissionAsked("ses_a", f"per_{number}", asked.directory, asked.permission, asked.patterns)
        rows.append(asks.take(server, one))
    at_once(*(lambda row=row: asks.answer(ask_id=row.pk, actor=None, reply="always") for row in rows))
    assert PermissionRule.objects.count() == 1
