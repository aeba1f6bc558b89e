"""What a broken provider makes of a turn on the real OpenCode server, and that it is ended with the right word."""

from __future__ import annotations

import pytest

from sessions_app.bridge.watchdogs import Watchdogs
from sessions_app.services import abort, dispatch, reconcile, stopping, turns
from tests.factories import make_profiles, make_project, make_workspace
from tests.real.agentserver import prompt_text, wait_for

pytestmark = [pytest.mark.real, pytest.mark.django_db]

SAME_CALL = {"tools": [{"name": "bash", "args": {"command": "true", "description": "Nothing"}}]}


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([{"fault": {"kind": "html"}}], "provider_error"),
        ([{"text": "I am on it.", "fault": {"kind": "no_finish"}}] * 25, "looping"),
        ([SAME_CALL] * 25, "looping"),
    ],
    ids=["nothing", "the same words", "the same call"],
)
def test_provider_that_never_ends__is_stopped(opencode_server, steps, code):
    make_profiles()
    session = turns.open_session(
        workspace=make_workspace(make_project()),
        server=opencode_server.row(),
        role="implementer",
        title="Work",
        agent="studio-implementer",
        model="practice/practice",
    )
    script = prompt_text({"implementation": [steps]})
    turn = turns.admit_turn(session=session, prompt=script, max_steps=100, wall_seconds=300, idle_seconds=60)
    dispatch.dispatch(turn.pk)
    watchdogs = Watchdogs(session.server_id)

    def ended():
        reconcile.reconcile(turn.pk)
        watchdogs.watch()
        abort.abort(turn.pk)
        turn.refresh_from_db()
        return turn.state == "settled"

    wait_for(ended, seconds=150, what="for the turn")
    assert (turn.outcome, turn.error_code) == ("failed", code)
    assert turn.steps < 25
    wait_for(lambda: stopping.confirm_stopped(turn.pk), what="for the server's word")
