"""Messages to an agent: accepted, changed, carried to a running turn, or opening the next one."""

from __future__ import annotations

import pytest

from agents.backend import LogEntry, TurnView
from agents.models import AgentProfile
from sessions_app import log
from sessions_app.models import InboxItem, SessionEvent, Turn, TurnOutcome
from sessions_app.services import abort, dispatch, follow_up, inbox, reconcile, retries, settle, steer, sweep, turns
from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Invalid, NotFound, Upstream
from tests.factories import make_profiles

UNREACHABLE = Upstream("The agent server did not answer.", code="server_unreachable", transient=True)


@pytest.fixture(autouse=True)
def profiles(db):
    return make_profiles()


@pytest.fixture
def running(turn, backend):
    dispatch.dispatch(turn.pk)
    stored(turn)
    turn.refresh_from_db()
    return turn


def stored(turn):
    """The server has told that it has the prompt."""
    log.append(turn.session_id, [LogEntry("user", f"user:{turn.message_id}", {"text": turn.prompt}, now())])


def say(session, text, delivery="queue"):
    return inbox.post(session=session, text=text, delivery=delivery)


def state_of(item):
    item.refresh_from_db()
    return item.state


def complete(turn, backend, text="done"):
    backend.view = TurnView(state="completed", result_text=text, last_answer="msg_last")
    reconcile.reconcile(turn.pk)


def kinds(session):
    return list(SessionEvent.objects.filter(session=session).order_by("seq").values_list("kind", flat=True))


@pytest.mark.parametrize("text", ["", "  \n ", "\x00", "x" * (inbox.TEXT_LIMIT + 1)])
def test_post__refuses_what_is_no_message(session, text):
    with pytest.raises(Invalid):
        say(session, text)
    assert not InboxItem.objects.exists()


def test_post__makes_hostile_text_storable(session):
    assert say(session, "a\x00b\ud800c\x1b[31m red").text.replace("�", "?").replace("???", "?") == "ab?c red"


def test_post__full_inbox_is_a_conflict(session, running):
    for number in range(inbox.WAITING_LIMIT):
        say(session, f"{number}")
    with pytest.raises(Conflict):
        say(session, "one more")


def test_post__to_a_removed_workspace_is_a_conflict(session):
    session.workspace.state = "removed"
    session.workspace.save(update_fields=["state"])
    with pytest.raises(Conflict):
        say(session, "hello")


def test_steers__go_out_together_under_ids_that_were_stored_before(session, running, backend):
    first, second = say(session, "First.", "steer"), say(session, "Second.", "steer")
    queued = say(session, "Later.")
    steer.deliver(session.pk)
    steer.deliver(session.pk)
    assert [prompt.text for prompt in backend.prompts[1:]] == ["First.\n\nSecond."]
    assert (state_of(first), state_of(second), state_of(queued)) == ("delivered", "delivered", "waiting")
    assert first.message_id == second.message_id == backend.prompts[1].message_id
    assert kinds(session).count("inbox.delivered") == 2


def test_steer__waits_until_the_server_has_stored_the_prompt(session, turn, backend):
    dispatch.dispatch(turn.pk)
    say(session, "Mind this.", "steer")
    steer.deliver(session.pk)
    assert len(backend.prompts) == 1
    stored(turn)
    steer.deliver(session.pk)
    assert len(backend.prompts) == 2


def test_steer__cut_off_after_the_post_is_sent_again_under_the_same_ids(session, running, backend):
    item = say(session, "Mind this.", "steer")
    backend.during_admit = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        steer.deliver(session.pk)
    backend.during_admit = None
    assert state_of(item) == "sending"
    with pytest.raises(Conflict):
        inbox.edit(item_id=item.pk, text="Too late.")
    say(session, "Another.", "steer")  # must not change the batch that may be there already
    InboxItem.objects.filter(pk=item.pk).update(next_try_at=now())
    steer.deliver(session.pk)
    assert [prompt.text for prompt in backend.prompts[1:]] == ["Mind this.", "Mind this."]
    assert len({(prompt.message_id, prompt.part_id) for prompt in backend.prompts[1:]}) == 1
    steer.deliver(session.pk)
    assert backend.prompts[-1].text == "Another."


