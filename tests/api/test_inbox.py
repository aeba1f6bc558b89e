"""Messages to a session's agent over REST."""

from __future__ import annotations

import pytest

from sessions_app.models import InboxItem, Turn, TurnState
from tests.api.conftest import error_of
from tests.factories import make_profiles, make_session, make_turn, make_workspace


@pytest.fixture
def session(project):
    make_profiles()
    return make_session(make_workspace(project), title="Working", external_id="ses_1")


@pytest.fixture
def turn(session):
    return make_turn(session, prompt="Work")


def post(client, path, body=None):
    return client.post(f"/api/v1{path}", body or {}, format="json")


def test_message__is_accepted_listed_changed_and_removed(maintainer, viewer, session, turn):
    made = post(maintainer, f"/sessions/{session.pk}/inbox", {"text": "Mind the gap.", "delivery": "queue"})
    assert made.status_code == 201
    item = made.json()
    assert (item["state"], item["delivery"], item["position"], item["turn"]) == ("waiting", "queue", 1, None)
    changed = maintainer.patch(f"/api/v1/inbox/{item['id']}", {"text": "Mind the step."}, format="json")
    assert changed.json()["text"] == "Mind the step."
    listed = viewer.get(f"/api/v1/sessions/{session.pk}/inbox").json()["results"]
    assert [one["text"] for one in listed] == ["Mind the step."]
    assert post(maintainer, f"/inbox/{item['id']}/send").json()["delivery"] == "steer"
    assert maintainer.delete(f"/api/v1/inbox/{item['id']}").status_code == 204
    assert viewer.get(f"/api/v1/sessions/{session.pk}/inbox").json()["results"] == []
    events = viewer.get(f"/api/v1/sessions/{session.pk}/events").json()["results"]
    assert [event["kind"] for event in events] == ["inbox.accepted", "inbox.edited", "inbox.edited", "inbox.removed"]


def test_message__is_moved_among_what_waits(maintainer, viewer, session, turn):
    ids = [post(maintainer, f"/sessions/{session.pk}/inbox", {"text": text}).json()["id"] for text in "abc"]

    def order():
        return "".join(one["text"] for one in viewer.get(f"/api/v1/sessions/{session.pk}/inbox").json()["results"])

    assert post(maintainer, f"/inbox/{ids[2]}/move", {"direction": "up"}).json()["position"] == 2
    assert order() == "acb"
    post(maintainer, f"/inbox/{ids[0]}/move", {"direction": "down"})
    post(maintainer, f"/inbox/{ids[1]}/move", {"direction": "down"})
    assert order() == "cab"
    error_of(post(maintainer, f"/inbox/{ids[0]}/move", {"direction": "away"}), 400)
    error_of(post(viewer, f"/inbox/{ids[0]}/move", {"direction": "up"}), 403)
    InboxItem.objects.filter(pk=ids[0]).update(state="delivered")
    error_of(post(maintainer, f"/inbox/{ids[0]}/move", {"direction": "up"}), 409, "already_sent")


def test_message__on_its_way_can_no_longer_be_changed(maintainer, session, turn):
    item = post(maintainer, f"/sessions/{session.pk}/inbox", {"text": "x"}).json()
    InboxItem.objects.update(state="delivered")
    error_of(maintainer.patch(f"/api/v1/inbox/{item['id']}", {"text": "y"}, format="json"), 409, "already_sent")
    error_of(maintainer.delete(f"/api/v1/inbox/{item['id']}"), 409, "already_sent")
    error_of(post(maintainer, f"/inbox/{item['id']}/send"), 409, "already_sent")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": ""},
        {"text": "  "},
        {"text": "a\x00b"},
        {"text": 5, "delivery": "now"},
        {"text": "x" * 1_000_000},
        {"text": "x", "delivery": "later"},
        {"text": "x", "unknown": 1},
        {"text": ["x"]},
    ],
)
def test_message__that_is_none_is_refused_and_nothing_is_kept(maintainer, session, turn, body):
    error_of(post(maintainer, f"/sessions/{session.pk}/inbox", body), 400)
    assert not InboxItem.objects.exists()


def test_message__with_a_lone_surrogate_is_refused(maintainer, session, turn):
    answer = maintainer.post(
        f"/api/v1/sessions/{session.pk}/inbox", b'{"text": "a\\ud800b"}', content_type="application/json"
    )
    error_of(answer, 400)


def test_message__takes_the_role_of_a_maintainer(viewer, outsider, session, turn):
    error_of(post(viewer, f"/sessions/{session.pk}/inbox", {"text": "x"}), 403)
    error_of(post(outsider, f"/sessions/{session.pk}/inbox", {"text": "x"}), 404)
    error_of(outsider.get(f"/api/v1/sessions/{session.pk}/inbox"), 404)


def test_interrupt__with_and_without_a_message(maintainer, session, turn):
    first = post(maintainer, f"/sessions/{session.pk}/interrupt", {"text": "Something else."}).json()
    assert first["interrupted"] is True
    assert first["message"]["delivery"] == "steer"
    turn.refresh_from_db()
    assert turn.abort_reason == "interrupted"
    Turn.objects.update(state=TurnState.SETTLED)
    assert post(maintainer, f"/sessions/{session.pk}/interrupt").json() == {"interrupted": False, "message": None}


def test_lost_turn__is_retried_or_given_up(maintainer, viewer, session, turn):
    error_of(post(maintainer, f"/sessions/{session.pk}/turns/1/retry"), 409)
    Turn.objects.update(state=TurnState.UNKNOWN)
    error_of(post(viewer, f"/sessions/{session.pk}/turns/1/abandon"), 403)
    error_of(post(maintainer, f"/sessions/{session.pk}/turns/9/retry"), 404)
    assert post(maintainer, f"/sessions/{session.pk}/turns/1/retry").json()["state"] == "admitted"
    Turn.objects.update(state=TurnState.UNKNOWN)
    given_up = post(maintainer, f"/sessions/{session.pk}/turns/1/abandon").json()
    assert (given_up["state"], given_up["outcome"], given_up["error_code"]) == ("settled", "failed", "session_lost")
