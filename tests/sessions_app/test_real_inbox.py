"""Messages, retries and pauses on the real OpenCode server with the practice model."""

from __future__ import annotations

import json

import pytest

from sessions_app.models import InboxItem, Turn
from sessions_app.services import abort, dispatch, inbox, pause, reconcile, retries, steer, stopping, turns
from studio.kernel.clock import now
from tests.factories import make_profiles, make_project, make_workspace
from tests.real.agentserver import prompt_text, wait_for

pytestmark = [pytest.mark.real, pytest.mark.django_db]


def write(name, text="written\n", **more):
    return {"tools": [{"name": "write", "args": {"filePath": "{cwd}/" + name, "content": text}}], **more}


def bash(command, **more):
    return {"tools": [{"name": "bash", "args": {"command": command, "description": "Run it"}}], **more}


@pytest.fixture
def gate(tmp_path):
    """A file; the step `until(gate)` ends when it is there."""
    return tmp_path / "gate"


def until(gate):
    return bash(f"while [ ! -e '{gate}' ]; do sleep 0.1; done")


def own(*steps):
    """A message that brings its own steps."""
    return f"Do this.\n\n```practice\n{json.dumps(list(steps))}\n```\n"


@pytest.fixture
def session(opencode_server):
    make_profiles()
    workspace = make_workspace(make_project())
    return turns.open_session(
        workspace=workspace,
        server=opencode_server.row(),
        role="implementer",
        title="Work",
        agent="studio-implementer",
        model="practice/practice",
    )


@pytest.fixture
def begin(session):
    """Admits and dispatches a turn that follows the steps."""

    def begin(*steps):
        turn = turns.admit_turn(
            session=session,
            prompt=prompt_text({"implementation": [list(steps)]}),
            max_steps=30,
            wall_seconds=300,
            idle_seconds=60,
        )
        dispatch.dispatch(turn.pk)
        return turn

    return begin


@pytest.fixture
def lines(opencode_server, session):
    """(phase, round, step) of what the practice model was asked in the session's directory, once the answer had begun."""

    def lines(*, outcome="served"):
        found = opencode_server.practice_lines(session.directory)
        return [(one["phase"], one["round"], one["step"]) for one in found if one["outcome"] == outcome]

    return lines


def settled(turn):
    """The turn once the server says how it ended; sent again when the server died under it."""

    def check():
        for ended in Turn.objects.filter(session=turn.session, unconfirmed=True):
            stopping.confirm_stopped(ended.pk)
        steer.deliver(turn.session_id)
        reconcile.reconcile(turn.pk)
        turn.refresh_from_db()
        if turn.state == "admitted" and not turn.hold:
            dispatch.dispatch(turn.pk)
        return turn.state == "settled"

    wait_for(check, what="for the turn")
    return turn


def running_tool(session):
    """Wait until the agent's command runs."""

    def check():
        reconcile.reconcile(session.turns.order_by("-number").first().pk)
        return session.events.filter(kind="tool.started").exists()

    wait_for(check, what="for the tool")


def users_on_server(opencode_server, session):
    session.refresh_from_db()
    messages = opencode_server.backend().client.get(f"/session/{session.external_id}/message")
    return [message["info"]["id"] for message in messages if message["info"]["role"] == "user"]


def test_steer__changes_what_the_running_agent_does_next(begin, session, lines, opencode_server, gate):
    turn = begin(until(gate), write("last.txt"), {"text": "All done."})
    running_tool(session)
    inbox.post(session=session, text=own(write("steered.txt")), delivery="steer")
    inbox.post(session=session, text="And mind the gap.", delivery="steer")
    steer.deliver(session.pk)
    gate.touch()
    assert settled(turn).outcome == "completed"
    assert lines() == [
        ("implementation", 1, 0),
        ("message", 1, 0),
        ("implementation", 1, 1),
        ("implementation", 1, 2),
    ]
    assert len(users_on_server(opencode_server, session)) == 2
    assert [event.data["text"][:8] for event in session.events.filter(kind="user")] == ["Phase: i", "Do this."]


def test_steer__that_comes_after_the_last_step_is_answered_in_the_same_turn(begin, session, lines):
    turn = begin({"text": "Nothing to do.", "delay": 1.0})
    wait_for(lambda: reconcile.reconcile(turn.pk) or session.events.filter(kind="user").exists())
    inbox.post(session=session, text=own(write("late.txt")), delivery="steer")
    steer.deliver(session.pk)
    assert settled(turn).outcome == "completed"
    assert ("message", 1, 0) in lines()
    assert Turn.objects.filter(session=session).count() == 1


