"""What the event streams carried, in numbers."""

from __future__ import annotations

from django.db import models

from agents.models import AgentServer


class StreamCount(models.Model):
    """How often something happened on a server's event stream: taken, heartbeat, or the reason of a refusal."""

    server = models.ForeignKey(AgentServer, on_delete=models.CASCADE, related_name="stream_counts")
    reason = models.CharField(max_length=40)
    count = models.PositiveBigIntegerField(default=0)
    last_at = models.DateTimeField()

    class Meta:
        ordering = ["server", "reason"]
        constraints = [models.UniqueConstraint(fields=["server", "reason"], name="stream_count_once")]

    def __str__(self) -> str:
        return f"{self.reason}: {self.count}"
