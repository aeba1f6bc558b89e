"""The live feed of a project and the one-time login links. Subjects are named by strings: this app knows no other."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from studio.kernel.ids import new_id


class FeedHead(models.Model):
    """The last sequence number of a project's feed; its row is the lock under which the next number is taken."""

    project_id = models.UUIDField(primary_key=True)
    last_seq = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"feed of {self.project_id} at {self.last_seq}"


class FeedEvent(models.Model):
    """One thing that became true in a project, numbered without a gap, written in the transaction that made it true."""

    project_id = models.UUIDField()
    seq = models.PositiveBigIntegerField()
    topic = models.CharField(max_length=80)  # "project:ID", "task:ID"
    kind = models.CharField(max_length=60)  # "task.moved", "run.state", …
    payload = models.JSONField(default=dict)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project_id", "seq"], name="feed_event_seq_once")]
        indexes = [models.Index(fields=["topic", "seq"], name="feed_event_topic")]

    def __str__(self) -> str:
        return f"{self.topic} #{self.seq} {self.kind}"


class LoginLink(models.Model):
    """A link that signs its user in once. Only a digest of its token is kept."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="login_links")
    token_digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"login link of {self.user_id}"
