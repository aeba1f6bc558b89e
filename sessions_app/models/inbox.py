"""Messages of people to a session's agent."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from sessions_app.models.session import AgentSession
from sessions_app.models.turn import Turn
from studio.kernel.ids import new_id


class Delivery(models.TextChoices):
    """When a message of a person reaches the agent."""

    STEER = "steer"  # at the running turn's next step; opens a turn when none runs
    QUEUE = "queue"  # first in, first out; each opens a turn of its own


class InboxState(models.TextChoices):
    """waiting -> sending -> delivered; or removed while it waited."""

    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    REMOVED = "removed"


class InboxItem(models.Model):
    """A message to a session's agent. It has its place from the moment it is accepted, and is delivered exactly once.

    `turn` took it: as its prompt (queue), or while it ran (steer). Steers that are sent together share `message_id`.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="inbox")
    delivery = models.CharField(max_length=8, choices=Delivery)
    text = models.TextField()
    state = models.CharField(max_length=12, choices=InboxState, default=InboxState.WAITING)
    position = models.PositiveIntegerField()
    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    author_name = models.CharField(max_length=150)  # kept when the account goes; "studio" for the studio itself
    turn = models.ForeignKey(Turn, null=True, blank=True, on_delete=models.SET_NULL, related_name="messages")
    message_id = models.CharField(max_length=60, blank=True)
    part_id = models.CharField(max_length=60, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    edited_at = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["session", "position"], name="inbox_position_once")]
        indexes = [models.Index(fields=["state", "next_try_at"], name="inbox_due")]

    def __str__(self) -> str:
        return f"{self.delivery} {self.position} to {self.session_id}"
