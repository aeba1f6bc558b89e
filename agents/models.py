"""Agent servers, the models they offer, and the profiles by which a role is run."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from studio.kernel.claim import Claimable
from studio.kernel.ids import new_id


class ServerState(models.TextChoices):
    """What is known of a server; `down` keeps the reason in `error`."""

    STARTING = "starting"
    READY = "ready"
    DOWN = "down"


class AgentServer(Claimable):
    """One OpenCode server. The lease belongs to the bridge that reads its event stream."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=80, unique=True)
    managed = models.BooleanField(default=True, help_text="Started and supervised by this studio.")
    enabled = models.BooleanField(default=True)
    url = models.CharField(max_length=300, blank=True)
    username = models.CharField(max_length=80, default="opencode")
    sealed_password = models.TextField(blank=True, editable=False)
    state = models.CharField(max_length=16, choices=ServerState, default=ServerState.STARTING)
    version = models.CharField(max_length=40, blank=True)
    error = models.TextField(blank=True)
    # No usable provider: the studio's practice model answers, and every page says so.
    practice = models.BooleanField(default=False)
    default_model = models.CharField(max_length=200, blank=True, help_text="provider/model")
    max_parallel_runs = models.PositiveSmallIntegerField(
        default=4, validators=[MinValueValidator(1), MaxValueValidator(64)]
    )
    # Changes at each start of the server process: what was running before it has died.
    boot = models.CharField(max_length=64, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class ModelCatalog(models.Model):
    """A model that a server offers, as last read from it."""

    server = models.ForeignKey(AgentServer, on_delete=models.CASCADE, related_name="models")
    provider = models.CharField(max_length=100)
    model = models.CharField(max_length=200)
    name = models.CharField(max_length=200)
    context_limit = models.PositiveIntegerField(default=0)
    output_limit = models.PositiveIntegerField(default=0)
    usable = models.BooleanField(default=True)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["server", "provider", "model"], name="catalog_model_once")]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class AgentRole(models.TextChoices):
    """What an agent is asked to be. Planner and reviewer cannot edit."""

    PLANNER = "planner"
    IMPLEMENTER = "implementer"
    REVIEWER = "reviewer"


class AgentProfile(models.Model):
    """How a role is run: which agent and model, what it is told besides, and when it is stopped."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    role = models.CharField(max_length=20, choices=AgentRole)
    name = models.CharField(max_length=80, unique=True)
    is_default = models.BooleanField(default=False, help_text="Used for its role where a project names no other.")
    agent = models.CharField(max_length=80, help_text="The agent's name on the server, for example studio-planner.")
    model = models.CharField(max_length=200, blank=True, help_text="provider/model; empty: the server's default.")
    instructions = models.TextField(blank=True, help_text="Added to the role's system prompt.")
    max_steps = models.PositiveSmallIntegerField(default=25, validators=[MinValueValidator(1)])
    wall_seconds = models.PositiveIntegerField(default=3600, validators=[MinValueValidator(10)])
    idle_seconds = models.PositiveIntegerField(default=600, validators=[MinValueValidator(5)])
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["role"], condition=models.Q(is_default=True), name="agent_profile_one_default_per_role"
            )
        ]

    def __str__(self) -> str:
        return self.name
