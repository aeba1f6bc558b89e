from __future__ import annotations

import pytest

from studio import topics
from studio.kernel.errors import NotFound
from studio.kernel.permissions import Role
from tasks import selectors
from tasks.choices import Phase, RunPhaseState, Status
from tasks.services.board import create_task
from tests.factories import make_finding, make_member, make_project, make_run, make_task, make_user
from tests.tasks.pipeline import ERROR

pytestmark = pytest.mark.django_db


def test_search__key_title_and_description():
    project = make_project(key="SRCH")
    make_task(project, title="Add a farewell", description="be POLITE")
    make_task(project, title="Other")
    for q, total in [("farewell", 1), ("polite add", 1), ("srch-2", 1), ("nothing", 0), ("", 2), ("\x00", 2), ("%", 0)]:
        assert selectors.search(project.tasks.all(), q).count() == total, q


def test_list__is_narrowed_down(owner):
    project, other = make_project(), make_project()
    one = make_task(project, status=Status.REVIEW)
    two = make_task(project)
    three = make_task(other)
    assert set(selectors.list_tasks(owner)) == {one, two, three}
    assert list(selectors.list_tasks(owner, project=project, status="review")) == [one]
    assert list(selectors.list_tasks(owner, run_state="waiting")) == [one]
    assert list(selectors.list_tasks(owner, q=three.key)) == [three]


def test_visibility__by_membership():
    project = make_project()
    task = make_task(project)
    member = make_member(project, Role.VIEWER)
    assert selectors.by_ref(member, task.key) == task
    assert list(selectors.tasks_visible_to(make_user())) == []
    with pytest.raises(NotFound):
        selectors.by_ref(make_user(), task.key)


def test_detail__everything(pipeline, owner):
    pipeline.to(Phase.FIX)
    detail = selectors.detail(owner, pipeline.task.key)
    assert detail.plan.version == 1
    assert [run.phase for run in detail.runs] == ["planning", "implementation", "review", "fix"]
    assert [finding.title for finding in detail.reviews[0].findings.all()] == [ERROR.title]
    assert detail.findings[0].title == ERROR.title
    assert detail.history[0].action == "create"
    assert (detail.merge, detail.error, detail.queue_position) == (None, None, None)
    assert len(selectors.sessions(pipeline.task)) == 4


def test_detail__says_what_to_do_about_a_failure(pipeline, owner):
    pipeline.to(Phase.PLANNING)
    pipeline.settle(result_text="")
    assert selectors.detail(owner, pipeline.task).error.next_step.startswith("Press Retry")


def test_detail__place_in_the_queue(pipeline, owner):
    pipeline.act("start")
    assert selectors.detail(owner, pipeline.task).queue_position == 1


def test_last_work__is_of_this_attempt(pipeline):
    pipeline.to(Phase.REVIEW)
    assert selectors.last_work(pipeline.fresh()).phase == Phase.IMPLEMENTATION
    pipeline.act("cancel")
    pipeline.act("reopen")
    assert selectors.last_work(pipeline.fresh()) is None


def test_open_findings__of_this_attempt():
    task = make_task(status=Status.IN_PROGRESS)
    finding = make_finding(task)
    assert list(selectors.open_findings(task, severity="error")) == [finding]
    assert list(selectors.open_findings(task, severity="warning")) == []
    task.attempt = 2
    assert list(selectors.open_findings(task)) == []


@pytest.mark.parametrize("kind", ["task", "project"])
def test_topics__are_read_by_who_may(kind):
    project = make_project()
    task = create_task(actor=None, project=project, title="x")
    name = f"{kind}:{task.pk if kind == 'task' else project.pk}"
    topic, subject = topics.resolve(name)
    assert topics.visible(kind, make_member(project, Role.VIEWER), [name]) == {name}
    assert topics.visible(kind, make_user(), [name]) == set()
    assert [event.kind for event in topic.read(subject, 0, 10)] == ["task.created"]
    assert topic.read(subject, 1, 10) == []
    assert topic.head(subject) == 1


def test_queue_positions__only_what_waits():
    project = make_project()
    make_run(make_task(project, status=Status.PLANNING), state=RunPhaseState.RUNNING)
    waiting = make_task(project, status=Status.PLANNING)
    make_run(waiting, state=RunPhaseState.QUEUED)
    assert selectors.queue_positions(project) == {waiting.pk: 1}
