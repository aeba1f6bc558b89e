"""Budgets and usage over REST: who sees and sets them, what is refused, and the sums."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agents.backend import LogEntry
from sessions_app import log
from sessions_app.models import AgentSession, Ask, Budget, BudgetHit, Turn
from sessions_app.services import budgets
from sessions_app.usage import today
from studio.kernel.clock import now
from studio.kernel.ids import new_id
from studio.kernel.permissions import Role
from tests.api.conftest import error_of, token_client
from tests.factories import make_member, make_project, make_session, make_task, make_turn, make_user, make_workspace

BODY = {"scope": "task", "metric": "cost", "amount": 5, "action": "ask"}
URL = "/api/v1/projects/DEMO/budgets"


@pytest.fixture
def proprietor(project):
    """A client of an owner of `project`."""
    return token_client(make_member(project, Role.OWNER))


@pytest.fixture
def admin(db):
    """A client of a superuser."""
    return token_client(make_user(superuser=True))


def spend(session, *, cost=0.5, at=None, **tokens) -> None:
    data = {"part": str(new_id()), "cost": cost, "tokens": tokens}
    log.append(session.pk, [LogEntry("step.finished", f"step:{data['part']}", data, at or now())])


@pytest.fixture
def session(project):
    """A session for a task of the project."""
    task = make_task(project)
    session = make_session(make_workspace(project), subject=str(task.pk), model="p/m")
    session.task = task
    return session


def test_budgets__are_added_listed_changed_and_removed(proprietor, viewer):
    made = proprietor.post(URL, BODY, format="json")
    assert made.status_code == 201
    assert made.json() | {"id": "", "created_at": ""} == {
        "id": "",
        "project": str(Budget.objects.get().project_id),
        "scope": "task",
        "metric": "cost",
        "amount": 5.0,
        "action": "ask",
        "enabled": True,
        "used": None,
        "limit": 5.0,
        "reached": False,
        "created_at": "",
    }
    one = f"{URL}/{made.json()['id']}"
    assert proprietor.patch(one, {"amount": 7.5, "action": "stop"}, format="json").json()["amount"] == 7.5
    assert [row["action"] for row in viewer.get(URL).json()["results"]] == ["stop"]
    assert proprietor.delete(one).status_code == 204
    assert viewer.get(URL).json() == {"results": [], "next": None, "previous": None}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": -1}, "amount"),
        ({"amount": "much"}, "amount"),
        ({"amount": 1e9}, "amount"),
        ({"metric": "tokens", "amount": 0.5}, "amount"),
        ({"metric": "tokens", "amount": 1000.5}, "amount"),
        ({"scope": "week"}, "scope"),
        ({"metric": "euros"}, "metric"),
        ({"action": "panic"}, "action"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_budgets__what_means_nothing_is_refused(proprietor, change, field):
    error = error_of(proprietor.post(URL, {**BODY, **change}, format="json"), 400, "invalid")
    assert field in str(error["detail"])
    assert not Budget.objects.exists()


@pytest.mark.parametrize(
    ("amount", "words"), [("0.000001", "Give an amount from 0.0001"), ("1.00001", "at most four digits"), ("1e999999", "Give an amount")]
)  # fmt: skip
def test_budgets__an_amount_that_cannot_be_stored_is_refused_in_the_studios_words(proprietor, amount, words):
    error = error_of(proprietor.post(URL, {**BODY, "amount": amount}, format="json"), 400, "invalid")
    assert words in error["message"]


def test_budgets__a_second_one_for_the_same_is_a_conflict(proprietor):
    proprietor.post(URL, BODY, format="json")
    error_of(proprietor.post(URL, {**BODY, "amount": 9}, format="json"), 409, "budget_exists")
    assert proprietor.post(URL, {**BODY, "action": "warn"}, format="json").status_code == 201


def test_budgets__only_an_owner_sets_them_and_a_stranger_sees_nothing(maintainer, outsider, proprietor):
    made = proprietor.post(URL, BODY, format="json").json()
    one = f"{URL}/{made['id']}"
    error_of(maintainer.post(URL, {**BODY, "action": "warn"}, format="json"), 403)
    error_of(maintainer.patch(one, {"amount": 1}, format="json"), 403)
    error_of(maintainer.delete(one), 403)
    error_of(outsider.get(URL), 404)
    error_of(outsider.post(URL, BODY, format="json"), 404)
    error_of(outsider.delete(one), 404)
    assert Budget.objects.get().amount == 5


def test_budgets__of_another_project_are_not_found(proprietor, project):
    other = make_project()
    foreign = Budget.objects.create(project=other, scope="task", metric="cost", amount=1, action="warn")
    everywhere = Budget.objects.create(scope="task", metric="cost", amount=1, action="warn")
    for budget in (foreign, everywhere):
        error_of(proprietor.patch(f"{URL}/{budget.pk}", {"amount": 2}, format="json"), 404)
        error_of(proprietor.delete(f"{URL}/{budget.pk}"), 404)


def test_everywhere__is_set_by_administrators_and_seen_by_members(admin, proprietor, viewer):
    made = admin.post("/api/v1/budgets", BODY, format="json")
    assert (made.status_code, made.json()["project"]) == (201, None)
    assert [row["id"] for row in viewer.get(URL).json()["results"]] == [made.json()["id"]]
    one = f"/api/v1/budgets/{made.json()['id']}"
    error_of(proprietor.get("/api/v1/budgets"), 403)
    error_of(proprietor.post("/api/v1/budgets", BODY, format="json"), 403)
    error_of(proprietor.patch(one, {"amount": 1}, format="json"), 403)
    error_of(admin.post("/api/v1/budgets", BODY, format="json"), 409, "budget_exists")
    assert admin.patch(one, {"enabled": False}, format="json").json()["enabled"] is False
    assert len(admin.get("/api/v1/budgets").json()["results"]) == 1
    assert admin.delete(one).status_code == 204


def test_budgets__say_how_far_they_are_used(viewer, project, session):
    day = Budget.objects.create(project=project, scope="day", metric="cost", amount=4, action="ask")
    BudgetHit.objects.create(budget=day, counted=f"{project.pk}:{today()}", used=1, allowance=4)
    spend(session, cost=1)
    (row,) = viewer.get(URL).json()["results"]
    assert (row["used"], row["amount"], row["limit"]) == (1.0, 4.0, 8.0)


def test_change__another_amount_lets_the_held_turn_go_on(proprietor, project, session, requested_jobs):
    made = proprietor.post(URL, BODY, format="json").json()
    turn = make_turn(session, state="running", started_at=now())
    spend(session, cost=6)
    budgets.check([turn.pk])
    assert Ask.objects.get().state == "pending"
    proprietor.patch(f"{URL}/{made['id']}", {"amount": 10}, format="json")
    assert not BudgetHit.objects.exists()
    budgets.reconsider()
    assert Ask.objects.get().state == "withdrawn"
    assert Turn.objects.get(pk=turn.pk).hold == "released"


def test_usage__is_summed_up_by_day_task_model_and_role(viewer, session):
    spend(session, cost=1, input=10, output=2, reasoning=1, cached=90, at=now() - timedelta(days=1))
    spend(session, cost=2, input=5)
    spend(session, cost=0, input=7)
    page = viewer.get("/api/v1/usage?project=DEMO").json()
    assert (page["next"], page["previous"]) == (None, None)
    assert page["results"] == [
        {
            "group": today().isoformat(),
            "task": None,
            "cost": 2.0,
            "tokens": {"input": 12, "output": 0, "reasoning": 0, "cached": 0},
            "steps": 2,
            "unpriced_steps": 1,
        },
        {
            "group": (today() - timedelta(days=1)).isoformat(),
            "task": None,
            "cost": 1.0,
            "tokens": {"input": 10, "output": 2, "reasoning": 1, "cached": 90},
            "steps": 1,
            "unpriced_steps": 0,
        },
    ]
    for group, name in (("task", str(session.task.pk)), ("model", "p/m"), ("role", "implementer")):
        (row,) = viewer.get(f"/api/v1/usage?task={session.task.key}&group={group}").json()["results"]
        assert (row["group"], row["cost"], row["task"]) == (name, 3.0, session.task.key if group == "task" else None)


def test_usage__is_narrowed_down_by_session_and_days(viewer, session):
    other = make_session(session.workspace)
    spend(session, cost=1)
    spend(other, cost=5)
    spend(other, cost=9, at=now() - timedelta(days=3))
    url = f"/api/v1/usage?session={other.pk}&group=role"
    assert viewer.get(url).json()["results"][0]["cost"] == 14.0
    assert viewer.get(f"{url}&since={today()}").json()["results"][0]["cost"] == 5.0
    assert viewer.get(f"{url}&until={today() - timedelta(days=2)}").json()["results"][0]["cost"] == 9.0


def test_usage__is_paged(viewer, session):
    for ago in range(5):
        spend(session, cost=1, at=now() - timedelta(days=ago))
    first = viewer.get("/api/v1/usage?limit=2").json()
    assert len(first["results"]) == 2
    assert len(viewer.get(first["next"]).json()["results"]) == 2


def test_usage__of_others_is_not_seen(outsider, session):
    spend(session, cost=1)
    assert outsider.get("/api/v1/usage").json()["results"] == []
    for query in ("project=DEMO", f"task={session.task.key}", f"session={session.pk}"):
        error_of(outsider.get(f"/api/v1/usage?{query}"), 404)


def test_usage__a_task_that_is_gone_keeps_its_sum(viewer, session):
    spend(session, cost=1)
    key = session.task.key
    AgentSession.objects.filter(pk=session.pk).update(subject="")
    session.task.delete()
    (row,) = viewer.get("/api/v1/usage?group=task").json()["results"]
    assert (row["task"], row["cost"]) == (None, 1.0)
    error_of(viewer.get(f"/api/v1/usage?task={key}"), 404)


@pytest.mark.parametrize("query", ["group=week", "since=yesterday", "session=nothing", "limit=0"])
def test_usage__what_is_not_understood_is_refused(viewer, query):
    error_of(viewer.get(f"/api/v1/usage?{query}"), 400, "invalid")
