"""Bringing a change onto its target branch."""

from __future__ import annotations

from django.db import models

from studio.kernel.claim import Claimable
from studio.kernel.ids import new_id
from workspaces.models.workspace import Workspace


class MergeState(models.TextChoices):
    """queued -> computed (the result is a commit object, no branch moved) -> merged; or one of the refusals."""

    QUEUED = "queued"
    COMPUTED = "computed"
    MERGED = "merged"
    CONFLICTED = "conflicted"
    REFUSED = "refused"
    FAILED = "failed"


class MergeKind(models.TextChoices):
    """What an attempt is for. Each of them settles in the states of MergeState."""

    MERGE = "merge"
    REVERT = "revert", "Revert of a merge"
    RESTORE = "restore", "Return of the checkout to what it was before a conflict"


class MergeAttempt(Claimable):
    """One attempt to bring a workspace's change onto its target branch, to take that back, or to give it up."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(max_length=8, choices=MergeKind, default=MergeKind.MERGE)
    reverts = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="reverted_by")
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
    meant = models.JSONField(
        default=list, blank=True, help_text="Files in which lines of a conflict are meant to stand, as who asked says."
    )
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
