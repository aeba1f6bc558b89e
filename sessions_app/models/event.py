"""The log of what happened in a session."""

from __future__ import annotations

from django.db import models

from sessions_app.models.session import AgentSession


class SessionEvent(models.Model):
    """One entry of a session's log, numbered without a gap. `upstream_key` makes a replay harmless."""

    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=30)
    upstream_key = models.CharField(max_length=160)
    data = models.JSONField(default=dict)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["session", "seq"], name="session_event_seq_once"),
            models.UniqueConstraint(fields=["session", "upstream_key"], name="session_event_upstream_once"),
        ]
        # The newest todo list stands above a transcript of any length.
        indexes = [models.Index(fields=["session", "seq"], condition=models.Q(kind="todo"), name="session_event_todo")]

    def __str__(self) -> str:
        return f"{self.session_id} #{self.seq} {self.kind}"
