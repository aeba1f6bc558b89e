"""The pages of what agents used, and of the budgets on it."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from agents.backend import LogEntry
from sessions_app import log
from sessions_app.models import Budget, BudgetHit
from sessions_app.usage import today
from studio.kernel.clock import now
from studio.kernel.ids import new_id
from studio.kernel.permissions import Role
from tests import factories
from tests.pages.conftest import body, signed_in

BUDGETS = "/projects/DEMO/settings/budgets/"
FORM = {"scope": "task", "metric": "cost", "amount": "$5.00", "action": "ask"}


def words(response) -> str:
    """The page as people read it."""
    return " ".join(re.sub(r"<[^>]+>", " ", body(response)).split())


@pytest.fixture
def task(project):
    return factories.make_task(project, title="Say <goodbye>")


@pytest.fixture
def session(project, task):
    return factories.make_session(factories.make_workspace(project), subject=str(task.pk), model="practice/practice")


def spend(session, *, cost=0.5, days_ago=0, **tokens) -> None:
    data = {"part": str(new_id()), "cost": cost, "tokens": tokens}
    at = now() - timedelta(days=days_ago)
    log.append(session.pk, [LogEntry("step.finished", f"step:{data['part']}", data, at)])


def test_usage__an_empty_page_teaches(as_viewer, project):
    page = words(as_viewer.get("/projects/DEMO/usage/"))
    assert "Nothing was used yet" in page


def test_usage__by_day_model_and_task(as_viewer, session, task):
    spend(session, cost=0.4, input=1200, output=30)
    spend(session, cost=0.02, input=100, cached=50_000, days_ago=2)
    page = words(as_viewer.get("/projects/DEMO/usage/"))
    assert "Today (UTC) $0.40 1.2k tokens in 1 step" in page
    assert "In all $0.42 1.3k tokens in 2 steps" in page
    assert "practice/practice" in page
    assert f"{task.key} Say &lt;goodbye&gt;" in page
    days = [f"{day.strftime('%a')}, {day.day} {day.strftime('%b')}" for day in _last(3)]
    assert [page.index(day) for day in days] == sorted(page.index(day) for day in days)


def _last(count):
    return [today() - timedelta(days=ago) for ago in range(count)]


def test_usage__a_cost_that_nobody_knows_is_not_said_to_be_nothing(as_viewer, session):
    spend(session, cost=0, input=100)
    page = words(as_viewer.get("/projects/DEMO/usage/"))
    assert "no price known" in page
    assert "$0 " not in page
    spend(session, cost=1, input=100)
    page = words(as_viewer.get("/projects/DEMO/usage/"))
    assert "$1.00 and 1 step without a price" in page


def test_usage__old_usage_only_is_said(as_viewer, session):
    spend(session, days_ago=90)
    assert "Nothing was used in the last 30 days" in words(as_viewer.get("/projects/DEMO/usage/"))


def test_usage__costs_the_same_for_much_and_for_little(as_viewer, session, project, django_assert_num_queries):
    spend(session)
    as_viewer.get("/projects/DEMO/usage/")
    with django_assert_num_queries(13):
        as_viewer.get("/projects/DEMO/usage/")
    for number in range(20):
        other = factories.make_task(project)
        spend(factories.make_session(session.workspace, subject=str(other.pk), model=f"p/{number}"), days_ago=number)
    with django_assert_num_queries(13):
        as_viewer.get("/projects/DEMO/usage/")


@pytest.mark.parametrize("url", ["/projects/DEMO/usage/", BUDGETS])
def test_pages__are_for_members(as_stranger, project, url):
    assert as_stranger.get(url).status_code == 404
    assert as_stranger.post(url, FORM).status_code in (404, 405)
    assert not Budget.objects.exists()


def test_budgets__an_empty_page_teaches_and_lets_an_owner_begin(as_owner, as_viewer, project):
    assert "No budget yet" in words(as_owner.get(BUDGETS))
    assert "Add a budget" in words(as_owner.get(BUDGETS))
    assert "Add a budget" not in words(as_viewer.get(BUDGETS))


def test_budgets__are_added_changed_and_removed(as_owner, project):
    assert as_owner.post(BUDGETS, FORM)["Location"] == BUDGETS
    page = words(as_owner.get(BUDGETS))
    assert "Each task: $5.00" in page
    assert "the studio lets the agent wait until a person says: go on" in page
    one = f"{BUDGETS}{Budget.objects.get().pk}/"
    as_owner.post(one, {"amount": "1,250", "action": "warn"})
    page = words(as_owner.get(BUDGETS))
    assert "Each task: $1,250.00 off" in page
    as_owner.post(one, {"amount": "2", "action": "stop", "enabled": "1"})
    assert Budget.objects.get().enabled
    as_owner.post(one, {"do": "remove"})
    assert not Budget.objects.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"amount": "much"}, "Give the amount as a number"),
        ({"amount": "0"}, "Give an amount from 0.0001 to 1,000,000 US dollars."),
        ({"amount": "NaN"}, "Give an amount from"),
        ({"metric": "tokens", "amount": "1.5"}, "Tokens are counted in whole numbers."),
        ({"scope": "week"}, "A budget counts one of"),
    ],
)
def test_budgets__what_means_nothing_is_said_at_the_form(as_owner, project, change, sentence):
    response = as_owner.post(BUDGETS, {**FORM, **change})
    assert response.status_code == 400
    assert sentence in words(response)
    assert not Budget.objects.exists()


def test_budgets__a_second_one_for_the_same_is_refused(as_owner, project):
    as_owner.post(BUDGETS, FORM)
    response = as_owner.post(BUDGETS, {**FORM, "amount": "9"})
    assert (response.status_code, "There is a budget for this already" in words(response)) == (409, True)


def test_budgets__a_wrong_change_is_said_at_its_budget(as_owner, project):
    as_owner.post(BUDGETS, FORM)
    response = as_owner.post(f"{BUDGETS}{Budget.objects.get().pk}/", {"amount": "-1", "action": "ask"})
    assert response.status_code == 400
    assert "Give an amount from" in words(response)


def test_budgets__a_maintainer_reads_and_does_not_write(project):
    Budget.objects.create(project=project, scope="day", metric="tokens", amount=50_000, action="stop")
    client = signed_in(factories.make_member(project, Role.MAINTAINER))
    page = words(client.get(BUDGETS))
    assert "The project, each day: 50k tokens" in page
    assert "Remove" not in page
    assert client.post(BUDGETS, FORM).status_code == 403
    one = f"{BUDGETS}{Budget.objects.get().pk}/"
    assert client.post(one, {"do": "remove"}).status_code == 403
    assert Budget.objects.count() == 1


def test_budgets__show_how_far_they_are_used(as_viewer, project, session):
    day = Budget.objects.create(project=project, scope="day", metric="cost", amount=2, action="ask")
    spend(session, cost=1.5)
    page = words(as_viewer.get(BUDGETS))
    assert "$1.50 of $2.00" in page
    BudgetHit.objects.create(budget=day, counted=f"{project.pk}:{today()}", used=2, allowance=2)
    page = words(as_viewer.get(BUDGETS))
    assert "$1.50 of $4.00 (raised by a person)" in page


def test_budgets__everywhere_are_shown_and_not_changed_here(as_owner, project):
    everywhere = Budget.objects.create(scope="task", metric="cost", amount=3, action="warn")
    assert "In every project Each task: $3.00" in words(as_owner.get(BUDGETS))
    assert as_owner.post(f"{BUDGETS}{everywhere.pk}/", {"do": "remove"}).status_code == 404


def test_budgets__unpriced_steps_are_named(as_viewer, project, session):
    spend(session, cost=0, input=5)
    assert "1 step of this project has no known price" in words(as_viewer.get(BUDGETS))


def test_task__says_what_it_used_and_how_far_its_budget_goes(as_viewer, project, task, session):
    page = words(as_viewer.get(f"/tasks/{task.key}/"))
    assert "tokens ·" not in page
    Budget.objects.create(project=project, scope="task", metric="cost", amount=2, action="ask")
    spend(session, cost=0.5, input=2000, output=100)
    page = words(as_viewer.get(f"/tasks/{task.key}/"))
    assert "2.1k tokens · $0.50 of $2.00" in page


def test_settings__lead_to_budgets_and_usage(as_owner, project):
    page = body(as_owner.get("/projects/DEMO/settings/"))
    assert BUDGETS in page
    assert "/projects/DEMO/usage/" in page
    assert "/projects/DEMO/usage/" in body(as_owner.get("/projects/DEMO/board/"))


def test_budgets__a_budget_that_a_task_has_used_up_is_marked_everywhere(as_viewer, project, session, task):
    limit = Budget.objects.create(project=project, scope="task", metric="cost", amount=1, action="ask")
    spend(session, cost=1.02)
    BudgetHit.objects.create(budget=limit, counted=str(task.pk), used="1.02")
    page = words(as_viewer.get(BUDGETS))
    assert "Each task: $1.00 used up" in page
    assert f"{session.title} has used it up: $1.02" in page
    assert "A budget is used up. Which, and by what" in words(as_viewer.get("/projects/DEMO/usage/"))
    assert "of $1.00 used up" in words(as_viewer.get(f"/tasks/{task.key}/"))


def test_budgets__those_of_every_project_have_a_page_for_administrators(as_owner, project):
    everywhere = "/settings/budgets/"
    member = signed_in(factories.make_member(project, Role.OWNER))  # the other one is a superuser
    assert member.get(everywhere).status_code == 403
    assert member.post(everywhere, FORM).status_code == 403
    assert f'href="{everywhere}"' not in body(member.get(BUDGETS))
    assert as_owner.post(everywhere, {**FORM, "amount": "0"}).status_code == 400
    assert as_owner.post(everywhere, FORM)["Location"] == everywhere
    made = Budget.objects.get()
    assert made.project is None
    page = words(as_owner.get(everywhere))
    assert "Budgets of every project" in page
    assert "Each task: $5.00" in page
    change = {"amount": "7", "action": "stop", "enabled": "1"}
    assert member.post(f"{everywhere}{made.pk}/", change).status_code == 403
    as_owner.post(f"{everywhere}{made.pk}/", change)
    made.refresh_from_db()
    assert (made.amount, made.action) == (7, "stop")
    assert f'href="{everywhere}"' in body(as_owner.get(BUDGETS))
    as_owner.post(f"{everywhere}{made.pk}/", {"do": "remove"})
    assert not Budget.objects.exists()


def test_settings__its_parts_stand_in_one_order_and_one_width(as_owner, project):
    parts = ["/projects/DEMO/settings/", "/projects/DEMO/settings/permissions/", BUDGETS, "/projects/DEMO/usage/"]
    pages = [body(as_owner.get(part)) for part in parts]
    tabs = [re.search(r'<nav class="tabs".*?</nav>', page, re.DOTALL)[0] for page in pages]
    assert len({tab.replace(' aria-current="page"', "") for tab in tabs}) == 1
    assert all(tab.count("aria-current") == 1 for tab in tabs)
    assert {re.search(r'<main id="main" class="page (\S+)', page)[1] for page in pages} == {"settings-page"}