def test_steer__on_its_way_keeps_the_turn_from_completing(session, running, backend):
    item = say(session, "Mind this.", "steer")
    backend.fail["admit"] = UNREACHABLE
    steer.deliver(session.pk)
    complete(running, backend)
    running.refresh_from_db()
    assert running.state == "running"
    backend.fail.clear()
    InboxItem.objects.filter(pk=item.pk).update(next_try_at=now())
    steer.deliver(session.pk)
    complete(running, backend)
    running.refresh_from_db()
    assert running.state == "settled"
    assert state_of(item) == "delivered"


def test_steer__accepted_and_then_lost_by_the_server_is_sent_again(session, running, backend):
    item = say(session, "Mind this.", "steer")
    steer.deliver(session.pk)
    InboxItem.objects.filter(pk=item.pk).update(delivered_at=now() - reconcile.SETTLING_IN * 2)
    item.refresh_from_db()
    backend.view = TurnView(state="completed", missing=(item.message_id,))
    reconcile.reconcile(running.pk)
    running.refresh_from_db()
    assert (running.state, state_of(item)) == ("running", "sending")
    steer.deliver(session.pk)
    assert [prompt.text for prompt in backend.prompts[1:]] == ["Mind this.", "Mind this."]


def test_steer__goes_with_a_resumed_turn(session, running, backend):
    say(session, "Mind this.", "steer")
    steer.deliver(session.pk)
    reconcile.resume(running)
    dispatch.dispatch(running.pk)
    assert [prompt.text for prompt in backend.prompts] == ["Plan it", "Mind this.", "Plan it", "Mind this."]
    assert len({prompt.message_id for prompt in backend.prompts}) == 2


def test_steer__that_did_not_arrive_before_an_abort_opens_a_turn_under_its_ids(session, running, backend):
    item = say(session, "Mind this.", "steer")
    backend.fail["admit"] = UNREACHABLE
    steer.deliver(session.pk)
    tried = backend.prompts[-1]
    settle.settle(running.pk, TurnOutcome.ABORTED, error_code="aborted")
    assert state_of(item) == "waiting"
    backend.fail.clear()
    assert follow_up.open_next(session.pk) is not None
    dispatch.dispatch(session.turns.get(number=2).pk)
    assert (backend.prompts[-1].message_id, backend.prompts[-1].text) == (tried.message_id, "Mind this.")


def test_queue__three_open_three_turns_in_order(session, running, backend):
    items = [say(session, text) for text in ("one", "two", "three")]
    inbox.remove(item_id=items[1].pk)
    inbox.remove(item_id=items[1].pk)
    assert inbox.edit(item_id=items[2].pk, text="three, changed").edited_at
    complete(running, backend)
    for _ in range(2):
        last = session.turns.order_by("-number").first()
        dispatch.dispatch(last.pk)
        complete(last, backend)
    assert [turn.prompt for turn in session.turns.order_by("number")] == ["Plan it", "one", "three, changed"]
    assert [turn.continues_id for turn in session.turns.order_by("number")][1:] == [
        turn.pk for turn in session.turns.order_by("number")
    ][:2]
    assert [state_of(item) for item in items] == ["delivered", "removed", "delivered"]
    with pytest.raises(Conflict):
        inbox.remove(item_id=items[0].pk)


def test_queue__reaches_the_agent_in_the_order_that_people_gave_it(session, running, backend):
    one, _two, three = [say(session, text) for text in ("one", "two", "three")]
    say(session, "steered", "steer")
    inbox.move(item_id=three.pk, up=True)
    inbox.move(item_id=three.pk, up=True)
    inbox.move(item_id=three.pk, up=True)  # it is the first already: no steer is passed
    inbox.move(item_id=one.pk, up=False)
    steer.deliver(session.pk)
    complete(running, backend)
    for _ in range(3):
        last = session.turns.order_by("-number").first()
        dispatch.dispatch(last.pk)
        complete(last, backend)
    assert [prompt.text for prompt in backend.prompts] == ["Plan it", "steered", "three", "two", "one"]
    assert kinds(session).count("inbox.moved") == 3
    with pytest.raises(Conflict):
        inbox.move(item_id=one.pk, up=True)


def test_queue__waits_after_a_failure_until_a_person_says_more(session, running, backend):
    say(session, "one")
    settle.settle(running.pk, TurnOutcome.FAILED, error_code="provider_error")
    sweep.sweep()
    assert session.turns.count() == 1
    say(session, "two")
    assert follow_up.open_next(session.pk).prompt == "one"


def test_send_now__overtakes(session, running, backend):
    say(session, "one")
    second = say(session, "two")
    inbox.send_now(item_id=second.pk)
    steer.deliver(session.pk)
    assert [prompt.text for prompt in backend.prompts[1:]] == ["two"]


