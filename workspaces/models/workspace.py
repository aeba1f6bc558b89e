"""The checkouts in which agents work."""

from __future__ import annotations

from django.db import models

from studio.kernel.claim import Claimable
from studio.kernel.ids import new_id
from workspaces.models.project import Project


class WorkspaceState(models.TextChoices):
    """creating -> ready -> removed; `failed` keeps its reason in `error` and may be prepared again."""

    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"
    REMOVING = "removing"
    REMOVED = "removed"


KEPT = "What of it was not merged is kept on the project's storage page, where it can be restored."
# Why there is no checkout to work in, and what to do, by the state.
ABSENT: dict[str, str] = {
    WorkspaceState.CREATING: "is being made. Wait until it is there.",
    WorkspaceState.FAILED: "could not be made. Retry its task: then it is made again.",
    WorkspaceState.REMOVING: f"is being removed. {KEPT}",
    WorkspaceState.REMOVED: f"has been removed. {KEPT}",
}


class MergedHow(models.TextChoices):
    """How the target branch came to have what a workspace held."""

    MERGE = "merge", "merged"
    SQUASH = "squash", "squashed"
    REBASE = "rebase", "rebased"
    PULL_REQUEST = "pull_request", "merged by a pull request"
    TAKEN_BACK = "taken_back", "merged and taken back since"


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
    # Where its branch begins when that is not `base_commit`: at a person's branch, or at what another workspace left.
    start_commit = models.CharField(max_length=64, blank=True)
    started_from = models.CharField(max_length=300, blank=True, help_text="What it started from, in words.")
    restores = models.ForeignKey(
        "workspaces.KeptWork", null=True, blank=True, on_delete=models.SET_NULL, related_name="restored_in"
    )
    marker = models.CharField(max_length=64, blank=True, help_text="What the note beside the checkout must say.")
    finished_at = models.DateTimeField(null=True, blank=True, help_text="Since when nobody needs it any more.")
    keep = models.BooleanField(default=False, help_text="A person keeps it, however long ago its task was finished.")
    size_bytes = models.BigIntegerField(null=True, blank=True, help_text="What it takes on the disk.")
    size_partial = models.BooleanField(default=False, help_text="Too large to be measured whole: at least so much.")
    ahead = models.PositiveIntegerField(null=True, blank=True, help_text="Commits that are merged nowhere.")
    uncommitted = models.PositiveIntegerField(null=True, blank=True, help_text="Files that are in no commit.")
    merged_how = models.CharField(
        max_length=12, choices=MergedHow, blank=True, help_text="Empty: by no recorded merge."
    )
    merged_as = models.CharField(max_length=64, blank=True, help_text="The commit of the target that the merge made.")
    trouble = models.TextField(blank=True, help_text="How it was damaged from outside, in words.")
    looked_at = models.DateTimeField(null=True, blank=True, help_text="As of when size and trouble are known.")
    look_due = models.DateTimeField(null=True, blank=True, help_text="When it is looked at again.")
    created_at = models.DateTimeField(auto_now_add=True)
    confirmed = models.CharField(
        max_length=16,
        blank=True,
        help_text="Fingerprint of what goes, as a person confirmed it; empty: nobody was asked.",
    )
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

    @property
    def absence(self) -> str:
        """Why nothing can be done in its checkout, as a sentence with what to do; empty when it is ready."""
        said = ABSENT.get(self.state)
        return f"The checkout of {self.label} {said}" if said else ""
