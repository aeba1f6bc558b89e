"""App configuration."""

from django.apps import AppConfig


class SessionsAppConfig(AppConfig):
    name = "sessions_app"
    verbose_name = "Sessions"

    def ready(self) -> None:
        from sessions_app import selectors
        from studio import topics

        topics.register(
            "session",
            topics.TopicKind(
                selectors.may_see_session, selectors.read_session, selectors.session_head, selectors.read_sessions
            ),
        )
