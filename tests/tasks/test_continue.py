"""A fix round in the implementer's own conversation, where the profile of the implementer says so."""

from __future__ import annotations

import pytest

from agents.models import AgentProfile, AgentRole
from sessions_app.models import AgentSession, SessionEvent, Turn, TurnOutcome
from studio.models import FeedEvent
from tasks.choices import Phase
from tests.factories import make_server, settle_turn

pytestmark = pytest.mark.django_db


@pytest.fixture
def implementer(pipeline):
    profile = AgentProfile.objects.get(role=AgentRole.IMPLEMENTER)
    profile.continue_session = True
    profile.save()
    return profile


def work(pipeline):
    """An implementation that the review sends back; its session, as the server knows it."""
    run = pipeline.to(Phase.IMPLEMENTATION)
    AgentSession.objects.filter(pk=run.session.pk).update(external_id="ses_1")
    pipeline.write("goodbye.py", "print('bye')\n")
    pipeline.settle(result_text="It says goodbye.")
    pipeline.review("changes_requested", summary="Say it politely.")
    return run


def test_fix__goes_on_in_the_conversation_of_the_implementer(pipeline, implementer):
    first = work(pipeline)
    run = pipeline.begin()
    assert run.phase == Phase.FIX
    assert run.session == first.session
    assert (run.turn.number, run.turn.tool_subject) == (2, str(run.pk))
    assert run.turn.prompt.startswith("Phase: fix")
    kinds = FeedEvent.objects.filter(kind__startswith="session.").values_list("kind", flat=True)
    assert list(kinds).count("session.resumed") == 1
    pipeline.write("goodbye.py", "print('Goodbye.')\n")
    pipeline.settle(result_text="Politely.")
    assert pipeline.review().phase == Phase.REVIEW  # a review has a conversation of its own
    assert AgentSession.objects.filter(role=AgentRole.IMPLEMENTER).count() == 1


def test_fix__begins_afresh_where_the_profile_does_not_say_so(pipeline):
    first = work(pipeline)
    assert pipeline.begin().session != first.session


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("profile", "the agent profile was changed since"),
        ("server", "this round runs on another agent server"),
        ("crash", "the earlier conversation did not come to its end"),
    ],
)
def test_fix__begins_afresh_and_says_why(pipeline, implementer, change, reason):
    first = work(pipeline)
    if change == "profile":
        AgentProfile.objects.filter(pk=implementer.pk).update(version=2)
    elif change == "server":
        AgentSession.objects.filter(pk=first.session.pk).update(server=make_server(name="other", enabled=False))
    else:
        Turn.objects.filter(pk=first.turn.pk).update(outcome=TurnOutcome.FAILED)
    SessionEvent.objects.create(
        session=first.session, seq=999, kind="text", upstream_key="t", data={"text": "I wrote it."}, at=first.started_at
    )
    run = pipeline.begin()
    assert run.session != first.session
    assert run.session.previous == first.session
    assert f"because {reason}" in run.turn.prompt
    assert "Answered: I wrote it." in run.turn.prompt
    said = SessionEvent.objects.get(session=first.session, kind="session.continued")
    assert (said.data["session"], said.data["reason"]) == (str(run.session.pk), reason)
    assert run.session.title.endswith("fix, round 1")
    settle_turn(run.turn)
