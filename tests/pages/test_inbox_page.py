"""Writing to a session's agent from its page, with and without the page's script; what a person decides about a turn."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from sessions_app.models import Delivery, InboxState, Turn, TurnState
from sessions_app.services import inbox
from studio.kernel.clock import later, now
from tests import factories
from tests.pages.conftest import FRAGMENT, body


def page_of(client, session):
    return body(client.get(f"/sessions/{session.pk}/"))


def send(client, session, text="Hello", delivery="queue", **options):
    fields = {"text": text, "delivery": delivery, **options.pop("fields", {})}
    return client.post(f"/sessions/{session.pk}/inbox/", fields, **options)


def act(client, session, item, action, **fields):
    return client.post(f"/sessions/{session.pk}/inbox/{item.pk}/{action}/", fields, headers=FRAGMENT)


def waiting(session):
    return list(session.inbox.filter(state=InboxState.WAITING).values_list("delivery", "text"))


def test_a_message_is_sent_without_a_script(as_maintainer, session, turn):
    response = send(as_maintainer, session, "Look at the tests too.")
    assert response.status_code == 302
    assert response["Location"] == f"/sessions/{session.pk}/"
    assert waiting(session) == [(Delivery.QUEUE, "Look at the tests too.")]
    page = page_of(as_maintainer, session)
    assert "Look at the tests too." in page
    assert "Queued" in page


def test_one_comes_back_to_the_page_one_wrote_on(as_maintainer, session, turn):
    wanted = "/tasks/DEMO-1/?tab=transcript"
    assert send(as_maintainer, session, fields={"next": wanted})["Location"] == wanted
    for evil in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        assert send(as_maintainer, session, fields={"next": evil})["Location"] == f"/sessions/{session.pk}/"


def test_the_script_gets_what_stands_around(as_maintainer, session, turn):
    response = send(as_maintainer, session, delivery="steer", headers=FRAGMENT)
    assert response.status_code == 200
    assert 'class="pending"' in body(response)
    assert "At the next step" in body(response)
    assert "e-inbox_accepted" not in body(response)


@pytest.mark.parametrize(("text", "words"), [("  ", "The message is empty."), ("x" * 100_001, "100,000 are possible")])
def test_what_is_refused_keeps_its_text(as_maintainer, session, turn, text, words):
    response = send(as_maintainer, session, text)
    assert response.status_code == 400
    assert words in body(response)
    assert text.strip()[:200] in body(response)
    fragment = send(as_maintainer, session, text, headers=FRAGMENT)
    assert fragment.status_code == 400
    assert fragment["Content-Type"].startswith("text/plain")
    assert words in body(fragment)
    assert waiting(session) == []


def test_an_unknown_way_to_send_is_refused(as_maintainer, session, turn):
    assert send(as_maintainer, session, delivery="pigeon").status_code == 400


def test_interrupt_and_send_asks_for_the_turns_end(as_maintainer, session, turn):
    send(as_maintainer, session, "Stop that.", delivery="interrupt")
    turn.refresh_from_db()
    assert turn.abort_requested_at is not None
    assert waiting(session) == [(Delivery.STEER, "Stop that.")]


def test_whoever_only_reads_has_no_field_and_cannot_send(as_viewer, as_reviewer, as_stranger, session, turn):
    for client in (as_viewer, as_reviewer):
        page = page_of(client, session)
        assert "<textarea" not in page
        assert "You read along" in page
        assert send(client, session).status_code == 403
    assert send(as_stranger, session).status_code == 404
    assert waiting(session) == []


def test_a_form_of_another_site_is_refused(owner, session):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(owner)
    assert send(strict, session).status_code == 403


def test_three_ways_to_send_while_the_agent_works_and_one_otherwise(as_maintainer, session, turn):
    ways = r'<span class="while-busy"( hidden)?>'
    assert re.search(ways, page_of(as_maintainer, session))[1] is None
    Turn.objects.filter(pk=turn.pk).update(state=TurnState.SETTLED)
    assert re.search(ways, page_of(as_maintainer, session))[1] == " hidden"


def test_a_waiting_message_is_changed_sent_now_and_taken_back(as_maintainer, session, turn):
    first, second = (inbox.post(session=session, text=text, delivery="queue") for text in ("One", "Two"))
    assert "One, better" in body(act(as_maintainer, session, first, "edit", text="One, better"))
    assert "At the next step" in body(act(as_maintainer, session, second, "send-now"))
    assert waiting(session) == [("queue", "One, better"), ("steer", "Two")]
    gone = body(act(as_maintainer, session, first, "remove"))
    assert f"msg-{first.pk}" not in gone
    assert f"msg-{second.pk}" in gone


def test_steers_stand_first_because_they_go_first(as_maintainer, session, turn):
    queued = inbox.post(session=session, text="Later", delivery="queue")
    steer = inbox.post(session=session, text="Sooner", delivery="steer")
    page = page_of(as_maintainer, session)
    assert page.index(f"msg-{steer.pk}") < page.index(f"msg-{queued.pk}")


def test_a_message_on_its_way_is_not_changed(as_maintainer, session, turn):
    item = inbox.post(session=session, text="Go", delivery="steer")
    session.inbox.filter(pk=item.pk).update(state=InboxState.SENDING, turn=turn, message_id="msg_1")
    page = page_of(as_maintainer, session)
    assert "Sending" in page
    assert f"edit-{item.pk}" not in page
    refused = act(as_maintainer, session, item, "edit", text="Other")
    assert refused.status_code == 409
    assert "has been sent to the agent already" in body(refused)


def test_messages_belong_to_their_session(as_maintainer, session, turn):
    other = factories.make_session(session.workspace)
    item = inbox.post(session=other, text="Go", delivery="queue")
    assert act(as_maintainer, session, item, "remove").status_code == 404
    assert act(as_maintainer, other, item, "burn").status_code == 404
    assert len(waiting(other)) == 1


def test_hostile_messages_are_escaped(as_maintainer, session, turn):
    send(as_maintainer, session, "</textarea><script>alert(1)</script>")
    page = page_of(as_maintainer, session)
    assert "<script>alert" not in page
    assert "&lt;/textarea&gt;" in page


# ---- turns


def turn_act(client, session, turn, action, **options):
    return client.post(f"/sessions/{session.pk}/turns/{turn.number}/{action}/", **options)


@pytest.fixture
def lost(turn):
    Turn.objects.filter(pk=turn.pk).update(state=TurnState.UNKNOWN, error_message="No record of it.")
    return turn


def test_a_lost_turn_is_tried_again(as_maintainer, session, lost):
    page = page_of(as_maintainer, session)
    assert f"Nobody can say how turn {lost.number} ended" in page
    assert "No record of it." in page
    assert turn_act(as_maintainer, session, lost, "retry").status_code == 302
    lost.refresh_from_db()
    assert lost.state == TurnState.ADMITTED
    assert turn_act(as_maintainer, session, lost, "retry", headers=FRAGMENT).status_code == 409


def test_a_lost_turn_is_given_up(as_maintainer, session, lost):
    assert turn_act(as_maintainer, session, lost, "abandon", headers=FRAGMENT).status_code == 200
    lost.refresh_from_db()
    assert (lost.state, lost.outcome) == (TurnState.SETTLED, "failed")


def test_a_lost_turn_is_decided_by_a_maintainer(as_reviewer, session, lost):
    page = page_of(as_reviewer, session)
    assert "A maintainer decides." in page
    assert "/retry/" not in page
    assert turn_act(as_reviewer, session, lost, "retry").status_code == 403


def test_nobody_needs_to_wait_for_the_next_try(as_maintainer, session, turn):
    Turn.objects.filter(pk=turn.pk).update(state=TurnState.ADMITTED, retry_code="rate_limited", next_try_at=later(600))
    assert turn_act(as_maintainer, session, turn, "try-now").status_code == 302
    turn.refresh_from_db()
    assert turn.next_try_at <= now()
    assert turn_act(as_maintainer, session, turn, "dance").status_code == 404


def test_messages_change_places(as_maintainer, session, turn):
    first, second = (inbox.post(session=session, text=text, delivery="queue") for text in ("One", "Two"))
    inbox.post(session=session, text="Steer", delivery="steer")
    page = page_of(as_maintainer, session)
    ways = re.findall(r"/inbox/([\w-]+)/(up|down)/", page)
    assert ways == [(str(first.pk), "down"), (str(second.pk), "up")]
    moved = body(act(as_maintainer, session, second, "up"))
    assert moved.index("Two") < moved.index("One")
    assert waiting(session) == [("queue", "Two"), ("queue", "One"), ("steer", "Steer")]
