"""What a project's checkouts are set up with, how far that is in each of them, and the dev server of a checkout."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from workspaces.models.command import Command
from workspaces.models.project import Project
from workspaces.models.workspace import Workspace

LONGEST_SETUP = 60 * 60
LONGEST_CLEANUP = 10 * 60
LONGEST_READY = 15 * 60


def _seconds(default: int, most: int) -> models.PositiveIntegerField[int, int]:
    return models.PositiveIntegerField(default=default, validators=[MinValueValidator(1), MaxValueValidator(most)])


class ProjectSetup(models.Model):
    """What people set for a project. `workspaces.setup.config` says what each value may be; a project without a row has none."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, related_name="setup")
    copy = models.JSONField(default=list, blank=True, help_text="Patterns of files that are copied into a checkout.")
    link = models.JSONField(default=list, blank=True, help_text="Folders that a checkout has as symbolic links.")
    environment = models.JSONField(default=dict, blank=True, help_text="Variables of scripts, commands and servers.")
    script = models.TextField(blank=True, help_text="Run once in a new checkout.")
    script_seconds = _seconds(600, LONGEST_SETUP)
    cleanup = models.TextField(blank=True, help_text="Run before a checkout is removed.")
    cleanup_seconds = _seconds(60, LONGEST_CLEANUP)
    server = models.TextField(blank=True, help_text="The command of the dev server.")
    health_path = models.CharField(max_length=500, default="/")
    ready_seconds = _seconds(120, LONGEST_READY)
    at_review = models.BooleanField(default=False, help_text="Start the dev server when a task reaches review.")
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"Setup of {self.project_id}"


class WorkspaceSetup(models.Model):
    """How far the setup of one checkout is. Once `placed_at` is set, `command` (if any) says how the script stands."""

    workspace = models.OneToOneField(Workspace, on_delete=models.CASCADE, related_name="setup")
    port = models.PositiveIntegerField(
        null=True, blank=True, unique=True, help_text="Reserved while the checkout lives; nobody else gets it."
    )
    placed = models.JSONField(default=list, blank=True, help_text="Paths that the studio put there: never committed.")
    notes = models.JSONField(default=list, blank=True, help_text="What was left out, and why.")
    error = models.TextField(blank=True, help_text="Why nothing could be placed.")
    again = models.BooleanField(default=False, help_text="Somebody asked for it once more, and it has not begun.")
    placed_at = models.DateTimeField(null=True, blank=True)
    command = models.ForeignKey(Command, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    cleanup = models.ForeignKey(Command, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    cleanup_note = models.TextField(blank=True, help_text="How the clean-up script ended, when it did not succeed.")

    def __str__(self) -> str:
        return f"Setup of the checkout {self.workspace_id}"


class ServerState(models.TextChoices):
    """requested -> starting -> healthy <-> unhealthy; stopping -> stopped; failed: it ended by itself or never began."""

    REQUESTED = "requested"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class DevServer(models.Model):
    """The dev server of one checkout: what is wanted, and how the command that runs it stands."""

    workspace = models.OneToOneField(Workspace, on_delete=models.CASCADE, related_name="server")
    state = models.CharField(max_length=12, choices=ServerState, default=ServerState.STOPPED)
    wanted = models.BooleanField(default=False, help_text="It is to run.")
    renew = models.BooleanField(default=False, help_text="A start that has been asked for and not been made.")
    by_review = models.BooleanField(default=False, help_text="The studio asked, because the task reached review.")
    asked_by = models.CharField(max_length=150, blank=True)
    command = models.ForeignKey(Command, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    port = models.PositiveIntegerField(null=True, blank=True)
    address = models.CharField(max_length=40, blank=True, help_text="The loopback address at which it answered.")
    health_path = models.CharField(max_length=500, default="/")
    ready_seconds = models.PositiveIntegerField(default=120)
    note = models.TextField(blank=True, help_text="Why it is in its state, in words.")
    checked_at = models.DateTimeField(null=True, blank=True)
    since = models.DateTimeField(null=True, blank=True, help_text="When the state began.")

    class Meta:
        indexes = [models.Index(fields=["state"], name="devserver_state")]

    def __str__(self) -> str:
        return f"Dev server of {self.workspace_id}: {self.state}"
