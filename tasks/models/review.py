"""What the runs produced: plans, reviews and their findings."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from studio.kernel.ids import new_id
from tasks.choices import FindingState, ReviewSource, Severity, Verdict


class Plan(models.Model):
    """A version of a task's plan. A run has at most one; handing it in again replaces its text while the run is active."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    task = models.ForeignKey("tasks.Task", on_delete=models.CASCADE, related_name="plans")
    run = models.OneToOneField("tasks.PhaseRun", null=True, blank=True, on_delete=models.SET_NULL, related_name="plan")
    version = models.PositiveSmallIntegerField()
    text = models.TextField()  # markdown
    approved_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    approved_at = models.DateTimeField(null=True, blank=True)
    rejected_at = models.DateTimeField(null=True, blank=True)
    feedback = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["version"]
        constraints = [models.UniqueConstraint(fields=["task", "version"], name="plan_version_once")]

    def __str__(self) -> str:
        return f"plan {self.version} of {self.task_id}"


class Review(models.Model):
    """One review: by an agent, or by people on a pull request. `verdict` stays empty until a clear one was handed in."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    task = models.ForeignKey("tasks.Task", on_delete=models.CASCADE, related_name="reviews")
    run = models.OneToOneField("tasks.PhaseRun", null=True, blank=True, on_delete=models.CASCADE, related_name="review")
    source = models.CharField(max_length=12, choices=ReviewSource, default=ReviewSource.AGENT)
    attempt = models.PositiveSmallIntegerField(default=1)  # the task's attempt
    round = models.PositiveSmallIntegerField()
    verdict = models.CharField(max_length=20, choices=Verdict, blank=True)
    summary = models.TextField(blank=True)
    head_commit = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["created_at"]

    def __str__(self) -> str:
        return f"review {self.round} of {self.task_id}: {self.verdict or 'open'}"


class Finding(models.Model):
    """One thing that a reviewer found. `number` is per task; agents name findings by it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    task = models.ForeignKey("tasks.Task", on_delete=models.CASCADE, related_name="findings")
    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="findings")
    number = models.PositiveIntegerField()
    severity = models.CharField(max_length=10, choices=Severity)
    title = models.CharField(max_length=300)
    body = models.TextField(blank=True)
    file = models.CharField(max_length=1000, blank=True)
    line = models.PositiveIntegerField(null=True, blank=True)
    state = models.CharField(max_length=10, choices=FindingState, default=FindingState.OPEN)
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["task", "number"], name="finding_number_once")]

    def __str__(self) -> str:
        return f"#{self.number} {self.title}"
