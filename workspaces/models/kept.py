"""What was kept of workspaces that are gone."""

from __future__ import annotations

from django.db import models

from studio.kernel.ids import new_id
from workspaces.models.project import Project
from workspaces.models.workspace import Workspace


class KeptWork(models.Model):
    """What a removed workspace held and no branch has: a patch and a bundle in the data folder, until they have gone too.

    A project that is taken out of the studio leaves its rows and files behind: `project_key` says whose they were.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, null=True, on_delete=models.SET_NULL, related_name="kept_work")
    project_key = models.CharField(max_length=10)
    workspace = models.OneToOneField(Workspace, null=True, on_delete=models.SET_NULL, related_name="kept_work")
    label = models.CharField(max_length=120, help_text="What the workspace was for, for example DEMO-12.")
    branch = models.CharField(max_length=250)
    base_branch = models.CharField(max_length=250)
    base_commit = models.CharField(max_length=64, blank=True)
    head_commit = models.CharField(max_length=64, blank=True)
    patch = models.CharField(max_length=1000, blank=True, help_text="The file, or empty.")
    patch_bytes = models.BigIntegerField(default=0)
    bundle = models.CharField(max_length=1000, blank=True, help_text="The file with the commits, or empty.")
    bundle_bytes = models.BigIntegerField(default=0)
    folder = models.CharField(max_length=1000, blank=True, help_text="Repositories that were inside the checkout.")
    keep = models.BooleanField(default=False, help_text="A person keeps it.")
    created_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField(
        null=True, blank=True, help_text="When somebody was first shown it: its time begins."
    )
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "kept work"

    def __str__(self) -> str:
        return f"{self.label}, kept"
