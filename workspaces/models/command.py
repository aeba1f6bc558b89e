"""Commands in the background of a checkout."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from studio.kernel.ids import new_id
from workspaces.models.workspace import Workspace


class CommandState(models.TextChoices):
    """starting -> running -> one of the others; nothing leaves those. See `workspaces.commands`."""

    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    LOST = "lost"  # its process is gone and left no word of how the command ended


class CommandKind(models.TextChoices):
    """What a command is for. All but the first belong to the studio: see `workspaces.setup`."""

    COMMAND = "command"
    SETUP = "setup"
    CLEANUP = "cleanup"
    DEV_SERVER = "dev_server"


class RequestedBy(models.TextChoices):
    """Who wanted a command."""

    PERSON = "person"
    AGENT = "agent"
    STUDIO = "studio"


class Command(models.Model):
    """A shell command in the background of a workspace. Its output is in the data folder of the host that runs it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="commands")
    kind = models.CharField(max_length=12, choices=CommandKind, default=CommandKind.COMMAND)
    text = models.TextField(help_text="What bash is given.")
    title = models.CharField(max_length=200)
    state = models.CharField(max_length=12, choices=CommandState, default=CommandState.STARTING)
    exit_code = models.IntegerField(null=True, blank=True, help_text="As the shell tells it: 128 + N for signal N.")
    note = models.TextField(blank=True, help_text="Why it ended as it did, in words.")
    requested_by = models.CharField(max_length=8, choices=RequestedBy)
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    started_by_name = models.CharField(max_length=150)  # kept when the account goes
    origin = models.CharField(max_length=80, blank=True, help_text="For what an agent wanted it: a run's id.")
    deliver_to = models.CharField(max_length=80, blank=True, help_text="Who is told of its end: a session's id.")
    wake = models.BooleanField(default=False, help_text="Tell the session even when it works no longer.")
    delivered_at = models.DateTimeField(null=True, blank=True)
    host = models.CharField(max_length=120, blank=True, help_text="Which studio's data folder has it.")
    pid = models.PositiveIntegerField(null=True, blank=True)
    process_started = models.FloatField(null=True, blank=True)  # as psutil tells it: a pid alone may be somebody else's
    time_limit = models.PositiveIntegerField(help_text="Seconds.")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_note = models.CharField(max_length=200, blank=True)
    output_bytes = models.PositiveBigIntegerField(default=0)
    output_cut = models.BooleanField(default=False, help_text="The middle of the output was not kept.")
    output_gone = models.BooleanField(
        default=False, help_text="The output was deleted to make room, or with the checkout."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["workspace", "-created_at"], name="command_newest"),
            models.Index(fields=["state"], name="command_state"),
        ]

    def __str__(self) -> str:
        return self.title
