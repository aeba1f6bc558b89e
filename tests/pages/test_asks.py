"""Answering an agent on the session's page and in the list of what waits; the list and its count."""

from __future__ import annotations

import itertools

import pytest

from sessions_app.models import Ask, AskKind, AskState, PermissionRule, TurnState
from sessions_app.services import ask_rows, asks
from studio.kernel.clock import later
from tasks.choices import Needs, RunState, Status
from tasks.models import Task
from tests import factories
from tests.pages.conftest import FRAGMENT, body

_numbers = itertools.count(1)
QUESTIONS = [
    {
        "question": "Which database?",
        "header": "Database",
        "options": [{"label": "SQLite", "description": "small"}, {"label": "Postgres", "description": "large"}],
        "multiple": False,
    },
    {"question": "Which languages?", "header": "", "options": [{"label": "A"}, {"label": "B"}], "multiple": True},
]


def make_ask(turn, **fields):
    values = {
        "session": turn.session,
        "turn": turn,
        "kind": AskKind.PERMISSION,
        "external_id": f"per_{next(_numbers)}",
        "directory": "/x",
        "asker": "Implementer",
        "title": "git push",
        "permission": "bash",
        "patterns": ["git push origin"],
        "always": ["git push *"],
        "detail": {"command": "git push origin", "exact": True},
    }
    return Ask.objects.create(**{**values, **fields})


def question(turn, **fields):
    return make_ask(turn, **{"kind": AskKind.QUESTION, "questions": QUESTIONS, "permission": "", "detail": {}, "always": [], **fields})  # fmt: skip


def page_of(client, session):
    return body(client.get(f"/sessions/{session.pk}/"))


def answer(client, ask, fragment=True, **fields):
    return client.post(f"/asks/{ask.pk}/answer/", fields, headers=FRAGMENT if fragment else {})


# ---- the card


def test_a_permission_says_who_wants_what_and_what_always_means(as_maintainer, session, turn):
    make_ask(turn)
    page = page_of(as_maintainer, session)
    assert "Implementer asks for permission" in page
    assert '<pre class="io what">git push origin</pre>' in page
    assert (
        "allows a command (<code>bash</code>) for <code>git push *</code> in this project for the implementer" in page
    )


def test_what_could_not_be_shown_in_full_is_not_allowed_for_ever(as_maintainer, session, turn):
    make_ask(turn, detail={"command": "x", "exact": False})
    assert 'value="always"' not in page_of(as_maintainer, session)


def test_a_change_is_shown_line_by_line(as_maintainer, session, turn):
    patch = "--- a\n+++ b\n@@ -1 +1 @@\n-old <b>\n+new\n same\n" + "+more\n" * 500
    make_ask(turn, permission="edit", detail={"patch": patch, "exact": True})
    page = page_of(as_maintainer, session)
    assert '<span class="p-removed">-old &lt;b&gt;' in page
    assert '<span class="p-added">+new' in page
    assert page.count("p-added") < 500
    assert "more lines" in page


def test_hostile_asks_are_escaped_and_cleaned(as_maintainer, session, turn):
    evil = "<img src=x onerror=alert(1)>\x1b[31m"
    make_ask(turn, title=evil, asker=evil, permission=evil, patterns=[evil], always=[evil], detail={"command": evil, "paths": [evil], "patch": evil})  # fmt: skip
    question(turn, title=evil, questions=[{"question": evil, "header": evil, "options": [{"label": evil, "description": evil}]}])  # fmt: skip
    make_ask(turn, detail="rubbish", patterns="rubbish", always=None or {}, questions={"a": 1}, title="odd")
    page = page_of(as_maintainer, session)
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x") > 8


def test_whoever_only_reads_sees_the_card_without_buttons(as_reviewer, as_stranger, session, turn):
    ask = make_ask(turn)
    page = page_of(as_reviewer, session)
    assert "git push origin" in page
    assert "A maintainer of the project answers this." in page
    assert 'name="reply"' not in page
    assert answer(as_reviewer, ask, reply="once").status_code == 403
    assert answer(as_stranger, ask, reply="once").status_code == 404
    ask.refresh_from_db()
    assert ask.state == AskState.PENDING


# ---- answers


def test_allowing_once_closes_the_card_and_says_who_did(as_maintainer, session, turn):
    ask = make_ask(turn)
    card = body(answer(as_maintainer, ask, reply="once"))
    ask.refresh_from_db()
    assert (ask.state, ask.reply) == (AskState.ANSWERED, "once")
    assert f"Allowed once by {ask.answered_name}" in card
    assert f"ask-{ask.pk}" not in page_of(as_maintainer, session)
    assert not PermissionRule.objects.exists()


