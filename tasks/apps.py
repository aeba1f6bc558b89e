"""App configuration: connects the news from below and makes the board's topics known."""

from __future__ import annotations

from django.apps import AppConfig


class TasksConfig(AppConfig):
    name = "tasks"

    def ready(self) -> None:
        from studio import outbox, topics
        from tasks import receivers, selectors

        receivers.connect()
        topics.register(
            "project", topics.TopicKind(selectors.may_see_project, outbox.read_project, outbox.project_head)
        )
        topics.register(
            "task",
            topics.TopicKind(
                selectors.may_see_task,
                lambda task_id, after, limit: outbox.read_topic(f"task:{task_id}", after, limit),
                lambda task_id: outbox.topic_head(f"task:{task_id}"),
            ),
        )
