"""App configuration: connects the news from below and makes the board's topics known."""

from __future__ import annotations

from django.apps import AppConfig


class TasksConfig(AppConfig):
    name = "tasks"

    def ready(self) -> None:
        from studio import outbox, topics
        from tasks import receivers, selectors
        from workspaces.selectors import projects_visible_to

        receivers.connect()
        topics.register(
            "project", topics.TopicKind(topics.among(projects_visible_to), outbox.read_project, outbox.project_head)
        )
        topics.register(
            "task",
            topics.TopicKind(
                topics.among(selectors.tasks_visible_to),
                lambda task_id, after, limit: outbox.read_topic(f"task:{task_id}", after, limit),
                lambda task_id: outbox.topic_head(f"task:{task_id}"),
            ),
        )
