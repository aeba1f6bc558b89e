"""A task: its column is a protected state machine, and a column never changes without a history row."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django_fsm import transition

from studio.kernel.fsm import StateField, StatefulModel
from studio.kernel.ids import new_id
from tasks.choices import CompletionWay, Needs, RunState, Status
from workspaces.models import Project, Workspace

ANY_ACTIVE = [Status.PLANNING, Status.PLANNING_REVIEW, Status.IN_PROGRESS, Status.AI_REVIEW, Status.REVIEW]


class Task(StatefulModel):
    """What should change, and how far it has come.

    The transitions below are the table of docs/architecture.md ("The life of a task"). They only set the column; the
    services in tasks/services write history, open runs and publish.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="tasks")
    number = models.PositiveIntegerField(editable=False)
    key = models.CharField(max_length=24, unique=True, editable=False)  # DEMO-12
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    priority = models.SmallIntegerField(default=0)  # higher is more urgent
    labels = models.JSONField(default=list, blank=True)
    status = StateField(max_length=20, choices=Status, default=Status.TODO, protected=True)
    position = models.FloatField(default=0)  # order within the column, ascending
    attempt = models.PositiveSmallIntegerField(default=1)  # grows with each reopening
    run_state = models.CharField(max_length=12, choices=RunState, default=RunState.IDLE)
    needs = models.CharField(max_length=20, choices=Needs, blank=True, default="")
    reason = models.TextField(blank=True)  # why it waits or failed, for people
    error_code = models.CharField(max_length=40, blank=True)
    workspace = models.ForeignKey(Workspace, null=True, blank=True, on_delete=models.SET_NULL, related_name="tasks")
    completed_how = models.CharField(max_length=12, choices=CompletionWay, blank=True)
    completed_commit = models.CharField(max_length=64, blank=True)
    reverted_commit = models.CharField(max_length=64, blank=True)  # by which a merged task was taken back
    resolving = models.CharField(max_length=250, blank=True)  # the branch whose conflicts the fix round resolves
    version = models.PositiveIntegerField(default=1)  # grows with each change; If-Match of the API
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["position", "number"]
        constraints = [models.UniqueConstraint(fields=["project", "number"], name="task_number_once")]
        indexes = [
            models.Index(fields=["project", "status", "position"], name="task_board"),
            models.Index(fields=["run_state"], name="task_run_state"),
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.title}"

    @transition(field=status, source=Status.TODO, target=Status.PLANNING)
    def start(self) -> None:
        """A planning run opens."""

    @transition(field=status, source=Status.PLANNING, target=Status.PLANNING_REVIEW)
    def plan_ready(self) -> None:
        """A plan exists and a person is to approve it."""

    @transition(field=status, source=Status.PLANNING, target=Status.IN_PROGRESS)
    def plan_accepted(self) -> None:
        """A plan exists and the project needs no approval (the studio's `plan_ready` there)."""

    @transition(field=status, source=Status.PLANNING_REVIEW, target=Status.IN_PROGRESS)
    def approve_plan(self) -> None:
        """The approved plan version is recorded; an implementation run opens."""

    @transition(field=status, source=Status.PLANNING_REVIEW, target=Status.PLANNING)
    def reject_plan(self) -> None:
        """Planning opens again with the old plan and the feedback."""

    @transition(field=status, source=Status.IN_PROGRESS, target=Status.AI_REVIEW)
    def implemented(self) -> None:
        """The workspace holds a change against its base; a review run opens."""
        self.resolving = ""

    @transition(field=status, source=Status.IN_PROGRESS, target=Status.PLANNING)
    def replan(self) -> None:
        """Planning opens again with feedback."""
        self.resolving = ""

    @transition(field=status, source=Status.AI_REVIEW, target=Status.REVIEW)
    def ai_approve(self) -> None:
        """A stored verdict `approved` without an open error."""

    @transition(field=status, source=Status.AI_REVIEW, target=Status.IN_PROGRESS)
    def ai_request_changes(self) -> None:
        """A stored verdict `changes_requested`; a fix run opens with the open findings."""

    @transition(field=status, source=Status.AI_REVIEW, target=Status.REVIEW)
    def ai_give_up(self) -> None:
        """The rounds are used up (the studio's `ai_request_changes` past the limit): a person decides."""

    @transition(field=status, source=Status.AI_REVIEW, target=Status.REVIEW)
    def skip_ai_review(self) -> None:
        """A person takes the review over and says why."""

    @transition(field=status, source=Status.REVIEW, target=Status.IN_PROGRESS)
    def request_changes(self) -> None:
        """A fix run opens with the person's feedback."""

    @transition(field=status, source=Status.REVIEW, target=Status.IN_PROGRESS)
    def resolve(self) -> None:
        """A fix run opens in a checkout that holds the conflicts with the target."""

    @transition(field=status, source=Status.IN_PROGRESS, target=Status.REVIEW)
    def abort(self) -> None:
        """The conflicts are given up: the checkout goes back to what it was before."""
        self.resolving = ""

    @transition(field=status, source=Status.REVIEW, target=Status.DONE)
    def complete(self) -> None:
        """Merged, or finished without a merge; the way and its result are recorded."""

    @transition(field=status, source=[Status.TODO, *ANY_ACTIVE], target=Status.CANCELLED)
    def cancel(self) -> None:
        """Everything stops; the workspace stays until it is cleaned up."""
        self.resolving = ""

    @transition(field=status, source=[Status.DONE, Status.CANCELLED], target=Status.TODO)
    def reopen(self) -> None:
        """A new attempt; the old plans, reviews and sessions stay readable."""


class TaskHistory(models.Model):
    """One change of a task's column, or a decision that kept it there. Never edited."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="history")
    action = models.CharField(max_length=30)
    from_status = models.CharField(max_length=20)
    to_status = models.CharField(max_length=20)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    actor_name = models.CharField(max_length=150)  # "studio" for the studio itself; kept when the account goes
    reason = models.TextField(blank=True)
    run = models.ForeignKey("tasks.PhaseRun", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    at = models.DateTimeField()

    class Meta:
        ordering = ["at", "id"]
        verbose_name_plural = "task history"

    def __str__(self) -> str:
        return f"{self.action} by {self.actor_name}"
