"""Permissions, questions and sub-agents' asks on the real OpenCode server with the practice model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessions_app.models import Ask, PermissionRule, SubSession, Turn
from sessions_app.services import asks, dispatch, reconcile, stopping, turns
from tests.factories import make_profiles, make_project, make_workspace
from tests.real.agentserver import prompt_text, wait_for

pytestmark = [pytest.mark.real, pytest.mark.django_db]

DONE = {"text": "Done."}


def tool(name, **arguments):
    return {"tools": [{"name": name, "args": arguments}]}


def bash(command):
    return tool("bash", command=command, description="Run it")


def sub_agent(*steps):
    block = json.dumps(list(steps))
    prompt = f"Look.\n\n```practice\n{block}\n```\n"
    return tool("task", description="Look around", prompt=prompt, subagent_type="general")


SECRET = tool("read", filePath="{cwd}/.env")
OUTSIDE = tool("read", filePath="/etc/hostname")
QUESTION = tool(
    "question",
    questions=[
        {
            "question": "Which database?",
            "header": "Database",
            "options": [{"label": "SQLite", "description": "a file"}],
        },
        {"question": "Why?", "header": "Why", "options": []},
    ],
)


class Work:
    """A session of an implementer, driven as jobs and bridge drive it."""

    def __init__(self, server) -> None:
        make_profiles()
        self.opencode = server
        self.server = server.row()
        self.session = self.open(make_workspace(make_project()))
        self.turn: Any = None

    def open(self, workspace):
        return turns.open_session(
            workspace=workspace,
            server=self.server,
            role="implementer",
            title="Work",
            agent="studio-implementer",
            model="practice/practice",
        )

    def begin(self, *steps) -> Turn:
        self.turn = turns.admit_turn(
            session=self.session,
            prompt=prompt_text({"implementation": [list(steps)]}),
            max_steps=30,
            wall_seconds=300,
            idle_seconds=60,
        )
        dispatch.dispatch(self.turn.pk)
        turn: Turn = self.turn
        return turn

    def restart_server(self) -> None:
        """kill -9, and a new process; then what the bridge and the jobs do."""
        self.opencode.kill()
        self.opencode.restart()
        self.server = self.opencode.row()

    def look(self) -> None:
        """What bridge and jobs do over and over."""
        for ended in Turn.objects.filter(session=self.session, unconfirmed=True):
            stopping.confirm_stopped(ended.pk)
        reconcile.reconcile(self.turn.pk)
        self.turn.refresh_from_db()
        if self.turn.state == "admitted":
            dispatch.dispatch(self.turn.pk)
        asks.sync(self.server, asks.turns_at_work(self.server))
        for ask in Ask.objects.filter(asks.undelivered()):
            asks.deliver(ask.pk)

    def waiting(self) -> Ask:
        """The ask, once a person is asked."""

        def check():
            self.look()
            return Ask.objects.filter(session=self.session, state="pending").first()

        found: Ask = wait_for(check, what="for the ask")
        return found

    def settled(self) -> Turn:
        """The turn, once it has ended."""

        def check():
            self.look()
            self.turn.refresh_from_db()
            return self.turn.state == "settled"

        wait_for(check, what="for the turn")
        turn: Turn = self.turn
        return turn

    def tools(self, name):
        """How the calls of a tool ended: (status, output or error)."""
        finished = self.session.events.filter(kind="tool.finished").order_by("seq")
        return [
            (event.data["status"], event.data.get("output") or event.data.get("error") or "")
            for event in finished
            if event.data["tool"] == name
        ]


@pytest.fixture
def work(opencode_server):
    return Work(opencode_server)


def test_permission__is_given_once(work):
    work.begin(OUTSIDE, OUTSIDE, DONE)
    first = work.waiting()
    assert (first.asker, first.permission, first.patterns, first.detail["paths"], first.always) == (
        "Implementer", "external_directory", ["/etc/*"], ["/etc/hostname"], ["/etc/*"],
    )  # fmt: skip
    asks.answer(ask_id=first.pk, actor=None, reply="once")
    second = work.waiting()
    assert second.pk != first.pk
    asks.answer(ask_id=second.pk, actor=None, reply="reject", message="Once is enough.")
    assert (work.settled().outcome, work.turn.result_text) == ("completed", "Done.")
    (ok, _), (refused, said) = work.tools("read")
    assert (ok, refused) == ("completed", "error")
    assert "Once is enough." in said
    assert work.turn.waited_seconds > 0


def test_refusal_without_a_word__does_not_end_the_turn(work):
    work.begin(OUTSIDE, DONE)
    asks.answer(ask_id=work.waiting().pk, actor=None, reply="reject")
    assert (work.settled().outcome, work.turn.result_text) == ("completed", "Done.")


def test_two_asks_at_once__are_answered_one_by_one(work):
    both = {"tools": [OUTSIDE["tools"][0], {"name": "read", "args": {"filePath": "/usr/lib/os-release"}}]}
    work.begin(both, DONE)
    wait_for(lambda: work.look() or Ask.objects.filter(state="pending").count() == 2, what="for both")
    first, second = Ask.objects.order_by("created_at")
    asks.answer(ask_id=first.pk, actor=None, reply="once")
    work.look()
    second.refresh_from_db()
    assert second.state == "pending"
    asks.answer(ask_id=second.pk, actor=None, reply="once")
    assert work.settled().outcome == "completed"
    assert [status for status, _ in work.tools("read")] == ["completed", "completed"]


def test_question__is_answered_by_choice_and_in_words(work):
    work.begin(QUESTION, DONE)
    ask = work.waiting()
    assert (ask.kind, ask.title) == ("question", "Question: Database")
    assert ask.questions[0]["options"] == [{"label": "SQLite", "description": "a file"}]
    asks.answer(ask_id=ask.pk, actor=None, answers=[["SQLite"], ["It is enough."]])
    assert work.settled().outcome == "completed"
    ((status, said),) = work.tools("question")
    assert status == "completed"
    assert '"Which database?"="SQLite"' in said
    assert "It is enough." in said


def test_question_that_is_rejected__does_not_end_the_turn(work):
    work.begin(QUESTION, DONE)
    asks.answer(ask_id=work.waiting().pk, actor=None, reply="reject", message="You decide.")
    assert (work.settled().outcome, work.turn.result_text) == ("completed", "Done.")
    assert "You decide." in work.tools("question")[0][1]


def test_sub_agent__asks_a_person_only_what_the_rules_leave_open(work):
    work.begin(sub_agent(bash("echo deep > deep.txt"), OUTSIDE, {"text": "Seen."}), DONE)
    ask = work.waiting()
    child = SubSession.objects.get(session=work.session)
    assert (ask.asker, ask.external_session) == (child.title, child.external_id)
    assert "Look around" in ask.asker
    assert not Ask.objects.filter(permission="bash").exists()  # the role's own rules answered that
    asks.answer(ask_id=ask.pk, actor=None, reply="once")
    assert (work.settled().outcome, work.turn.result_text) == ("completed", "Done.")
    assert "Seen." in work.tools("task")[0][1]


@pytest.mark.parametrize("step", [OUTSIDE, QUESTION, sub_agent(OUTSIDE, {"text": "Seen."})])
def test_server_that_dies_while_a_person_is_asked__asks_anew(work, step):
    work.begin(step, DONE)
    first = work.waiting()
    work.restart_server()
    second = work.waiting()
    first.refresh_from_db()
    assert (first.state, second.pk == first.pk, second.title) == ("lost", False, first.title)
    if second.kind == "question":
        asks.answer(ask_id=second.pk, actor=None, answers=[["SQLite"], []])
    else:
        asks.answer(ask_id=second.pk, actor=None, reply="once")
    assert (work.settled().outcome, work.turn.result_text) == ("completed", "Done.")


@pytest.mark.parametrize("step", [OUTSIDE, QUESTION])
def test_answer_that_the_dead_server_never_heard__is_applied_when_it_asks_anew(work, step):
    work.begin(step, DONE)
    ask = work.waiting()
    work.opencode.kill()
    given = {"answers": [["SQLite"], ["So."]]} if ask.kind == "question" else {"reply": "once"}
    asks.answer(ask_id=ask.pk, actor=None, **given)
    asks.deliver(ask.pk)
    work.opencode.restart()
    work.server = work.opencode.row()
    assert work.settled().outcome == "completed"
    assert list(Ask.objects.order_by("created_at").values_list("state", flat=True)) == ["lost", "answered"]
    assert work.tools("read" if ask.kind != "question" else "question")[-1][0] == "completed"


def test_always__holds_in_other_sessions_and_after_a_restart(work):
    work.begin(bash("echo A=1 > .env"), SECRET, SECRET, DONE)
    asks.answer(ask_id=work.waiting().pk, actor=None, reply="always")
    assert work.settled().outcome == "completed"
    rule = PermissionRule.objects.get()
    assert (rule.permission, rule.pattern, rule.profile.role) == ("read", ".env", "implementer")
    assert Ask.objects.exclude(answered_name="policy").count() == 1
    work.restart_server()
    work.session = work.open(make_workspace(work.session.project))
    work.begin(bash("echo A=1 > .env"), SECRET, sub_agent(SECRET, {"text": "Seen."}), DONE)
    assert work.settled().outcome == "completed"
    assert [status for status, _ in work.tools("read")] == ["completed", "completed"]
    # In a new session the server itself is given the rule. A sub-agent does not inherit it: its ask is answered by it.
    assert list(work.session.asks.values_list("answered_name", "reply")) == [("policy", "once")]


def test_rule_of_the_project__denies_a_sub_agent_what_its_parent_may_not(work):
    PermissionRule.objects.create(project=work.session.project, permission="bash", pattern="rm *", action="deny")
    work.begin(sub_agent(bash("rm -f README.md"), {"text": "Seen."}), bash("rm -f README.md"), DONE)
    assert work.settled().outcome == "completed"
    assert [status for status, _ in work.tools("bash")] == ["error", "error"]
    assert not Ask.objects.exists()


def test_stopped_turn__leaves_no_ask_behind(work):
    from sessions_app.services import abort

    work.begin(OUTSIDE, DONE)
    ask = work.waiting()
    abort.request_abort(turn_id=work.turn.pk, reason="stopped")
    abort.abort(work.turn.pk)
    assert work.settled().outcome == "aborted"
    work.look()
    ask.refresh_from_db()
    assert ask.state == "withdrawn"
    assert Ask.objects.count() == 1
