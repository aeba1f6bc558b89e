"""App configuration: makes the topics of workspaces and their commands known."""

from django.apps import AppConfig


class WorkspacesConfig(AppConfig):
    name = "workspaces"

    def ready(self) -> None:
        from studio import topics
        from workspaces.commands import selectors
        from workspaces.selectors import workspaces_visible_to
        from workspaces.setup import receivers

        receivers.connect()
        topics.register(
            "command",
            topics.TopicKind(
                topics.among(selectors.commands_visible_to), selectors.read_command, selectors.command_head
            ),
        )
        topics.register(
            "workspace",
            topics.TopicKind(topics.among(workspaces_visible_to), selectors.read_workspace, selectors.workspace_head),
        )
