"""Registered repositories, their members, the checkouts in which agents work, merges, and commands in the background."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from studio.kernel.claim import Claimable
from studio.kernel.ids import new_id
from studio.kernel.permissions import Role


class Project(models.Model):
    """A registered repository. `key` begins the ids of its tasks (KEY-12)."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=120)
    key = models.CharField(
        max_length=10,
        unique=True,
        validators=[RegexValidator(r"^[A-Z][A-Z0-9]{1,9}$", "Two to ten capital letters and digits, a letter first.")],
    )
    path = models.CharField(max_length=1000, unique=True, help_text="Absolute path of the work tree's root.")
    vcs = models.CharField(max_length=8, default="git")
    default_branch = models.CharField(max_length=250)
    is_sample = models.BooleanField(default=False)
    trusted = models.BooleanField(default=False)
    plan_approval = models.BooleanField(default=True, help_text="A person approves each plan.")
    auto_complete = models.BooleanField(default=False, help_text="Merge without a human review.")
    max_review_rounds = models.PositiveSmallIntegerField(default=3, validators=[MaxValueValidator(20)])
    max_parallel_runs = models.PositiveSmallIntegerField(
        default=3, validators=[MinValueValidator(1), MaxValueValidator(64)]
    )
    next_number = models.PositiveIntegerField(default=1, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class ProjectMembership(models.Model):
    """What a person is in a project. Superusers are owners everywhere."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user_id} is {self.role} of {self.project_id}"


class WorkspaceState(models.TextChoices):
    """creating -> ready -> removed; `failed` keeps its reason in `error` and may be prepared again."""

    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"
    REMOVING = "removing"
    REMOVED = "removed"


class Workspace(Claimable):
    """A worktree on a branch of its own below the data folder, from a recorded base commit."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="workspaces")
    label = models.CharField(max_length=120, help_text="What it is for, for example DEMO-12.")
    path = models.CharField(max_length=1000, unique=True)
    branch = models.CharField(max_length=250)
    base_branch = models.CharField(max_length=250)
    base_commit = models.CharField(max_length=64, blank=True)
    head_commit = models.CharField(max_length=64, blank=True, help_text="As of the last commit made by the studio.")
    state = models.CharField(max_length=12, choices=WorkspaceState, default=WorkspaceState.CREATING)
    error = models.TextField(blank=True)
    kept_patch = models.CharField(max_length=1000, blank=True, help_text="Where what was not merged was kept.")
    created_at = models.DateTimeField(auto_now_add=True)
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "branch"],
                condition=~models.Q(state=WorkspaceState.REMOVED),
                name="workspace_branch_once",
            )
        ]

    def __str__(self) -> str:
        return self.label


class MergeState(models.TextChoices):
    """queued -> computed (the result is a commit object, no branch moved) -> merged; or one of the refusals."""

    QUEUED = "queued"
    COMPUTED = "computed"
    MERGED = "merged"
    CONFLICTED = "conflicted"
    REFUSED = "refused"
    FAILED = "failed"


class MergeAttempt(Claimable):
    """One attempt to bring a workspace's change onto its target branch."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="merges")
    how = models.CharField(max_length=12)  # merge, squash, rebase
    target_branch = models.CharField(max_length=250)
    message = models.TextField()
    author_name = models.CharField(max_length=200)
    author_email = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=12, choices=MergeState, default=MergeState.QUEUED)
    source_commit = models.CharField(max_length=64, blank=True, help_text="The workspace's commit that is merged.")
    target_before = models.CharField(max_length=64, blank=True)
    result_commit = models.CharField(max_length=64, blank=True)
    conflicts = models.JSONField(default=list, blank=True)  # file names
    error_code = models.CharField(max_length=40, blank=True)
    error = models.TextField(blank=True)
    checkout_note = models.TextField(blank=True, help_text="What became of the person's own checkout.")
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace"],
                condition=models.Q(state__in=[MergeState.QUEUED, MergeState.COMPUTED]),
                name="merge_one_active_per_workspace",
            )
        ]

    def __str__(self) -> str:
        return f"{self.how} of {self.workspace_id} into {self.target_branch}: {self.state}"


class CommandState(models.TextChoices):
    """starting -> running -> one of the others; nothing leaves those. See `workspaces.commands`."""

    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    LOST = "lost"  # its process is gone and left no word of how the command ended


class RequestedBy(models.TextChoices):
    """Who wanted a command."""

    PERSON = "person"
    AGENT = "agent"


class Command(models.Model):
    """A shell command in the background of a workspace. Its output is in the data folder of the host that runs it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="commands")
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
