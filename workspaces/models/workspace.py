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
