from __future__ import annotations

import pytest

from studio.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from studio.kernel.permissions import Role
from studio.models import FeedEvent
from tasks.choices import Phase, RunPhaseState, RunState, Status
from tasks.models import Task
from tasks.services.board import (
    DESCRIPTION_LIMIT,
    LABELS_LIMIT,
    TITLE_LIMIT,
    create_task,
    delete_task,
    edit_task,
    place_task,
)
from tests.factories import make_member, make_project, make_run, make_task, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def project(db):
    return make_project(key="DEMO")


def test_create__numbers_and_places(project, owner):
    first = create_task(actor=owner, project=project, title="One", description="Text", priority=3, labels=["ui", "ui"])
    second = create_task(actor=owner, project=project, title="Two")
    assert (first.key, second.key) == ("DEMO-1", "DEMO-2")
    assert (first.status, first.run_state, first.version) == (Status.TODO, RunState.IDLE, 1)
    assert (first.priority, first.labels, first.created_by) == (3, ["ui"], owner)
    assert first.position < second.position
    row = first.history.get()
    assert (row.action, row.from_status, row.to_status, row.actor_name) == ("create", "", "todo", "owner")
    event = FeedEvent.objects.get(topic=f"task:{first.pk}")
    assert (event.kind, event.payload["title"], event.project_id) == ("task.created", "One", project.pk)


def test_create__and_start(project, owner):
    task = create_task(actor=owner, project=project, title="Go", start=True)
    assert (task.status, task.run_state) == (Status.PLANNING, RunState.QUEUED)


def test_create__and_start_needs_the_role_or_makes_nothing(project):
    reviewer = make_member(project, Role.REVIEWER)
    with pytest.raises(Forbidden):
        create_task(actor=reviewer, project=project, title="Go", start=True)
    assert Task.objects.count() == 0
    assert create_task(actor=reviewer, project=project, title="Wait").number == 1


def test_create__needs_a_role(project):
    with pytest.raises(Forbidden):
        create_task(actor=make_member(project, Role.VIEWER), project=project, title="x")
    with pytest.raises((NotFound, Forbidden)):
        create_task(actor=make_user(), project=project, title="x")


