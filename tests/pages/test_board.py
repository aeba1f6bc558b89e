"""The board: what it shows to whom, what it costs, and what its script asks for."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions_app.models import Delivery, InboxItem, InboxState, TurnState
from studio import outbox
from tasks import cards
from tasks.choices import BOARD_COLUMNS, Needs, RunPhaseState, RunState, Status
from tasks.models import Task
from tests import factories
from tests.pages.conftest import FRAGMENT, body

BOARD = "/projects/DEMO/board/"
LONG = "A title of the usual length, which says in one line what should change here"


def fill(project, count):
    """`count` tasks over all columns, as rows."""
    columns = list(BOARD_COLUMNS)
    rows = []
    for index in range(count):
        task = Task(project=project, number=index + 1, key=f"{project.key}-{index + 1}", title=LONG, position=index)
        # A row in any column, without the way there: only the number of rows matters.
        task.__dict__["status"] = columns[index % len(columns)]
        task.labels = ["docs", "small"] if index % 3 == 0 else []
        task.needs = Needs.REVIEW if task.status == Status.REVIEW else ""
        rows.append(task)
    Task.objects.bulk_create(rows)
    project.next_number = count + 1
    project.save()


def test_the_board_shows_seven_columns_and_no_cancelled_task(as_owner, project):
    factories.make_task(project, title="Say goodbye")
    factories.make_task(project, title="Given up", status=Status.CANCELLED)
    page = body(as_owner.get(BOARD))
    for label in ("To do", "Planning", "Plan review", "In progress", "AI review", "Review", "Done"):
        assert f">{label}</h2>" in page
    assert "Say goodbye" in page
    assert "Given up" not in page
    assert ">Cancelled</h2>" not in page


def test_a_member_sees_it_and_a_stranger_learns_nothing(as_viewer, as_stranger, project):
    assert as_viewer.get(BOARD).status_code == 200
    for path in (BOARD, "/projects/DEMO/", f"{BOARD}cards/?key=DEMO-1", f"{BOARD}todo/", "/projects/DEMO/tasks/new/"):
        hidden, missing = as_stranger.get(path), as_stranger.get(path.replace("DEMO", "NOPE"))
        assert hidden.status_code == missing.status_code == 404
        assert body(hidden) == body(missing)


def test_the_address_of_a_project_is_its_board(as_owner, project):
    assert as_owner.get("/projects/demo/")["Location"] == BOARD


def test_a_viewer_is_offered_nothing_to_do(as_viewer, project):
    factories.make_task(project)
    page = body(as_viewer.get(BOARD))
    assert "New task" not in page
    assert 'class="go"' not in page


def test_a_reviewer_may_create_but_not_start(as_reviewer, project):
    factories.make_task(project)
    page = body(as_reviewer.get(BOARD))
    assert "New task" in page
    assert "Create and start" not in page
    assert 'class="go"' not in page


def with_follow_up(project, owner, status=Status.REVIEW, run_state=RunState.WAITING, **turn):
    """A task that rests, and the turn at work in its checkout that a message of `owner` opened."""
    workspace = factories.make_workspace(project)
    task = factories.make_task(project, status=status, run_state=run_state, workspace=workspace)
    session = factories.make_session(workspace)
    turn = factories.make_turn(session, **{"state": TurnState.RUNNING, "started_at": timezone.now(), **turn})
    InboxItem.objects.create(
        session=session, turn=turn, delivery=Delivery.QUEUE, state=InboxState.DELIVERED, position=1, text="Rename it.",
        author=owner, author_name="owner",
    )  # fmt: skip
    return task, turn


@pytest.mark.parametrize("path", [BOARD, f"{BOARD}review/"])
def test_the_number_of_queries_does_not_grow_with_agents_that_answer_messages(as_owner, project, owner, path):
    counts = []
    for more in (1, 4):
        for _ in range(more):
            _, turn = with_follow_up(project, owner)
            factories.make_ask(turn.session, turn)
        as_owner.get(path)
        with CaptureQueriesContext(connection) as queries:
            assert body(as_owner.get(path)).count("Answer the agent") == Task.objects.count()
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("path", [BOARD, "/projects/", f"{BOARD}todo/"])
def test_the_number_of_queries_does_not_grow(as_owner, project, path):
    fill(project, 10)
    as_owner.get(path)
    with CaptureQueriesContext(connection) as few:
        assert as_owner.get(path).status_code == 200
    Task.objects.all().delete()
    fill(project, 200)
    with CaptureQueriesContext(connection) as many:
        assert as_owner.get(path).status_code == 200
    assert len(many) == len(few), [query["sql"] for query in many.captured_queries]


def test_a_board_of_two_thousand_tasks_stays_small(as_owner, project):
    fill(project, 2_000)
    page = as_owner.get(BOARD).content
    assert len(page) <= 100_000
    assert len(re.findall(rb"<[a-z]", page)) < 3_000
    assert page.count(b'<li class="card') == cards.PAGE * len(BOARD_COLUMNS)


def test_show_more_brings_the_next_cards_and_ends(as_owner, project):
    for _ in range(cards.PAGE + 3):
        factories.make_task(project)
    first = body(as_owner.get(BOARD))
    assert "Show more (3)" in first
    more = body(as_owner.get(f"{BOARD}todo/?offset={cards.PAGE}", headers=FRAGMENT))
    assert more.count('<li class="card') == 3
    assert "Show more" not in more
    assert not set(re.findall(r'id="(card-[^"]+)"', first)) & set(re.findall(r'id="(card-[^"]+)"', more))


@pytest.mark.parametrize("path", [f"{BOARD}nonsense/", f"{BOARD}cancelled/"])
def test_there_is_no_such_column(as_owner, project, path):
    assert as_owner.get(path).status_code == 404


@pytest.mark.parametrize("offset", ["", "-1", "abc", "999999", "²"])
def test_an_odd_offset_harms_nothing(as_owner, project, offset):
    assert as_owner.get(f"{BOARD}todo/", {"offset": offset}).status_code == 200


def test_the_filter_narrows_cards_and_counts(as_owner, project):
    factories.make_task(project, title="Farewell in French")
    factories.make_task(project, title="Something else")
    page = body(as_owner.get(BOARD, {"q": "french"}))
    assert "Farewell in French" in page
    assert "Something else" not in page
    assert '<b data-n="todo">1</b>' in page
    assert "Nothing here matches the filter." in page


def test_the_filter_shows_what_needs_somebody(as_owner, project):
    factories.make_task(project, title="Waits", status=Status.PLANNING_REVIEW)
    factories.make_task(project, title="Rests")
    page = body(as_owner.get(BOARD, {"state": "needs"}))
    assert "Waits" in page
    assert "Rests" not in page
    assert "Rests" in body(as_owner.get(BOARD, {"state": "what?"}))


def test_what_was_cancelled_is_seen_by_itself(as_owner, project):
    gone = factories.make_task(project, title="Given up", status=Status.CANCELLED)
    factories.make_task(project, title="Still here")
    page = body(as_owner.get(BOARD, {"state": "cancelled"}))
    assert "Given up" in page
    assert "Still here" not in page
    assert ">Planning</h2>" not in page
    assert "Given up" in body(as_owner.get(f"{BOARD}cards/", {"key": gone.key, "state": "cancelled"}))
    assert as_owner.get(f"{BOARD}cancelled/", {"state": "cancelled"}).status_code == 200


def test_an_empty_board_teaches(as_owner, project):
    page = body(as_owner.get(BOARD))
    assert "Write the first task" in page
    assert "An agent reads the repository and writes a plan." in page


def test_the_cursor_is_that_of_the_feed(as_owner, project, django_capture_on_commit_callbacks):
    from django.db import transaction

    with transaction.atomic():
        outbox.publish(project.pk, f"project:{project.pk}", "test", {})
    assert 'data-cursor="1"' in body(as_owner.get(BOARD))


def test_the_script_gets_the_cards_it_names_and_all_counts(as_owner, project):
    factories.make_task(project, title="One")
    factories.make_task(project, title="Two")
    gone = factories.make_task(project, title="Three", status=Status.CANCELLED)
    page = body(as_owner.get(f"{BOARD}cards/?key=DEMO-1&key={gone.key}&key=OTHER-1", headers=FRAGMENT))
    assert "One" in page
    assert "Two" not in page
    assert "Three" not in page
    assert '<data data-count="todo" value="2" data-needs="0">' in page
    assert page.count("<data ") == len(BOARD_COLUMNS)


def test_cards_of_another_project_are_not_given(as_owner, project, owner):
    other = factories.make_task(factories.make_project(key="OTHER", owner=owner), title="Elsewhere")
    assert "Elsewhere" not in body(as_owner.get(f"{BOARD}cards/?key={other.key}"))


def test_the_board_without_its_frame_is_for_the_script_only(as_owner, project):
    part = body(as_owner.get(BOARD, headers=FRAGMENT))
    assert part.startswith("<live-board")
    assert "<html" not in part
    restored = as_owner.get(BOARD, headers={**FRAGMENT, "HX-History-Restore-Request": "true"})
    assert "<html" in body(restored)


# ---- marks


def mark(status=Status.IN_PROGRESS, **fields):
    return cards.mark_of(factories.make_task(status=status, **fields))


@pytest.mark.django_db
def test_a_card_says_what_it_needs():
    assert mark(Status.PLANNING_REVIEW).text == "Approve plan"
    assert mark(Status.REVIEW).text == "Review change"
    assert mark(Status.REVIEW, needs=Needs.CONFLICT).tone == "amber"
    assert mark(Status.REVIEW, needs=Needs.DECISION).text == "Your decision"


@pytest.mark.django_db
def test_a_failed_card_says_why_and_is_red():
    failed = mark(run_state=RunState.FAILED, needs=Needs.FAILURE, error_code="rate_limited", reason="429")
    assert (failed.tone, failed.text) == ("red", "The model provider's rate limit did not lift.")


@pytest.mark.django_db
def test_a_running_card_says_what_and_since_when():
    task = factories.make_task(status=Status.IN_PROGRESS, run_state=RunState.RUNNING)
    run = factories.make_run(task, phase="fix", round=2, started_at=timezone.now())
    shown = cards.mark_of(task, run)
    assert (shown.icon, shown.text) == ("spin", "Fixing (2)")
    assert shown.since == int(run.started_at.timestamp())
    run.state = RunPhaseState.PREPARING
    assert cards.mark_of(task, run).text == "Preparing the checkout"
    run.stop_requested_at = timezone.now()
    assert cards.mark_of(task, run).text == "Stopping"


def test_a_card_shows_the_agent_that_answers_a_message_and_what_it_asks(as_owner, project, owner):
    task, turn = with_follow_up(project, owner)
    cards_of = f"{BOARD}cards/?key={task.key}"
    page = body(as_owner.get(cards_of, headers=FRAGMENT))
    assert 'class="card t-accent"' in page
    assert 'title="Rename it."><i class="spin"></i><span>On a message</span><time data-run=' in page
    assert task.key in body(as_owner.get(BOARD, {"state": "running"}))
    ask = factories.make_ask(turn.session, turn, asker="Implementer", title="Run npm test")
    page = body(as_owner.get(cards_of, headers=FRAGMENT))
    assert 'class="card t-amber"' in page
    assert 'title="Implementer: Run npm test."' in page
    assert "Answer the agent" in page
    ask.delete()
    factories.settle_turn(turn)
    page = body(as_owner.get(cards_of, headers=FRAGMENT))
    assert "<span>Review change</span>" in page
    assert task.key not in body(as_owner.get(BOARD, {"state": "running"}))


def test_what_an_agent_asks_beside_a_finished_task_needs_somebody(as_owner, project, owner):
    task, turn = with_follow_up(project, owner, status=Status.DONE, run_state=RunState.IDLE)
    assert task.key not in body(as_owner.get(BOARD, {"state": "needs"}))
    factories.make_ask(turn.session, turn)
    assert task.key in body(as_owner.get(BOARD, {"state": "needs"}))
    assert '<data data-count="done" value="1" data-needs="1">' in body(as_owner.get(f"{BOARD}cards/"))


def test_a_failure_is_not_hidden_by_an_agent_beside_it(as_owner, project, owner):
    failed = {"status": Status.IN_PROGRESS, "run_state": RunState.FAILED}
    _, turn = with_follow_up(project, owner, **failed)
    assert "t-red" in body(as_owner.get(BOARD))
    factories.make_ask(turn.session, turn)
    assert "t-red" not in body(as_owner.get(BOARD))


@pytest.mark.django_db
def test_the_quiet_states():
    assert mark(Status.TODO) is None
    assert mark(Status.DONE, completed_how="merge") is None
    assert mark(Status.DONE, completed_how="none").text == "Not merged"
    assert mark(run_state=RunState.STOPPED, needs=Needs.RESUME).text == "Stopped"
    assert mark(run_state=RunState.QUEUED).text == "Queued"
    assert mark(Status.REVIEW, needs="", run_state=RunState.RUNNING).text == "Merging"


def test_a_queued_card_says_its_place(as_owner, project):
    for _ in range(2):
        task = factories.make_task(project, status=Status.PLANNING, run_state=RunState.QUEUED)
        factories.make_run(task, state=RunPhaseState.QUEUED)
    page = body(as_owner.get(BOARD))
    assert "Queued, number 1" in page
    assert "Queued, number 2" in page


# ---- what a card offers


def test_start_from_the_board_answers_with_the_card_where_it_is_now(as_owner, project):
    task = factories.make_task(project)
    response = as_owner.post(f"/tasks/{task.key}/act/start/?from=board", headers=FRAGMENT)
    assert response.status_code == 200
    assert 'data-col="planning"' in body(response)
    assert "Queued, number 1" in body(response)


def test_start_without_a_script_comes_back_to_the_board(as_owner, project):
    task = factories.make_task(project)
    response = as_owner.post(f"/tasks/{task.key}/act/start/?from=board", follow=True)
    assert response.redirect_chain == [(BOARD, 302)]
    assert f"{task.key}: Started." in body(response)


def test_starting_twice_says_so_and_shows_the_card_as_it_is(as_owner, project):
    task = factories.make_task(project)
    path = f"/tasks/{task.key}/act/start/?from=board"
    as_owner.post(path, headers=FRAGMENT)
    again = as_owner.post(path, headers=FRAGMENT)
    assert again.status_code == 409
    assert "is not possible while DEMO-1 is in Planning" in body(again)
    assert 'data-col="planning"' in body(again)


# ---- creating


def create(client, follow=False, headers=None, **form):
    return client.post("/projects/DEMO/tasks/new/", form, follow=follow, headers=headers or {})


def test_the_first_line_is_the_title(as_owner, project):
    create(as_owner, prompt="## Say goodbye \r\n\r\nThe program never does.\n", labels="cli, docs", priority="10")
    task = Task.objects.get()
    assert (task.title, task.description) == ("Say goodbye", "The program never does.")
    assert (task.labels, task.priority, task.status) == (["cli", "docs"], 10, Status.TODO)


def test_create_and_start(as_owner, project):
    create(as_owner, prompt="Say goodbye", start="1")
    assert Task.objects.get().status == Status.PLANNING


def test_a_long_first_line_is_cut_between_words_and_kept_whole(as_owner, project):
    prompt = "word " * 60
    create(as_owner, prompt=prompt)
    task = Task.objects.get()
    assert len(task.title) <= 200
    assert task.title.endswith("word…")
    assert task.description == prompt.strip()


def test_a_long_word_is_cut_too(as_owner, project):
    create(as_owner, prompt="x" * 500)
    assert len(Task.objects.get().title) == 200


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"prompt": "  \n "}, "Give the task a title."),
        ({"prompt": "Fine", "priority": "soon"}, "The priority is a whole number."),
        ({"prompt": "Fine", "labels": "x" * 41}, "labels of 1 to 40 characters"),
        ({"prompt": "Fine\n" + "y" * 200_001}, "The description has 200,001 characters"),
    ],
)
def test_what_cannot_be_created_is_said_at_the_field_and_nothing_typed_is_lost(as_owner, project, form, sentence):
    for headers in ({}, FRAGMENT):
        response = create(as_owner, headers=headers, **form)
        assert response.status_code == 400
        assert sentence in body(response)
        assert form["prompt"].strip()[:100] in body(response)
    assert not Task.objects.exists()


def test_a_megabyte_is_refused_in_words(as_owner, project):
    response = create(as_owner, prompt="A title\n" + "z" * 1_000_000)
    assert response.status_code == 400
    assert "1,000,000 characters" in body(response)


def test_the_dialog_answers_with_an_empty_form_and_says_where_the_task_is(as_owner, project):
    response = create(as_owner, headers=FRAGMENT, prompt="Say goodbye", more="1")
    page = body(response)
    assert 'data-created="DEMO-1"' in page
    assert '<a href="/tasks/DEMO-1/">DEMO-1</a>' in page
    assert 'value="1" checked' in page
    assert ">Say goodbye</textarea>" not in page


def test_a_viewer_may_not_create(as_viewer, project):
    response = create(as_viewer, prompt="Say goodbye")
    assert response.status_code == 403
    assert not Task.objects.exists()


def test_a_reviewer_may_not_start_what_they_create_and_nothing_is_half_done(as_reviewer, project):
    assert create(as_reviewer, prompt="Say goodbye", start="1").status_code == 403
    assert not Task.objects.exists()


def test_the_form_says_what_will_happen(as_owner, project):
    page = body(as_owner.get("/projects/DEMO/tasks/new/"))
    assert "a git worktree is created from <code>main</code>" in page
    assert "nothing is merged without you." in page
    project.auto_complete = True
    project.plan_approval = False
    project.save()
    page = body(as_owner.get("/projects/DEMO/tasks/new/"))
    assert "plans need no approval" in page
    assert "merged by itself" in page
