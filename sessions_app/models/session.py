"""The conversations with agents, and the sub-agents' below them."""

from __future__ import annotations

from django.db import models

from agents.models import AgentRole, AgentServer
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
    subject = models.CharField(max_length=80, blank=True, help_text="What the session is for: a task's id.")
    fingerprint = models.CharField(
        max_length=64, blank=True, help_text="Of the configuration it began with; a resumed session must have the same."
    )
    previous = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="successors")
    broken = models.CharField(max_length=40, blank=True, help_text="Why it cannot go on: an error code.")
    last_seq = models.PositiveBigIntegerField(default=0, editable=False)
    # The server's own number of the last durable event that was read; -1 before the first (opencode.md, section 4).
    upstream_seq = models.BigIntegerField(default=-1, editable=False)
    context_tokens = models.PositiveIntegerField(default=0, help_text="What the last step sent to the model.")
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


class SubSession(models.Model):
    """A sub-agent's session on the server, somewhere below one of ours: its entries, asks and costs belong to ours."""

    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="children")
    external_id = models.CharField(max_length=80)
    parent_external_id = models.CharField(max_length=80)
    title = models.CharField(max_length=200, blank=True)
    upstream_seq = models.BigIntegerField(default=-1)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["session", "external_id"], name="sub_session_once")]

    def __str__(self) -> str:
        return self.title or self.external_id
