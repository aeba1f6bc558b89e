"""The project feed: written with what it tells of, numbered without a gap."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction

from studio import outbox, topics
from studio.kernel.errors import Invalid
from studio.kernel.ids import new_id
from studio.models import FeedEvent

pytestmark = pytest.mark.django_db(transaction=True)


def publish(project, topic="task:1", kind="task.moved", **payload):
    with transaction.atomic():
        outbox.publish(project, topic, kind, payload)


def test_publish__numbers_each_project_by_itself():
    one, two = new_id(), new_id()
    publish(one)
    publish(two)
    publish(one, topic=f"project:{one}")
    assert [event.seq for event in outbox.read_project(str(one), 0, 10)] == [1, 2]
    assert outbox.project_head(str(two)) == 1
    assert [event.seq for event in outbox.read_topic("task:1", 0, 10)] == [1, 1]


def test_publish__belongs_into_a_transaction():
    with pytest.raises(RuntimeError):
        outbox.publish(new_id(), "task:1", "task.moved", {})


def test_publish__is_undone_with_its_transaction(silent_doorbell):
    project = new_id()
    with pytest.raises(ValueError), transaction.atomic():
        outbox.publish(project, "task:1", "task.moved", {})
        raise ValueError
    assert outbox.read_project(str(project), 0, 10) == []
    assert silent_doorbell == []
    publish(project)
    assert [event.seq for event in outbox.read_project(str(project), 0, 10)] == [1]


def test_publish__rings_the_project_and_the_topic(silent_doorbell):
    project = new_id()
    publish(project, topic="task:7")
    assert silent_doorbell == [f"project:{project}", "task:7"]


def test_publish__from_eight_threads_is_gapless():
    project = new_id()

    def run() -> None:
        for _ in range(20):
            publish(project)
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(FeedEvent.objects.order_by("seq").values_list("seq", flat=True)) == list(range(1, 161))


@pytest.mark.parametrize("name", ["", "task", "nothing:1", "task:", "session:" + "x" * 100])
def test_resolve__unknown_topics_are_refused(name):
    with pytest.raises(Invalid):
        topics.resolve(name)