def test_interrupt_and_send__ends_the_turn_and_the_message_opens_the_next(session, running, backend):
    say(session, "waiting")
    inbox.interrupt_and_send(session=session, text="Something else.")
    abort.abort(running.pk)
    assert backend.aborted == ["ses_1"]
    backend.view = TurnView(state="aborted", error_code="aborted")
    abort.abort(running.pk)
    running.refresh_from_db()
    assert running.outcome == "aborted"
    assert running.successor.prompt == "Something else."
    assert running.successor.tool_subject == "run-1"


def test_open_next__twice_opens_one_turn(session, running, backend):
    complete(running, backend)
    say(session, "one")
    assert follow_up.open_next(session.pk) is not None
    assert follow_up.open_next(session.pk) is None
    assert session.turns.count() == 2


@pytest.fixture
def old(workspace, server, backend):
    """A session of a known configuration with one finished turn."""
    profile = AgentProfile.objects.get(role="planner")
    session = turns.open_session(
        workspace=workspace,
        server=server,
        role="planner",
        title="Plan",
        agent=profile.agent,
        model="",
        fingerprint=follow_up.fingerprint_of(profile),
        subject="task-1",
    )
    turn = turns.admit_turn(session=session, prompt="Plan it", max_steps=3, wall_seconds=60, idle_seconds=30)
    dispatch.dispatch(turn.pk)
    complete(turn, backend, "The plan.")
    session.refresh_from_db()
    return session


def test_follow_up__resumes_the_conversation_while_its_configuration_matches(old):
    say(old, "And now?")
    turn = follow_up.open_next(old.pk)
    assert (turn.session_id, turn.prompt, turn.tool_subject) == (old.pk, "And now?", "")


def test_follow_up__with_another_configuration_begins_afresh_and_says_so(old):
    AgentProfile.objects.filter(role="planner").update(version=99)
    item = say(old, "And now?")
    turn = follow_up.open_next(old.pk)
    item.refresh_from_db()
    assert turn.session_id != old.pk
    assert (turn.session.previous_id, turn.session.subject, item.session_id) == (old.pk, "task-1", turn.session_id)
    assert "the agent profile was changed since" in turn.prompt
    assert "[The turn ended: completed.]" in turn.prompt
    assert turn.prompt.endswith("And now?")
    assert "session.continued" in kinds(old)


def test_follow_up__of_a_conversation_that_the_server_lost_begins_afresh(old, backend):
    lost = turns.admit_turn(session=old, prompt="Go on", max_steps=3, wall_seconds=60, idle_seconds=30)
    dispatch.dispatch(lost.pk)
    backend.view = TurnView(state="absent")
    reconcile.reconcile(lost.pk)
    retries.abandon_unknown(turn_id=lost.pk)
    say(old, "And now?")
    turn = follow_up.open_next(old.pk)
    assert turn.session.previous_id == old.pk
    assert "(session_lost)" in turn.prompt


def test_unknown_message__is_not_found(db):
    with pytest.raises(NotFound):
        inbox.remove(item_id="00000000-0000-0000-0000-000000000000")


def test_sweep__rings_for_what_was_left_behind(session, running, requested_jobs, django_capture_on_commit_callbacks):
    say(session, "Mind this.", "steer")
    InboxItem.objects.update(created_at=now() - sweep.OVERDUE * 2)
    with django_capture_on_commit_callbacks(execute=True):
        sweep.sweep()
    assert ("sessions.deliver_messages", (str(session.pk),)) in requested_jobs
    Turn.objects.filter(pk=running.pk).update(state="settled", outcome="completed")
    with django_capture_on_commit_callbacks(execute=True):
        sweep.sweep()
    assert ("sessions.open_next_turn", (str(session.pk),)) in requested_jobs


def test_admin__takes_back_what_waits_and_says_what_it_cannot(session, running, client, owner):
    waiting, gone = say(session, "Waits."), say(session, "Gone.")
    InboxItem.objects.filter(pk=gone.pk).update(state="delivered")
    client.force_login(owner)
    page = client.post(
        "/admin/sessions_app/inboxitem/",
        {"action": "take_back", "_selected_action": [str(waiting.pk), str(gone.pk)]},
        follow=True,
    )
    assert (state_of(waiting), state_of(gone)) == ("removed", "delivered")
    assert "has been sent to the agent already" in page.content.decode()
