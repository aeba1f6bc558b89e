"""App configuration."""

from django.apps import AppConfig


class SessionsAppConfig(AppConfig):
    name = "sessions_app"
    verbose_name = "Sessions"

    def ready(self) -> None:
        from sessions_app import receivers, selectors
        from studio import topics

        receivers.connect()
        topics.register(
            "session",
            topics.TopicKind(
                topics.among(selectors.sessions_visible_to),
                selectors.read_session,
                selectors.session_head,
                selectors.read_sessions,
            ),
        )