BAD = [
    ("title", ""),
    ("title", " \n\t "),
    ("title", "\x00\x1b[31m"),
    ("title", "t" * (TITLE_LIMIT + 1)),
    ("title", "ü" * 1_000_000),
    ("description", "d" * (DESCRIPTION_LIMIT + 1)),
    ("description", "d" * 1_048_576),
    ("priority", 101),
    ("priority", -101),
    ("priority", 10**30),
    ("priority", "high"),
    ("priority", True),
    ("priority", 1.5),
    ("priority", None),
    ("labels", "ui"),
    ("labels", 5),
    ("labels", None),
    ("labels", [""]),
    ("labels", ["x" * 41]),
    ("labels", [str(n) for n in range(LABELS_LIMIT + 1)]),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_bad_input__gets_a_sentence_and_changes_nothing(project, field, value):
    with pytest.raises(Invalid) as refusal:
        create_task(actor=None, project=project, **{"title": "Fine", field: value})
    assert refusal.value.detail["field"] == field
    assert refusal.value.message.endswith(".")
    assert len(refusal.value.message) < 300
    task = make_task(project)
    with pytest.raises(Invalid):
        edit_task(actor=None, task=task, **{field: value})
    assert Task.objects.count() == 1
    assert edit_task(actor=None, task=task).version == task.version


@pytest.mark.parametrize("field", ["status", "position", "run_state", "key", "workspace", "nonsense"])
def test_edit__only_what_can_be_edited(project, field):
    with pytest.raises(Invalid) as refusal:
        edit_task(actor=None, task=make_task(project), **{field: "done"})
    assert refusal.value.detail == {"field": field}


def test_text__is_made_storable(project):
    task = create_task(
        actor=None, project=project, title="a\x00 \ud83d \n b", description="\r\n<script>x</script>\r\n\x07é\ud800 "
    )
    task.refresh_from_db()
    assert task.title == "a ��� b"
    assert task.description == "<script>x</script>\né���"


@pytest.mark.parametrize("title", ["t" * TITLE_LIMIT, "日本語のタスク", "🎉", "<b>&amp;", "'; DROP TABLE--"])
def test_create__takes_what_it_should(project, title):
    assert create_task(actor=None, project=project, title=title, description="d" * DESCRIPTION_LIMIT).title == title


def test_edit__counts_versions_and_says_what_changed(project):
    task = make_task(project, title="Old")
    edited = edit_task(actor=None, task=task, title="New", priority=0)
    assert (edited.title, edited.version) == ("New", task.version + 1)
    event = FeedEvent.objects.get(topic=f"task:{task.pk}")
    assert (event.kind, event.payload["changed"], event.payload["title"]) == ("task.updated", ["title"], "New")


def test_edit__of_nothing_changes_nothing(project):
    task = make_task(project, title="Same")
    assert edit_task(actor=None, task=task, title=" Same ").version == task.version
    assert FeedEvent.objects.count() == 0


def test_edit__of_another_version_is_a_conflict(project):
    task = make_task(project)
    edit_task(actor=None, task=task, title="New", version=task.version)
    with pytest.raises(Conflict) as refusal:
        edit_task(actor=None, task=task, title="Newer", version=task.version)
    assert (refusal.value.code, refusal.value.detail) == ("version_conflict", {"version": task.version + 1})


def test_edit__needs_the_role(project):
    task = make_task(project)
    with pytest.raises(Forbidden):
        edit_task(actor=make_member(project, Role.VIEWER), task=task, title="x")
    with pytest.raises(NotFound):
        edit_task(actor=make_user(), task=task, title="x")


def order(project, status=Status.TODO):
    return [task.key for task in in_order(project, status)]


def in_order(project, status=Status.TODO):
    return project.tasks.filter(status=status).order_by("position", "number")


def test_place__before_after_and_at_the_end(project):
    one, two, three = (make_task(project) for _ in range(3))
    place_task(actor=None, task=three, before=one)
    assert order(project) == [three.key, one.key, two.key]
    place_task(actor=None, task=three.key, after=one.key)
    assert order(project) == [one.key, three.key, two.key]
    place_task(actor=None, task=one)
    assert order(project) == [three.key, two.key, one.key]
    place_task(actor=None, task=three, after=one)
    assert order(project) == [two.key, one.key, three.key]


def test_place__finds_room_again_and_again(project):
    one, two, three = (make_task(project) for _ in range(3))
    for _ in range(60):
        place_task(actor=None, task=three, after=one)
        place_task(actor=None, task=two, after=one)
    assert order(project) == [one.key, two.key, three.key]
    positions = [task.position for task in in_order(project)]
    assert positions == sorted(set(positions))


def test_place__alone_in_its_column(project):
    assert place_task(actor=None, task=make_task(project)).position == 1.0


def test_place__next_to_a_task_that_is_elsewhere(project):
    with pytest.raises(Invalid):
        place_task(actor=None, task=make_task(project), after=make_task(project, status=Status.REVIEW))
    with pytest.raises(Invalid):
        place_task(actor=None, task=make_task(project), after=make_task())


def test_delete__is_told_and_takes_all_with_it(pipeline):
    pipeline.to_review()
    workspace = pipeline.task.workspace
    delete_task(actor=None, task=pipeline.task)
    assert not Task.objects.exists()
    assert FeedEvent.objects.order_by("-seq").first().kind == "task.deleted"
    workspace.refresh_from_db()
    assert workspace.state in ("removing", "removed")


@pytest.mark.parametrize("state", [RunPhaseState.QUEUED, RunPhaseState.RUNNING])
def test_delete__not_while_an_agent_is_at_work(project, state):
    task = make_task(project, status=Status.PLANNING)
    make_run(task, phase=Phase.PLANNING, state=state)
    with pytest.raises(Conflict) as refusal:
        delete_task(actor=None, task=task)
    assert refusal.value.allowed == ["stop"]


def test_delete__not_while_an_agent_answers_a_message(pipeline):
    pipeline.to_review()
    pipeline.follow_up()
    with pytest.raises(Conflict) as refusal:
        delete_task(actor=None, task=pipeline.task)
    assert refusal.value.allowed == ["stop"]
    assert Task.objects.exists()


def test_delete__not_while_merging(project):
    with pytest.raises(Conflict):
        delete_task(actor=None, task=make_task(project, status=Status.REVIEW, run_state=RunState.RUNNING))


def test_delete__needs_the_role(project):
    with pytest.raises(Forbidden):
        delete_task(actor=make_member(project, Role.REVIEWER), task=make_task(project))
