"""Registered repositories and their members."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from studio.kernel.ids import new_id
from studio.kernel.permissions import Role

MOST_DAYS = 3650  # that a finished task's workspace may stay, where it does not for ever
MOST_MEGABYTES = 2**31 - 1  # of a limit: the largest number that the column takes


def usual_retention() -> int | None:
    """Days that a finished task's workspace stays in a new project; None: for ever."""
    days: int | None = settings.STUDIO_WORKSPACE_DAYS
    return days


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
    retention_days = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        default=usual_retention,
        validators=[MaxValueValidator(MOST_DAYS)],
        help_text="Days that the checkout of a finished task stays: 0 removes it at once, empty never.",
    )
    quota_mb = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_MEGABYTES)],
        help_text="Megabytes of checkouts and kept work above which the project's people are warned; empty: never.",
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