def test_always_keeps_exactly_what_the_card_said(as_maintainer, turn):
    answer(as_maintainer, make_ask(turn), reply="always")
    assert list(PermissionRule.objects.values_list("permission", "pattern")) == [("bash", "git push *")]


def test_a_rejection_carries_its_reason(as_maintainer, turn):
    ask = make_ask(turn)
    card = body(answer(as_maintainer, ask, reply="reject", message="Use a pull request."))
    ask.refresh_from_db()
    assert (ask.reply, ask.message) == ("reject", "Use a pull request.")
    assert "Use a pull request." in card


def test_without_a_script_one_comes_back(as_maintainer, session, turn):
    there = answer(as_maintainer, make_ask(turn), fragment=False, reply="once")["Location"]
    assert there.startswith(f"/sessions/{session.pk}/")
    assert (
        answer(as_maintainer, make_ask(turn), fragment=False, reply="once", next="/waiting/")["Location"] == "/waiting/"
    )


def test_the_second_answer_is_told_who_was_first(as_maintainer, owner, turn):
    ask = make_ask(turn)
    asks.answer(ask_id=ask.pk, actor=owner, reply="reject", message="No.")
    late = answer(as_maintainer, ask, reply="once")
    assert late.status_code == 409
    assert "Rejected by owner" in body(late)
    assert "Somebody was faster" in body(late)
    assert 'name="reply"' not in body(late)


def test_an_ask_that_waits_no_longer_says_why(as_maintainer, turn):
    ask = make_ask(turn, state=AskState.WITHDRAWN)
    late = answer(as_maintainer, ask, reply="once")
    assert late.status_code == 409
    assert "Void: the turn ended first" in body(late)


def test_questions_are_answered_by_choices_and_own_words(as_maintainer, turn):
    ask = question(turn)
    fields = {"answer-0": "Postgres", "answer-1": ["A", "B"], "answer-1-own": "and C"}
    card = body(answer(as_maintainer, ask, reply="answers", **fields))
    ask.refresh_from_db()
    assert ask.answers == [["Postgres"], ["A", "B", "and C"]]
    assert "Postgres" in card


def test_one_choice_is_a_radio_and_several_are_boxes(as_maintainer, session, turn):
    question(turn)
    page = page_of(as_maintainer, session)
    assert page.count('type="radio" name="answer-0"') == 2
    assert page.count('type="checkbox" name="answer-1"') == 2


def test_what_was_chosen_is_kept_when_an_answer_is_refused(as_maintainer, turn):
    ask = question(turn)
    refused = answer(as_maintainer, ask, reply="answers", **{"answer-0": "Postgres", "answer-1-own": "x" * 50_000})
    assert refused.status_code == 400
    assert 'value="Postgres" checked' in body(refused)
    ask.refresh_from_db()
    assert ask.state == AskState.PENDING


def test_a_reply_that_is_none_is_refused(as_maintainer, turn):
    assert answer(as_maintainer, make_ask(turn), reply="perhaps").status_code == 400


# ---- what waits, over all projects


def waiting_page(client):
    return body(client.get("/waiting/"))


def count(client):
    return body(client.get("/waiting/count/"))


def test_nothing_waits_and_the_page_teaches(as_viewer, project):
    assert "Nothing waits for you" in waiting_page(as_viewer)
    assert '<data value="0"' in count(as_viewer)


def test_what_waits_is_listed_oldest_first_asks_before_tasks(as_maintainer, project, session, turn):
    task = factories.make_task(project, status=Status.PLANNING_REVIEW, title="A plan")
    new, old = make_ask(turn, title="new"), make_ask(turn, title="old")
    Ask.objects.filter(pk=old.pk).update(created_at=later(-3600))
    answered = make_ask(turn, state=AskState.ANSWERED, reply="once")
    page = waiting_page(as_maintainer)
    assert page.index(f"ask-{old.pk}") < page.index(f"ask-{new.pk}") < page.index(task.key)
    assert f"ask-{answered.pk}" not in page
    assert '<data value="3"' in count(as_maintainer)
    assert str(project.pk) in count(as_maintainer)


def test_an_ask_names_its_task_and_leads_to_it(as_maintainer, project, session, turn):
    task = factories.make_task(project, status=Status.IN_PROGRESS, title="Fix it")
    Task.objects.filter(pk=task.pk).update(run_state=RunState.WAITING, needs=Needs.ANSWER)
    type(session).objects.filter(pk=session.pk).update(subject=str(task.pk))
    make_ask(turn)
    page = waiting_page(as_maintainer)
    assert f'href="/tasks/{task.key}/?tab=transcript&amp;session={session.pk}"' in page
    assert page.count("Fix it") == 1
    assert '<data value="1"' in count(as_maintainer)