def test_steer__and_its_turn_survive_the_servers_death(begin, session, lines, opencode_server, gate):
    turn = begin(until(gate), write("last.txt"), {"text": "All done."})
    running_tool(session)
    inbox.post(session=session, text=own(write("steered.txt")), delivery="steer")
    steer.deliver(session.pk)
    opencode_server.kill()
    opencode_server.restart()
    opencode_server.row()
    gate.touch()
    assert settled(turn).outcome == "completed"
    assert lines().count(("message", 1, 0)) == 1
    assert len(users_on_server(opencode_server, session)) == 2
    assert (opencode_server.practice_lines(session.directory)[-1]["phase"]) == "implementation"


def test_queue__runs_in_the_order_that_people_gave_it_and_a_removed_message_never_runs(
    begin, session, lines, opencode_server
):
    turn = begin(bash("sleep 2"), {"text": "All done."})
    items = [
        inbox.post(session=session, text=f"Message {number}\n{own(write(f'{number}.txt'))}", delivery="queue")
        for number in range(1, 5)
    ]
    inbox.remove(item_id=items[1].pk)
    inbox.move(item_id=items[3].pk, up=True)
    settled(turn)
    while session.turns.exclude(state="settled").exists():
        following = session.turns.get(state="admitted")
        dispatch.dispatch(following.pk)
        assert settled(following).outcome == "completed"
    heard = [line["message"][:9] for line in opencode_server.practice_lines(session.directory) if line["message"]]
    assert list(dict.fromkeys(heard)) == ["Message 1", "Message 4", "Message 3"]
    assert not InboxItem.objects.filter(session=session, state="waiting").exists()


def test_interrupt__ends_the_turn_at_once_and_the_message_opens_the_next(begin, session, lines):
    turn = begin(bash("sleep 100"), {"text": "Never said."})
    running_tool(session)
    inbox.interrupt_and_send(session=session, text=own(write("other.txt"), {"text": "Did the other."}))
    abort.abort(turn.pk)
    settled(turn)
    following = session.turns.get(number=2)
    dispatch.dispatch(following.pk)
    assert settled(following).outcome == "completed"
    assert following.result_text == "Did the other."


def test_error__that_passes_is_tried_again_without_asking_a_finished_step_again(begin, session, lines):
    turn = begin(write("one.txt"), {"fault": {"kind": "no_finish", "times": 1}, "text": "x"}, write("two.txt"))
    turn2 = Turn.objects.get(pk=turn.pk)
    settled(turn2)
    assert turn2.outcome == "completed"
    assert lines().count(("implementation", 1, 0)) == 1


def test_error__of_the_provider_is_resumed_under_the_same_ids(begin, session, lines, opencode_server):
    turn = begin(write("one.txt"), {"fault": {"kind": "status", "status": 400, "times": 1}, "text": "Done."})
    wait_for(lambda: reconcile.reconcile(turn.pk) or Turn.objects.filter(pk=turn.pk, state="settled").exists())
    turn.refresh_from_db()
    assert (turn.outcome, turn.error_code) == ("failed", "provider_error")
    view = opencode_server.backend().view_turn(
        Turn.objects.get(pk=turn.pk).session.external_id, session.directory, turn.message_id
    )
    Turn.objects.filter(pk=turn.pk).update(
        state="running", outcome="", settled_at=None, server_boot=opencode_server.boot, last_event_at=now()
    )
    assert retries.plan_retry(Turn.objects.get(pk=turn.pk), "provider_error", "", answered_until=view.last_answer)
    retries.try_now(turn_id=turn.pk)
    settled(turn)
    assert (turn.outcome, turn.result_text) == ("completed", "Done.")
    assert lines() == [("implementation", 1, 0), ("implementation", 1, 1)]


def test_pause__in_a_command_goes_on_after_it_when_released(begin, session, lines, opencode_server):
    turn = begin(write("one.txt"), bash("sleep 60"), write("two.txt"), {"text": "All done."})
    wait_for(lambda: ("implementation", 1, 1) in lines())
    wait_for(lambda: reconcile.reconcile(turn.pk) or session.events.filter(kind="tool.started").count() == 2)
    assert pause.pause_turn(turn_id=turn.pk, reason="budget")
    pause.stop_on_server(turn.pk)
    wait_for(lambda: reconcile.reconcile(turn.pk) or Turn.objects.filter(pk=turn.pk, state="admitted").exists())
    assert pause.release_turn(turn_id=turn.pk)
    dispatch.dispatch(turn.pk)
    assert settled(turn).outcome == "completed"
    assert lines() == [("implementation", 1, step) for step in range(4)]
    assert len(users_on_server(opencode_server, session)) == 1
