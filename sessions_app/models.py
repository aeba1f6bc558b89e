"""Sessions with an agent, their turns, and the log of what happened in them."""

from __future__ import annotations

from django.db import models

from agents.models import AgentRole, AgentServer
from studio.kernel.claim import Claimable
from studio.kernel.ids import new_id
from workspaces.models import Project, Workspace


class AgentSession(models.Model):
    """A durable conversation with an agent in one workspace. Its row is the lock under which events are numbered."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="sessions")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="sessions")
    server = models.ForeignKey(AgentServer, on_delete=models.PROTECT, related_name="sessions")
    role = models.CharField(max_length=20, choices=AgentRole)
    title = models.CharField(max_length=200)
    external_id = models.CharField(max_length=80, blank=True, help_text="The session's id on the server.")
    directory = models.CharField(max_length=1000)
    agent = models.CharField(max_length=80)
    model = models.CharField(max_length=200, blank=True)
    last_seq = models.PositiveBigIntegerField(default=0, editable=False)
    cost = models.DecimalField(max_digits=12, decimal_places=6, default=0)  # US dollars
    tokens_input = models.PositiveBigIntegerField(default=0)
    tokens_output = models.PositiveBigIntegerField(default=0)
    tokens_reasoning = models.PositiveBigIntegerField(default=0)
    tokens_cached = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["server", "external_id"], condition=~models.Q(external_id=""), name="session_external_id_once"
            )
        ]

    def __str__(self) -> str:
        return self.title


class TurnState(models.TextChoices):
    """admitted -> dispatching -> running -> settled. Nothing leaves `settled`."""

    ADMITTED = "admitted"
    DISPATCHING = "dispatching"
    RUNNING = "running"
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
    next_try_at = models.DateTimeField(null=True, blank=True)
    server_boot = models.CharField(max_length=64, blank=True)
    abort_requested_at = models.DateTimeField(null=True, blank=True)
    abort_reason = models.CharField(max_length=40, blank=True)
    retry_note = models.TextField(blank=True, help_text="What the provider said while the server waits to try again.")
    retry_at = models.DateTimeField(null=True, blank=True)
    result_text = models.TextField(blank=True, help_text="The agent's last message.")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    last_event_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["session", "number"], name="turn_number_once"),
            models.UniqueConstraint(
                fields=["session"], condition=~models.Q(state=TurnState.SETTLED), name="turn_one_active_per_session"
            ),
        ]
        indexes = [models.Index(fields=["state", "next_try_at"], name="turn_due")]

    def __str__(self) -> str:
        return f"turn {self.number} of {self.session_id}"


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

    def __str__(self) -> str:
        return f"{self.session_id} #{self.seq} {self.kind}"
