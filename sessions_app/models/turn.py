"""A turn: one prompt and the agent's work on it."""

from __future__ import annotations

from django.db import models

from sessions_app.models.session import AgentSession
from studio.kernel.claim import Claimable
from studio.kernel.ids import new_id


class TurnState(models.TextChoices):
    """admitted -> dispatching -> running -> settled. Nothing leaves `settled`.

    `unknown`: the server's data of the turn is gone, so nobody can say how it ended; a person retries or abandons it.
    """

    ADMITTED = "admitted"
    DISPATCHING = "dispatching"
    RUNNING = "running"
    UNKNOWN = "unknown"
    SETTLED = "settled"


class TurnOutcome(models.TextChoices):
    """How a turn ended. Only `completed` lets a task move on."""

    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"
    REJECTED = "rejected"  # refused before it ran: unknown model or agent


class Turn(Claimable):
    """One prompt and the agent's work on it.

    `message_id` and `part_id` are derived from the row before anything is sent: sending the same prompt again is a no-op
    while it runs and a resume after a crash (opencode.md, section 3).
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="turns")
    number = models.PositiveIntegerField()
    continues = models.OneToOneField(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="successor",
        help_text="Opened by its end.",
    )
    state = models.CharField(max_length=12, choices=TurnState, default=TurnState.ADMITTED)
    outcome = models.CharField(max_length=12, choices=TurnOutcome, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    prompt = models.TextField()
    system = models.TextField(blank=True)
    agent = models.CharField(max_length=80)
    model = models.CharField(max_length=200, blank=True)
    tool_subject = models.CharField(max_length=80, blank=True, help_text="Whom the studio's tools act for: a run's id.")
    message_id = models.CharField(max_length=60, unique=True)
    part_id = models.CharField(max_length=60)
    max_steps = models.PositiveSmallIntegerField()
    wall_seconds = models.PositiveIntegerField()
    idle_seconds = models.PositiveIntegerField()
    steps = models.PositiveIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="How often the prompt was sent or tried.")
    resumes = models.PositiveSmallIntegerField(
        default=0, help_text="How often it was sent again after a server's death."
    )
    retries = models.PositiveSmallIntegerField(default=0, help_text="Automatic tries after an error.")
    retry_code = models.CharField(max_length=40, blank=True, help_text="The error after which it is tried again.")
    hold = models.CharField(max_length=20, blank=True, help_text="Why it is paused and must not be sent: budget.")
    # The last answer of an earlier try: while no other follows it, the present try has not begun.
    answered_until = models.CharField(max_length=80, blank=True)
    next_try_at = models.DateTimeField(null=True, blank=True)
    server_boot = models.CharField(max_length=64, blank=True)
    abort_requested_at = models.DateTimeField(null=True, blank=True)
    abort_reason = models.CharField(max_length=40, blank=True)
    unconfirmed = models.BooleanField(
        default=False, help_text="Ended before the server said that nothing of it runs any more."
    )
    retry_note = models.TextField(blank=True, help_text="What the provider said while the server waits to try again.")
    retry_at = models.DateTimeField(null=True, blank=True)
    result_text = models.TextField(blank=True, help_text="The agent's last message.")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    last_event_at = models.DateTimeField(null=True, blank=True)
    # Waiting for a person or for the time of the next try is neither silence nor work.
    waiting_since = models.DateTimeField(null=True, blank=True)
    waited_seconds = models.FloatField(default=0)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["session", "number"], name="turn_number_once"),
            models.UniqueConstraint(
                fields=["session"], condition=~models.Q(state=TurnState.SETTLED), name="turn_one_active_per_session"
            ),
        ]
        indexes = [
            models.Index(fields=["state", "next_try_at"], name="turn_due"),
            models.Index(fields=["next_try_at"], condition=models.Q(unconfirmed=True), name="turn_unconfirmed"),
        ]

    def __str__(self) -> str:
        return f"turn {self.number} of {self.session_id}"
