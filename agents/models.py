"""Agent servers, the models they offer, and the profiles by which a role is run."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from studio.kernel.claim import Claimable
from studio.kernel.ids import new_id


class ServerState(models.TextChoices):
    """What is known of a server; `down` keeps the reason in `error`.

    `recycling`: idle and grown too large, so it takes nothing new until a fresh process is there.
    """

    STARTING = "starting"
    READY = "ready"
    RECYCLING = "recycling"
    DOWN = "down"


class ServerTrouble(models.TextChoices):
    """What a person has to do something about. Agents' supervisor and client name them by value."""

    BINARY_MISSING = "binary_missing", "OpenCode is missing"
    BINARY_UNSUPPORTED = "binary_unsupported", "OpenCode is of another version"
    CRASHING = "crashing", "It ends again and again"
    UNREACHABLE = "unreachable", "It does not answer"
    PASSWORD_REFUSED = "password_refused", "It refuses the password"
    CERTIFICATE = "certificate", "Its certificate is not trusted"
    NOT_OPENCODE = "not_opencode", "Something else answers there"
    UNSUPPORTED_VERSION = "unsupported_version", "It is of another version"
    SECRET_UNREADABLE = "secret_unreadable", "Its stored password cannot be read"


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
    trouble = models.CharField(max_length=40, choices=ServerTrouble, blank=True)
    ca_pem = models.TextField(
        blank=True,
        verbose_name="certificate authority",
        help_text="PEM, for a server whose certificate is not signed by an authority that this system trusts.",
    )
    # No usable provider: the studio's practice model answers, and every page says so.
    practice = models.BooleanField(default=False)
    default_model = models.CharField(max_length=200, blank=True, help_text="provider/model")
    max_parallel_runs = models.PositiveSmallIntegerField(
        default=4, validators=[MinValueValidator(1), MaxValueValidator(64)]
    )
    # Changes at each start of the server process: what was running before it has died.
    boot = models.CharField(max_length=64, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    # Of a managed server, as its supervisor tells. A good run takes the deaths back to none.
    started_at = models.DateTimeField(null=True, blank=True)
    memory_mb = models.PositiveIntegerField(default=0)
    crashes = models.PositiveIntegerField(default=0, help_text="How often it has ended in a row.")
    crash = models.TextField(blank=True, help_text="How it ended last, and what it said before.")
    crashed_at = models.DateTimeField(null=True, blank=True)
    next_start_at = models.DateTimeField(null=True, blank=True)
    recycle_boot = models.CharField(max_length=64, blank=True, help_text="The process that is to be replaced.")
    recycle_asked_at = models.DateTimeField(null=True, blank=True)
    recycled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class LoadedDirectory(models.Model):
    """A directory for which a server keeps something in memory. Rows of an earlier `boot` mean nothing any more."""

    server = models.ForeignKey(AgentServer, on_delete=models.CASCADE, related_name="directories")
    directory = models.CharField(max_length=1000)
    boot = models.CharField(max_length=64, blank=True)
    used_at = models.DateTimeField()
    leaving_at = models.DateTimeField(null=True, blank=True, help_text="When the server was to let go of it.")

    class Meta:
        verbose_name_plural = "loaded directories"
        constraints = [models.UniqueConstraint(fields=["server", "directory"], name="loaded_directory_once")]

    def __str__(self) -> str:
        return self.directory


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
    continue_session = models.BooleanField(
        default=False,
        help_text="A fix round goes on in the implementer's conversation, while its configuration is the same. Off: each"
        " round begins afresh.",
    )
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
