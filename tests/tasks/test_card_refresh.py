"""A running card says what its turn does or waits for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agents.asks import PermissionAsked
from sessions_app.models import Ask, Turn
from sessions_app.services.ask_rows import close_row, open_row
from studio.kernel.clock import now
from studio.models import FeedEvent
from studio.queue import Names
from tasks.actions import possible
from tasks.cards import card_view
from tasks.choices import Phase
from tasks.services.card_refresh import refresh_card
from tests.tasks.pipeline import Pipeline

pytestmark = pytest.mark.django_db


@pytest.fixture
def pipeline():
    made = Pipeline()
    made.to(Phase.IMPLEMENTATION)
    Turn.objects.update(state="running", started_at=now())
    return made


@pytest.fixture
def turn(pipeline):
    return pipeline.run().turn


def ask_of(turn, number=1) -> Ask:
    session = turn.session
    asked = PermissionAsked("ses_a", f"per_{number}", session.directory, "bash", ("npm test",), title="Run npm test")
    return open_row(session, turn, asked, asker="Implementer", answer={})


def card_text(pipeline):
    task = pipeline.fresh()
    return card_view(task, pipeline.run(), None, may_start=True).mark.text


def test_ask__shows_on_the_card_until_it_is_answered(pipeline, turn):
    first, second = ask_of(turn), ask_of(turn, 2)
    assert refresh_card(turn.pk)
    assert pipeline.shown == ("in_progress", "waiting", "answer", "")
    assert pipeline.task.reason == "Implementer: Run npm test. There is more than that."
    assert card_text(pipeline) == "Answer the agent"
    assert "stop" in possible(pipeline.task.status, pipeline.task.run_state)
    close_row(first, "answered", "answered", {})
    refresh_card(turn.pk)
    assert pipeline.fresh().reason == "Implementer: Run npm test."
    close_row(second, "withdrawn", "withdrawn", {})
    refresh_card(turn.pk)
    assert pipeline.shown == ("in_progress", "running", "", "")


def test_refresh__that_changes_nothing_publishes_nothing(pipeline, turn):
    ask_of(turn)
    assert refresh_card(turn.pk)
    published = FeedEvent.objects.count()
    assert not refresh_card(turn.pk)
    assert FeedEvent.objects.count() == published


def test_ask__asks_for_the_card(pipeline, turn, requested_jobs, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        ask_of(turn)
    assert (Names.REFRESH_CARD, (str(turn.pk),)) in requested_jobs


def test_rate_limit__shows_when_the_next_try_is(pipeline, turn):
    at = now() + timedelta(minutes=2)
    Turn.objects.update(state="admitted", retry_code="rate_limited", next_try_at=at)
    assert refresh_card(turn.pk)
    assert pipeline.shown == ("in_progress", "running", "", "")
    assert pipeline.task.reason.startswith("Rate limit: next try at ")
    assert card_text(pipeline) == pipeline.task.reason
    Turn.objects.update(state="running", next_try_at=None, retry_code="")
    refresh_card(turn.pk)
    assert card_text(pipeline) == "Working"


def test_turn_of_which_nobody_knows__asks_for_a_decision(pipeline, turn):
    Turn.objects.update(state="unknown")
    refresh_card(turn.pk)
    assert pipeline.shown == ("in_progress", "waiting", "unknown", "session_lost")


def test_run_that_is_over__keeps_what_it_shows(pipeline, turn):
    ask_of(turn)
    pipeline.settle()
    before = pipeline.shown
    assert not refresh_card(turn.pk)
    assert pipeline.shown == before


def test_stop_that_was_asked_for__stays_on_the_card(pipeline, turn):
    ask_of(turn)
    refresh_card(turn.pk)
    pipeline.act("stop")
    refresh_card(turn.pk)
    assert (pipeline.fresh().run_state, pipeline.task.reason) == ("running", "Stopping.")
