"""Issues of a forge that became tasks."""

from __future__ import annotations

from django.db import models

from studio.kernel.ids import new_id
from workspaces.models import ForgeConnection, Project


class ImportedIssue(models.Model):
    """Which issue a task came from. One issue is one task of a project, however often it is imported."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    task = models.OneToOneField("tasks.Task", on_delete=models.CASCADE, related_name="issue")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    connection = models.ForeignKey(ForgeConnection, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    repository = models.CharField(max_length=210)
    number = models.PositiveIntegerField()
    url = models.CharField(max_length=1000)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["project", "url"], name="imported_issue_once")]

    def __str__(self) -> str:
        return f"{self.repository}#{self.number}"
