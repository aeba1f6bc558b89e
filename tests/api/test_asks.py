"""What agents ask, and the rules by which they need not, over REST."""

from __future__ import annotations

import pytest

from sessions_app.models import Ask, PermissionRule
from studio.kernel.permissions import Role
from tests.api.conftest import error_of, token_client
from tests.factories import (
    make_ask,
    make_member,
    make_profiles,
    make_project,
    make_session,
    make_task,
    make_turn,
    make_workspace,
)

QUESTIONS = [
    {"question": "Which?", "header": "H", "options": [{"label": "A", "description": ""}], "multiple": False},
    {"question": "Why?", "header": "", "options": [], "multiple": False},
]


@pytest.fixture
def task(project):
    return make_task(project, status="in_progress")


@pytest.fixture
def turn(project, task):
    session = make_session(make_workspace(project), external_id="ses_a", subject=str(task.pk))
    return make_turn(session, state="running")


@pytest.fixture
def ask(turn):
    return make_ask(turn.session, turn)


@pytest.fixture
def keeper(project):
    return token_client(make_member(project, Role.OWNER))


def ids(response):
    assert response.status_code == 200, response.content
    return [one["id"] for one in response.json()["results"]]


def test_list__is_of_all_projects_that_one_may_see(ask, turn, viewer, outsider):
    other = make_turn(make_session(make_workspace(make_project()), external_id="ses_b"), state="running")
    make_ask(other.session, other)
    done = make_ask(turn.session, turn, state="withdrawn")
    assert ids(viewer.get("/api/v1/asks")) == [str(ask.pk), str(done.pk)]
    assert ids(viewer.get("/api/v1/asks?state=pending")) == [str(ask.pk)]
    assert ids(outsider.get("/api/v1/asks?state=pending")) == []
    error_of(viewer.get("/api/v1/asks?state=perhaps"), 400)


def test_list__is_narrowed_down(ask, turn, task, project, viewer):
    for query in (f"project={project.key}", f"session={turn.session_id}", f"task={task.pk}", "kind=permission"):
        assert ids(viewer.get(f"/api/v1/asks?{query}")) == [str(ask.pk)], query
    for query in (f"session={task.pk}", f"task={turn.pk}", "kind=question"):
        assert ids(viewer.get(f"/api/v1/asks?{query}")) == [], query
    error_of(viewer.get("/api/v1/asks?project=NOWHERE"), 404)
    error_of(viewer.get("/api/v1/asks?session=x"), 400)
    assert ids(viewer.get(f"/api/v1/tasks/{task.key}/asks")) == [str(ask.pk)]


def test_one__says_exactly_what_is_asked(ask, task, viewer, outsider):
    shown = viewer.get(f"/api/v1/asks/{ask.pk}").json()
    assert (shown["asker"], shown["permission"], shown["detail"]["command"], shown["always"], shown["task"]) == (
        "Implementer", "bash", "npm test", ["npm test *"], str(task.pk),
    )  # fmt: skip
    error_of(outsider.get(f"/api/v1/asks/{ask.pk}"), 404)


def test_answer__then_a_second_one(ask, maintainer, reviewer, outsider):
    make_profiles()
    path = f"/api/v1/asks/{ask.pk}/answer"
    error_of(outsider.post(path, {"reply": "once"}, format="json"), 404)
    error_of(reviewer.post(path, {"reply": "once"}, format="json"), 403)
    error_of(maintainer.post(path, {"reply": "perhaps"}, format="json"), 400)
    error_of(maintainer.post(path, {"answers": [["A"]]}, format="json"), 400)
    answered = maintainer.post(path, {"reply": "always"}, format="json")
    assert answered.status_code == 200
    assert (answered.json()["state"], answered.json()["reply"]) == ("answered", "always")
    assert PermissionRule.objects.get().pattern == "npm test *"
    late = error_of(maintainer.post(path, {"reply": "reject", "message": "No."}, format="json"), 409)
    assert late["code"] == "already_answered"
    assert late["detail"]["reply"] == "always"


def test_question__is_answered_by_choice_and_in_words(turn, maintainer):
    ask = make_ask(turn.session, turn, kind="question", questions=QUESTIONS, permission="", patterns=[])
    path = f"/api/v1/asks/{ask.pk}/answer"
    error_of(maintainer.post(path, {"answers": [["A"]]}, format="json"), 400)
    error_of(maintainer.post(path, {"answers": [["A"], "B"]}, format="json"), 400)
    error_of(maintainer.post(path, {"reply": "once"}, format="json"), 400)
    answered = maintainer.post(path, {"answers": [["A"], ["Because.", ""]]}, format="json").json()
    assert (answered["reply"], answered["answers"]) == ("answers", [["A"], ["Because."]])


@pytest.mark.parametrize("message", ["x" * 20_000, 7, None, ["a"]])
def test_answer__with_a_bad_reason(ask, maintainer, message):
    body = {"reply": "reject", "message": message}
    response = maintainer.post(f"/api/v1/asks/{ask.pk}/answer", body, format="json")
    if message == 7:  # a number is as good as its text
        assert response.status_code == 200
    else:
        error_of(response, 400)
        assert Ask.objects.get().state == "pending"


def test_rules__are_read_by_all_and_changed_by_owners(project, viewer, maintainer, keeper):
    path = f"/api/v1/projects/{project.key}/rules"
    assert viewer.get(path).json() == {"results": []}
    body = {"permission": "bash", "pattern": "npm *", "action": "ask"}
    error_of(maintainer.post(path, body, format="json"), 403)
    made = keeper.post(path, body, format="json")
    assert (made.status_code, made.json()["position"], made.json()["profile"]) == (201, 1, None)
    error_of(keeper.post(path, body, format="json"), 409, "rule_exists")
    error_of(keeper.post(path, {**body, "action": "perhaps"}, format="json"), 400)
    error_of(keeper.post(path, {**body, "profile": str(project.pk)}, format="json"), 400)
    assert [one["pattern"] for one in viewer.get(path).json()["results"]] == ["npm *"]
    error_of(maintainer.delete(f"{path}/{made.json()['id']}"), 403)
    assert keeper.delete(f"{path}/{made.json()['id']}").status_code == 204
    error_of(keeper.delete(f"{path}/{made.json()['id']}"), 404)


def test_rules__are_replaced_in_order(project, keeper, outsider):
    profile = make_profiles()["planner"]
    path = f"/api/v1/projects/{project.key}/rules"
    rules = [
        {"permission": "webfetch", "action": "deny", "profile": str(profile.pk)},
        {"permission": "bash", "pattern": "npm *", "action": "allow"},
    ]
    shown = keeper.put(path, {"rules": rules}, format="json").json()["results"]
    assert [(one["permission"], one["pattern"], one["position"]) for one in shown] == [
        ("webfetch", "*", 1), ("bash", "npm *", 2),
    ]  # fmt: skip
    error_of(keeper.put(path, {"rules": rules + rules}, format="json"), 400)
    error_of(outsider.get(path), 404)


def test_policy__of_time_outs(project, viewer, maintainer, keeper):
    path = f"/api/v1/projects/{project.key}/ask-policy"
    assert viewer.get(path).json() == {"timeout_minutes": 60, "action": "remind"}
    body = {"timeout_minutes": 5, "action": "reject"}
    error_of(maintainer.put(path, body, format="json"), 403)
    assert keeper.put(path, body, format="json").json() == body
    assert viewer.get(path).json() == body
    error_of(keeper.put(path, {**body, "timeout_minutes": 0}, format="json"), 400)
