"""The forge of a project, and the pull requests that were opened there."""

from __future__ import annotations

from django.db import models

from studio.kernel.claim import Claimable
from studio.kernel.ids import new_id
from workspaces.models.project import Project
from workspaces.models.workspace import Workspace


class ForgeKind(models.TextChoices):
    """The forges that the studio speaks to."""

    GITHUB = "github", "GitHub"
    GITEA = "gitea", "Gitea or Forgejo"


class PullRequestState(models.TextChoices):
    """intended (the row says what will be opened) -> open -> merged or closed; failed when it could not be opened."""

    INTENDED = "intended", "Being opened"
    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed", "Closed without merging"
    FAILED = "failed", "Not opened"


class ChecksState(models.TextChoices):
    """The checks of the newest commit in one word; empty when there are none."""

    NONE = "", "None"
    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"


class ForgeConnection(models.Model):
    """Where a project's pull requests go. The token is write-only: it is kept encrypted and never shown again."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.OneToOneField(Project, on_delete=models.CASCADE, related_name="forge")
    kind = models.CharField(max_length=12, choices=ForgeKind)
    base_url = models.CharField(max_length=300, help_text="Of the REST interface: https, or http on this machine.")
    repository = models.CharField(max_length=210, help_text="OWNER/NAME.")
    sealed_token = models.TextField(blank=True, editable=False)
    remote = models.CharField(max_length=200, default="origin", help_text="The git remote that branches are pushed to.")
    base_branch = models.CharField(max_length=250, blank=True, help_text="Empty: the branch that the task came from.")
    draft = models.BooleanField(default=False)
    reviewers = models.JSONField(default=list, blank=True)
    labels = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.repository} on {self.base_url}"


class PullRequest(Claimable):
    """A pull request of a workspace. The row is written before the forge is asked, and a crash never makes a second one."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="pull_requests")
    state = models.CharField(max_length=12, choices=PullRequestState, default=PullRequestState.INTENDED)
    repository = models.CharField(max_length=210)
    number = models.PositiveIntegerField(null=True, blank=True)
    url = models.CharField(max_length=1000, blank=True)
    title = models.CharField(max_length=300)
    body = models.TextField(blank=True)
    draft = models.BooleanField(default=False)
    head_branch = models.CharField(max_length=250)
    base_branch = models.CharField(max_length=250)
    head_commit = models.CharField(max_length=64, blank=True, help_text="What was pushed last.")
    merge_commit = models.CharField(max_length=64, blank=True)
    meant = models.JSONField(
        default=list, blank=True, help_text="Files in which lines of a conflict are meant to stand, as who asked says."
    )
    push_requested_at = models.DateTimeField(null=True, blank=True, help_text="The branch is to be pushed.")
    checks = models.JSONField(default=list, blank=True)  # {id, name, state, url, summary}
    checks_state = models.CharField(max_length=10, choices=ChecksState, blank=True, default=ChecksState.NONE)
    note = models.TextField(blank=True, help_text="What the forge did not take, such as an unknown reviewer.")
    error_code = models.CharField(max_length=40, blank=True)
    error = models.TextField(blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)  # of the present step without success
    quiet = models.PositiveSmallIntegerField(default=0)  # times in a row that nothing had changed
    created_at = models.DateTimeField(auto_now_add=True)
    synced_at = models.DateTimeField(null=True, blank=True)
    next_sync_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["workspace"],
                condition=models.Q(state__in=[PullRequestState.INTENDED, PullRequestState.OPEN]),
                name="pull_request_one_active_per_workspace",
            )
        ]
        indexes = [models.Index(fields=["state", "next_sync_at"], name="pull_request_due")]

    def __str__(self) -> str:
        return f"{self.repository}#{self.number}" if self.number else f"{self.head_branch} to {self.repository}"


class ReviewComment(models.Model):
    """What somebody wrote about a pull request on the forge; as it was when it was read last."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    pull_request = models.ForeignKey(PullRequest, on_delete=models.CASCADE, related_name="comments")
    upstream_id = models.CharField(max_length=60)
    author = models.CharField(max_length=200, blank=True)
    path = models.CharField(max_length=1000, blank=True)
    line = models.PositiveIntegerField(null=True, blank=True)
    body = models.TextField(blank=True)
    url = models.CharField(max_length=1000, blank=True)
    finding = models.UUIDField(null=True, blank=True, help_text="The finding that was made of it.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at", "upstream_id"]
        constraints = [models.UniqueConstraint(fields=["pull_request", "upstream_id"], name="review_comment_once")]

    def __str__(self) -> str:
        return f"{self.upstream_id} by {self.author}"