@pytest.mark.parametrize(
    ("state", "fields", "shown"),
    [
        (TurnState.RUNNING, {}, ""),
        (TurnState.RUNNING, {"run_state": RunState.FAILED, "needs": Needs.FAILURE}, "Failed"),
        (TurnState.UNKNOWN, {}, "Lost track"),
        (TurnState.SETTLED, {}, "Review change"),
    ],
)
def test_a_change_waits_for_nobody_while_an_agent_answers_a_message(
    as_maintainer, project, session, state, fields, shown
):
    task = factories.make_task(project, status=Status.REVIEW, workspace=session.workspace, **fields)
    factories.make_turn(session, state=state)
    page = waiting_page(as_maintainer)
    assert (task.key in page) == bool(shown)
    assert shown in page
    assert f'<data value="{int(bool(shown))}"' in count(as_maintainer)


def test_others_projects_wait_for_others(as_stranger, project, turn):
    make_ask(turn)
    factories.make_task(project, status=Status.REVIEW)
    assert "Nothing waits for you" in waiting_page(as_stranger)
    assert count(as_stranger).strip() == '<data value="0" data-projects=""></data>'


def test_whoever_may_not_answer_sees_it_wait(as_reviewer, turn):
    make_ask(turn)
    assert "A maintainer of the project answers this." in waiting_page(as_reviewer)


def test_the_list_takes_the_same_queries_however_long_it_is(
    as_maintainer, project, turn, django_assert_max_num_queries
):
    for _ in range(12):
        make_ask(turn)
        factories.make_task(project, status=Status.REVIEW)
    with django_assert_max_num_queries(14):
        waiting_page(as_maintainer)


@pytest.mark.parametrize(("needs", "title", "button"), [(Needs.ANSWER, "waits for your answer", "Answer"), (Needs.UNKNOWN, "Nobody can say how", "Decide")])  # fmt: skip
def test_the_tasks_page_leads_to_what_is_asked(as_maintainer, project, needs, title, button):
    task = factories.make_task(project, status=Status.IN_PROGRESS)
    Task.objects.filter(pk=task.pk).update(run_state=RunState.WAITING, needs=needs)
    page = body(as_maintainer.get(f"/tasks/{task.key}/?tab=task"))
    assert title in page
    assert f'href="?tab=transcript" data-key="a" data-focus>{button}</a>' in page
    assert f">{button}</a>" not in body(as_maintainer.get(f"/tasks/{task.key}/?tab=transcript"))


def test_a_permission_and_a_budget_are_named_in_words(as_maintainer, session, turn):
    make_ask(turn, permission="external_directory", title="Use files outside the checkout: /srv", detail={})
    detail = {"metric": "cost", "more": "1.0000"}
    make_ask(turn, kind=AskKind.BUDGET, permission="", title="This task has used $1.02 of $1.00: go on?", detail=detail)
    page = page_of(as_maintainer, session)
    assert '<span class="tag" title="external_directory">a folder outside the checkout</span>' in page
    assert "Let it go on ($1.00 more)" in page
    assert 'placeholder="Why it should stop"' in page


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ({"metric": "tokens", "more": "250000.0000"}, "Let it go on (250k tokens more)"),
        ({"metric": "cost", "more": ""}, "Let it go on</button>"),
    ],
)
def test_a_budgets_button_says_how_much_more(as_maintainer, session, turn, detail, words):
    make_ask(turn, kind=AskKind.BUDGET, permission="", title="Go on?", detail=detail)
    assert words in page_of(as_maintainer, session)


@pytest.mark.parametrize(
    ("kind", "said"),
    [(AskKind.PERMISSION, "asks for permission"), (AskKind.QUESTION, "has a question"), (AskKind.BUDGET, "asks whether to go on")],
)  # fmt: skip
def test_an_ask_has_one_name_on_its_card_and_in_the_transcript(as_maintainer, session, turn, kind, said):
    ask = make_ask(turn, kind=kind, title="Look here")
    ask_rows.note(ask, "opened", {"title": ask.title, "asker": ask.asker, "turn": 1})
    page = page_of(as_maintainer, session)
    assert f"Implementer {said}</span></h3>" in page
    assert f"Implementer {said}: Look here" in page


def test_the_transcript_says_what_was_answered(as_maintainer, session, turn):
    asks.answer(ask_id=question(turn).pk, actor=None, answers=[["SQLite"], ["A", "B"]])
    asks.answer(ask_id=make_ask(turn).pk, actor=None, reply="reject", message="Not today.")
    budget = make_ask(turn, kind=AskKind.BUDGET, permission="", detail={"hit": 0})
    asks.answer(ask_id=budget.pk, actor=None, reply="once")
    page = page_of(as_maintainer, session)
    assert "studio answered: SQLite; A, B" in page
    assert "studio rejected it: Not today." in page
    assert "studio let it go on." in page
