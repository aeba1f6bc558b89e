"""The page of a task: what it says in each state, and that every action goes through it."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import escape

from agents.models import AgentRole
from sessions_app.models import Delivery, InboxItem, InboxState, TurnState
from tasks import task_page
from tasks.choices import ERRORS, Needs, RunPhaseState, RunState, Status
from tasks.models import Review, Task
from tests import factories
from tests.pages.conftest import FRAGMENT, body
from workspaces.models import MergeAttempt, MergeState

TABS = list(task_page.TABS)


def url(task, tab=""):
    return f"/tasks/{task.key}/" + (f"?tab={tab}" if tab else "")


def act(client, task, action, headers=None, **form):
    return client.post(f"/tasks/{task.key}/act/{action}/", form, headers=headers or {})


def with_run(project, status=Status.IN_PROGRESS, phase="implementation", run_state=RunState.RUNNING, **run):
    """A task at work, with a workspace, a session and a turn."""
    task = factories.make_task(project, status=status, run_state=run_state)
    task.workspace = factories.make_workspace(project, label=task.key)
    task.save()
    session = factories.make_session(task.workspace, role=AgentRole.IMPLEMENTER)
    turn = factories.make_turn(session)
    factories.make_run(task, phase=phase, session=session, turn=turn, started_at=timezone.now(), **run)
    return task


def with_follow_up(project, author=None, status=Status.REVIEW, **turn):
    """A task that rests, and a turn at work in its checkout because `author` wrote to the agent."""
    task = factories.make_task(project, status=status)
    task.workspace = factories.make_workspace(project, label=task.key)
    task.save()
    session = factories.make_session(task.workspace, role=AgentRole.IMPLEMENTER)
    turn = factories.make_turn(session, **{"state": TurnState.RUNNING, "started_at": timezone.now(), **turn})
    if author is not None:
        InboxItem.objects.create(
            session=session, turn=turn, delivery=Delivery.QUEUE, state=InboxState.DELIVERED, position=1,
            text="Also\nrename <it>.", author=author, author_name=author.get_username(),
        )  # fmt: skip
    return task, turn


@pytest.mark.parametrize("status", [*Status])
@pytest.mark.parametrize("tab", ["", *TABS, "nonsense"])
def test_every_tab_renders_in_every_column(as_owner, project, status, tab):
    task = factories.make_task(project, status=status, title="Say goodbye")
    factories.make_plan(task)
    factories.make_finding(task)
    response = as_owner.get(url(task, tab))
    assert response.status_code == 200
    assert "Say goodbye" in body(response)


def test_the_key_in_small_letters_and_the_id_are_addresses_too(as_owner, project):
    task = factories.make_task(project)
    assert as_owner.get("/tasks/demo-1/").status_code == 200
    assert as_owner.get(f"/tasks/{task.pk}/").status_code == 200
    assert as_owner.get("/tasks/DEMO-99/").status_code == 404
    assert as_owner.get("/tasks/%00/").status_code == 404


def test_a_stranger_learns_nothing(as_stranger, project):
    task = factories.make_task(project)
    assert as_stranger.get(url(task)).status_code == 404
    assert body(as_stranger.get(url(task))) == body(as_stranger.get("/tasks/DEMO-99/"))
    assert act(as_stranger, task, "start").status_code == 404
    assert as_stranger.post(f"/tasks/{task.key}/edit/", {"title": "Mine"}).status_code == 404
    assert Task.objects.get().status == Status.TODO


def test_a_viewer_reads_and_is_offered_nothing(as_viewer, project):
    task = factories.make_task(project)
    page = body(as_viewer.get(url(task)))
    assert "/act/" not in page
    assert "/edit/" not in page
    refused = act(as_viewer, task, "start")
    assert refused.status_code == 403
    assert Task.objects.get().status == Status.TODO


def test_a_reviewer_is_offered_what_the_role_includes(as_reviewer, project):
    task = factories.make_task(project, status=Status.REVIEW)
    page = body(as_reviewer.get(url(task)))
    assert "/act/request_changes/" in page
    assert "/act/complete/" not in page


@pytest.mark.parametrize("tab", TABS)
def test_the_number_of_queries_does_not_grow(as_owner, project, tab):
    def grow(task, count):
        for _ in range(count):
            factories.make_plan(task)
            factories.make_finding(task, review=factories.make_review(task))
            session = factories.make_session(workspace)
            factories.make_run(task, state=RunPhaseState.SUCCEEDED, session=session, turn=factories.make_turn(session))

    workspace = factories.make_workspace(project)
    task = factories.make_task(project, status=Status.IN_PROGRESS)
    grow(task, 1)
    as_owner.get(url(task, tab))
    with CaptureQueriesContext(connection) as few:
        as_owner.get(url(task, tab))
    grow(task, 6)
    with CaptureQueriesContext(connection) as many:
        as_owner.get(url(task, tab))
    assert len(many) == len(few), [query["sql"][:200] for query in many.captured_queries]


# ---- what it says


def test_a_new_task_says_what_start_does(as_owner, project):
    page = body(as_owner.get(url(factories.make_task(project))))
    assert "Start creates a git worktree from main" in page
    assert "Nothing is changed before you approve the plan." in page


def test_the_stepper_shows_how_far_it_is(as_owner, project):
    page = body(as_owner.get(url(factories.make_task(project, status=Status.IN_PROGRESS))))
    assert re.findall(r'<li class="is-(\w+)', page) == ["past", "past", "past", "now", "next", "next", "next"]
    done = body(as_owner.get(url(factories.make_task(project, status=Status.DONE))))
    assert re.findall(r'<li class="is-(\w+)', done) == ["past"] * 7


def test_a_task_at_work_shows_its_transcript_and_stop(as_owner, project):
    page = body(as_owner.get(url(with_run(project))))
    assert "An agent makes the change" in page
    assert "/act/stop/" in page
    assert "<live-transcript" in page


def test_stopping_is_said(as_owner, project):
    page = body(as_owner.get(url(with_run(project, stop_requested_at=timezone.now()))))
    assert "What the agent has done so far is kept." in page


def test_a_queued_task_says_its_place(as_owner, project):
    task = factories.make_task(project, status=Status.PLANNING, run_state=RunState.QUEUED)
    factories.make_run(task, state=RunPhaseState.QUEUED)
    assert "Number 1 in the queue. At most 3 agents work in this project at once." in body(as_owner.get(url(task)))


def test_a_wait_for_the_provider_is_said(as_owner, project):
    task = with_run(project)
    turn = task.runs.get().turn
    turn.retry_note = "429 Too Many Requests"
    turn.save()
    assert "The model provider asks to wait: 429 Too Many Requests" in body(as_owner.get(url(task)))


@pytest.mark.parametrize("code", [*ERRORS, ""])
def test_a_failure_says_what_happened_and_what_to_do(as_owner, project, code):
    reason = f"{ERRORS[code].sentence} Details from outside." if code else "Details from outside."
    task = factories.make_task(
        project,
        status=Status.IN_PROGRESS,
        run_state=RunState.FAILED,
        needs=Needs.FAILURE,
        error_code=code,
        reason=reason,
    )
    page = body(as_owner.get(url(task)))
    assert "Details from outside." in page
    assert "What to do:" in page
    assert "/act/retry/" in page
    if code:
        assert escape(ERRORS[code].sentence) in page


def test_a_conflict_names_the_files_and_offers_both_ways_out(as_owner, project):
    task = factories.make_task(project, status=Status.REVIEW, needs=Needs.CONFLICT)
    task.workspace = factories.make_workspace(project)
    task.save()
    MergeAttempt.objects.create(
        workspace=task.workspace, how="merge", target_branch="main", message="m", author_name="a", author_email="b",
        state=MergeState.CONFLICTED, conflicts=["src/Ä <b>file.py"],
    )  # fmt: skip
    page = body(as_owner.get(url(task)))
    assert "The change conflicts with main" in page
    assert "src/Ä &lt;b&gt;file.py" in page
    assert "Let an agent resolve it" in page
    assert "Try to merge again" in page


@pytest.mark.parametrize(
    "code",
    ["merge_refused", "merge_marked", "merged_early", "pull_request_failed", "pull_request_closed", "restore_failed"],
)
def test_what_was_refused_stands_over_the_review(as_owner, project, code):
    known = ERRORS[code]
    task = factories.make_task(
        project, status=Status.REVIEW, error_code=code, reason=f"{known.sentence} Because of this."
    )
    page = body(as_owner.get(url(task)))
    assert f"<h2>{known.sentence.removesuffix('.')}</h2>" in page
    assert '<p class="break">Because of this.</p>' in page
    assert "The change is ready for you" not in page
    assert "/act/complete/" in page


def test_a_merge_that_was_refused_is_offered_again_as_it_was_meant(as_owner, project):
    task = factories.make_task(project, status=Status.REVIEW, error_code="merge_refused", reason="Refused.")
    task.workspace = factories.make_workspace(project)
    task.save()
    merge = MergeAttempt.objects.create(
        workspace=task.workspace, how="squash", target_branch="next", message="In my <own> words", author_name="a",
        author_email="b", state=MergeState.REFUSED,
    )  # fmt: skip
    page = body(as_owner.get(url(task)))
    assert 'value="squash" checked' in page
    assert 'value="merge" checked' not in page
    assert '<input type="hidden" name="target" value="next">' in page
    assert "In my &lt;own&gt; words</textarea>" in page
    MergeAttempt.objects.filter(pk=merge.pk).update(state=MergeState.MERGED)
    assert 'value="merge" checked' in body(as_owner.get(url(task)))


def test_an_approval_of_an_earlier_state_says_so(as_owner, project):
    task = factories.make_task(project, status=Status.REVIEW)
    task.workspace = factories.make_workspace(project, head_commit="a" * 40)
    task.save()
    review = Review.objects.create(task=task, round=1, verdict="approved", summary="Fine.", head_commit="a" * 40)
    assert "Approved by the AI review: Fine." in body(as_owner.get(url(task)))
    Review.objects.filter(pk=review.pk).update(head_commit="b" * 40)
    assert "The change is newer than its AI review. That approved it: Fine." in body(as_owner.get(url(task)))


def test_a_message_at_work_is_the_heading_until_its_turn_has_ended(as_owner, as_viewer, project, owner):
    task, turn = with_follow_up(project, owner)
    page, seen = body(as_owner.get(url(task))), body(as_viewer.get(url(task)))
    assert "<h2>An agent is at work on your message <time" in page
    assert "“Also rename &lt;it&gt;.”" in page
    assert "stop it, or wait until it has ended" in page
    assert f"<h2>An agent is at work on {owner.get_username()}’s message <time" in seen
    assert "What it has half written is not merged." in seen
    assert f'href="/sessions/{turn.session_id}/"' in seen
    ask = factories.make_ask(turn.session, turn, title="Run npm test")
    page, seen = body(as_owner.get(url(task))), body(as_viewer.get(url(task)))
    assert "<h2>The agent waits for your answer</h2>" in page
    assert "Implementer: Run npm test." in page
    assert f'<a class="btn primary" href="/sessions/{turn.session_id}/">Answer</a>' in page
    assert "<h2>The agent waits for a maintainer</h2>" in seen
    ask.delete()
    for shown in (page, seen, body(as_owner.get(url(task)))):
        assert "The change is ready for you" not in shown
        assert "/act/complete/" not in shown
    factories.settle_turn(turn)
    page = body(as_owner.get(url(task)))
    assert "<h2>The change is ready for you</h2>" in page
    assert ("/act/complete/" in page, "/act/stop/" in page) == (True, False)


@pytest.mark.parametrize(
    ("fields", "heading", "kept"),
    [
        ({"retry_code": "rate_limited", "state": TurnState.ADMITTED}, "Rate limit: next try at", False),
        ({"state": TurnState.UNKNOWN}, "Nobody can say how the agent", False),
        ({"status": Status.DONE}, "An agent is still at work", False),
        ({"status": Status.CANCELLED}, "Cancelled", True),
    ],
)
def test_what_an_agent_beside_the_runs_does_is_said(as_owner, project, fields, heading, kept):
    if "retry_code" in fields:
        fields = {**fields, "next_try_at": timezone.now()}
    task, _ = with_follow_up(project, **fields)
    page = body(as_owner.get(url(task)))
    assert f"<h2>{heading}" in page
    assert ("An agent is at work in the checkout." in page) == kept


def test_who_cannot_decide_is_not_told_to(as_viewer, as_reviewer, project):
    plan = factories.make_task(project, status=Status.PLANNING_REVIEW)
    change = factories.make_task(project, status=Status.REVIEW)
    disputed = factories.make_task(project, status=Status.REVIEW, needs=Needs.DECISION)
    said = {
        plan: ("The plan is ready for you", "The plan waits for approval"),
        change: ("The change is ready for you", "The change waits for a reviewer or maintainer"),
        disputed: ("keeps asking for changes. You decide", "keeps asking for changes. A person decides"),
    }
    for task, (to_reviewers, to_viewers) in said.items():
        assert f"{to_reviewers}</h2>" in body(as_reviewer.get(url(task)))
        page = body(as_viewer.get(url(task)))
        assert f"{to_viewers}</h2>" in page
        assert to_reviewers not in page


def test_done_says_where_it_went(as_owner, project):
    merged = factories.make_task(project, status=Status.DONE, completed_how="squash", completed_commit="abcdef0123456")
    assert "Merged into main as abcdef0123" in body(as_owner.get(url(merged)))
    left = factories.make_task(project, status=Status.DONE, completed_how="none")
    assert "Finished without merging" in body(as_owner.get(url(left)))


def test_the_ways_to_merge_are_said_in_plain_words(as_owner, project):
    page = body(as_owner.get(url(factories.make_task(project, status=Status.REVIEW))))
    assert "Finishes the task and moves no branch." in page
    assert page.count('name="how"') == 4


def test_the_plan_is_rendered_and_its_versions_can_be_read(as_owner, project):
    task = factories.make_task(project, status=Status.PLANNING_REVIEW)
    factories.make_plan(task, text="# First", rejected_at=timezone.now(), feedback="Too short")
    factories.make_plan(task, text="# Second")
    page = body(as_owner.get(url(task)))
    assert "<h1>Second</h1>" in page
    first = body(as_owner.get(f"{url(task, 'plan')}&version=1"))
    assert "<h1>First</h1>" in first
    assert "Too short" in first


def test_findings_show_their_severity_state_and_place(as_owner, project):
    task = factories.make_task(project, status=Status.REVIEW)
    factories.make_finding(task, title="Exit code lost", body="`main` swallows it", file="app.py", line=12)
    page = body(as_owner.get(url(task, "review")))
    for words in ("Exit code lost", "<code>main</code> swallows it", "app.py:12", ">Error</span>", "1 open"):
        assert words in page


def test_the_history_tells_who_did_what(as_owner, project):
    task = factories.make_task(project)
    act(as_owner, task, "start", reason="")
    page = body(as_owner.get(url(task, "history")))
    assert "<b>Started</b>" in page
    assert "by owner" in page


def test_a_session_of_the_task_can_be_chosen(as_owner, project):
    task = with_run(project)
    older = factories.make_session(task.workspace, title="Planning")
    run = factories.make_run(task, state=RunPhaseState.SUCCEEDED, session=older, turn=factories.make_turn(older))
    type(run).objects.filter(pk=run.pk).update(created_at=timezone.now() - timezone.timedelta(hours=1))
    assert f'id="transcript-{older.pk}"' not in body(as_owner.get(url(task)))
    assert f'id="transcript-{older.pk}"' in body(as_owner.get(f"{url(task, 'transcript')}&session={older.pk}"))


def test_a_session_of_another_task_is_not_shown(as_owner, project):
    task = with_run(project)
    foreign = factories.make_session(factories.make_workspace(project))
    assert str(foreign.pk) not in body(as_owner.get(f"{url(task, 'transcript')}&session={foreign.pk}")).replace(
        f"session={foreign.pk}", ""
    )


# ---- actions


def test_an_action_without_a_script_comes_back_to_the_page(as_owner, project):
    task = factories.make_task(project)
    response = act(as_owner, task, "start")
    assert response.status_code == 302
    assert response["Location"] == url(task)
    assert "DEMO-1: Started." in body(as_owner.get(url(task)))


def test_an_action_of_the_script_answers_with_the_part_that_moved(as_owner, project):
    task = factories.make_task(project)
    response = act(as_owner, task, "start", headers=FRAGMENT)
    assert response.status_code == 200
    assert response["HX-Trigger"] == "acted"
    assert body(response).startswith('<section id="task"')
    assert "Waiting for a free place" in body(response)


def test_what_is_not_possible_now_is_said_and_the_page_is_fresh(as_owner, project):
    task = factories.make_task(project, status=Status.PLANNING_REVIEW)
    for headers in ({}, FRAGMENT):
        response = act(as_owner, task, "complete", headers=headers)
        assert response.status_code == 409
        assert "“complete” is not possible while DEMO-1 is in Plan review" in body(response)
        assert "The plan is ready for you" in body(response)


def test_a_merge_under_an_agent_is_refused_where_the_agent_can_be_stopped(as_owner, project):
    task, turn = with_follow_up(project)
    response = act(as_owner, task, "complete", how="merge", headers=FRAGMENT)
    page = body(response)
    assert response.status_code == 409
    assert "An agent is still at work in the checkout" in page
    assert ("/act/stop/" in page, "/act/complete/" in page) == (True, False)
    assert f"/sessions/{turn.session_id}/" in page
    page = body(act(as_owner, task, "stop", headers=FRAGMENT))
    assert "<h2>The agent is being stopped <time" in page
    assert ("/act/stop/" in page, "/act/complete/" in page) == (False, False)
    factories.settle_turn(turn)
    assert "/act/complete/" in body(as_owner.get(url(task)))


def test_an_unknown_action_is_not_found(as_owner, project):
    task = factories.make_task(project)
    assert act(as_owner, task, "explode").status_code == 404
    spoken = act(as_owner, task, "explode", headers=FRAGMENT)
    assert spoken["Content-Type"].startswith("text/plain")


def test_actions_are_posts(as_owner, project):
    task = factories.make_task(project)
    assert as_owner.get(f"/tasks/{task.key}/act/start/").status_code == 405


def test_feedback_that_is_missing_is_asked_for_at_its_field(as_owner, project):
    task = factories.make_task(project, status=Status.PLANNING_REVIEW)
    factories.make_plan(task)
    for headers in ({}, FRAGMENT):
        response = act(as_owner, task, "reject_plan", headers=headers, feedback="  ")
        page = body(response)
        assert response.status_code == 400
        assert 'id="w-reject_plan"' in page
        assert "Say what is wrong with the plan" in page
        assert re.search(r'<details class="ask" id="ask-reject_plan" name="asks" open>', page)
    assert Task.objects.get().status == Status.PLANNING_REVIEW


def test_words_that_are_refused_are_still_in_the_form(as_owner, project):
    task = factories.make_task(project, status=Status.PLANNING_REVIEW)
    response = act(as_owner, task, "reject_plan", feedback="y" * 50_001)
    assert response.status_code == 400
    assert "y" * 50_001 in body(response)


def test_sending_a_plan_back_keeps_the_words(as_owner, project):
    task = factories.make_task(project, status=Status.PLANNING_REVIEW)
    factories.make_plan(task)
    act(as_owner, task, "reject_plan", feedback="Keep the exit codes")
    assert Task.objects.get().status == Status.PLANNING
    assert task.plans.get().feedback == "Keep the exit codes"


def test_a_plan_can_be_edited_while_it_is_approved(as_owner, project):
    task = factories.make_task(project, status=Status.PLANNING_REVIEW)
    factories.make_plan(task, text="Do it")
    act(as_owner, task, "approve_plan", plan="Do it well")
    newest = task.plans.last()
    assert (newest.version, newest.text, newest.approved_by.username) == (2, "Do it well", "owner")
    assert Task.objects.get().status == Status.IN_PROGRESS


def test_finishing_without_a_merge(as_owner, project):
    task = factories.make_task(project, status=Status.REVIEW)
    act(as_owner, task, "complete", how="none")
    assert Task.objects.get().status == Status.DONE


# ---- editing


def edit(client, task, headers=None, **form):
    return client.post(f"/tasks/{task.key}/edit/", form, headers=headers or {})


def test_a_task_that_has_not_started_can_be_edited(as_reviewer, project):
    task = factories.make_task(project)
    form = {"title": "New", "description": "More", "priority": "50", "labels": "a, b", "version": task.version}
    assert edit(as_reviewer, task, **form)["Location"] == f"/tasks/{task.key}/?tab=task"
    task.refresh_from_db()
    assert (task.title, task.description, task.priority, task.labels) == ("New", "More", 50, ["a", "b"])


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"title": ""}, "Give the task a title."),
        ({"title": "x", "priority": "high"}, "The priority is a whole number."),
    ],
)
def test_a_wrong_edit_is_said_and_keeps_what_was_typed(as_owner, project, form, sentence):
    task = factories.make_task(project, title="Old")
    response = edit(as_owner, task, description="typed for an hour", **form)
    assert response.status_code == 400
    assert sentence in body(response)
    assert "typed for an hour" in body(response)
    task.refresh_from_db()
    assert task.title == "Old"


def test_an_edit_of_an_old_version_is_refused_and_keeps_what_was_typed(as_owner, project):
    task = factories.make_task(project)
    edit(as_owner, task, title="First", version=task.version)
    response = edit(as_owner, task, title="Second", version=task.version)
    assert response.status_code == 409
    assert "was changed meanwhile" in body(response)
    assert 'value="Second"' in body(response)
    task.refresh_from_db()
    assert task.title == "First"


# ---- pure


def test_the_tab_that_matters_most(project):
    def tab(status, has_session=True):
        return task_page.default_tab(factories.make_task(project, status=status), has_session=has_session)

    assert tab(Status.TODO) == "task"
    assert tab(Status.PLANNING) == "transcript"
    assert tab(Status.PLANNING, has_session=False) == "task"
    assert tab(Status.PLANNING_REVIEW) == "plan"
    assert tab(Status.REVIEW) == "changes"
    assert tab(Status.DONE) == "task"


def test_runs_are_named_shortly(project):
    task = factories.make_task(project, status=Status.IN_PROGRESS)
    assert task_page.run_label(factories.make_run(task, state=RunPhaseState.FAILED)) == "Plan"
    again = factories.make_run(task, phase="fix", state=RunPhaseState.FAILED, round=2, retry=1, attempt=2)
    assert task_page.run_label(again) == "Fix 2, try 2 (attempt 2)"
