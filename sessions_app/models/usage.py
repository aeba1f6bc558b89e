"""What agents use, and the limits on it."""

from __future__ import annotations

from django.db import models

from sessions_app.models.ask import Ask
from sessions_app.models.session import AgentSession
from sessions_app.models.turn import Turn
from studio.kernel.ids import new_id
from workspaces.models import Project


class Usage(models.Model):
    """Tokens and cost of one step of a model, counted once (by the log entry's key)."""

    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="usage")
    turn = models.ForeignKey(Turn, null=True, blank=True, on_delete=models.SET_NULL, related_name="usage")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="usage")
    key = models.CharField(max_length=160)
    subject = models.CharField(max_length=80, blank=True)  # the session's: a task's id
    run = models.CharField(max_length=80, blank=True)  # the turn's tool_subject: a run's id
    role = models.CharField(max_length=20)
    model = models.CharField(max_length=200, blank=True)
    cost = models.DecimalField(max_digits=12, decimal_places=6, default=0)  # US dollars
    tokens_input = models.PositiveBigIntegerField(default=0)
    tokens_output = models.PositiveBigIntegerField(default=0)
    tokens_reasoning = models.PositiveBigIntegerField(default=0)
    tokens_cached = models.PositiveBigIntegerField(default=0)
    day = models.DateField()  # UTC
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["session", "key"], name="usage_once")]
        indexes = [
            models.Index(fields=["project", "day"], name="usage_project_day"),
            models.Index(fields=["subject"], name="usage_subject"),
            models.Index(fields=["run"], name="usage_run"),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.cost}"


class BudgetScope(models.TextChoices):
    """What a budget counts together."""

    TURN = "turn"
    RUN = "run"
    TASK = "task"
    PROJECT = "project"
    DAY = "day"  # of the project, UTC


class BudgetMetric(models.TextChoices):
    """What a budget counts."""

    COST = "cost", "US dollars"
    TOKENS = "tokens"  # in and out, reasoning included, cached not


class BudgetAction(models.TextChoices):
    """What happens when a budget is reached."""

    WARN = "warn"
    ASK = "ask"
    STOP = "stop"


class Budget(models.Model):
    """A limit on what agents may use. Without a project it holds for each project."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, null=True, blank=True, on_delete=models.CASCADE, related_name="budgets")
    scope = models.CharField(max_length=8, choices=BudgetScope)
    metric = models.CharField(max_length=8, choices=BudgetMetric)
    amount = models.DecimalField(max_digits=14, decimal_places=4)
    action = models.CharField(max_length=8, choices=BudgetAction)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "scope", "metric", "action"],
                condition=models.Q(project__isnull=False),
                name="budget_once_project",
            ),
            models.UniqueConstraint(
                fields=["scope", "metric", "action"],
                condition=models.Q(project__isnull=True),
                name="budget_once_everywhere",
            ),
            models.CheckConstraint(condition=models.Q(amount__gt=0), name="budget_amount_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.action} at {self.amount} {self.metric} per {self.scope}"


class BudgetHit(models.Model):
    """A budget was reached by what it counts (`counted`: a turn's, run's, task's or project's id, or project and day).

    Once per thing counted; `allowance` is what a person has granted on top.
    """

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="hits")
    counted = models.CharField(max_length=120)
    used = models.DecimalField(max_digits=14, decimal_places=4)
    allowance = models.DecimalField(max_digits=14, decimal_places=4, default=0)
    ask = models.ForeignKey(Ask, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["budget", "counted"], name="budget_hit_once")]

    def __str__(self) -> str:
        return f"{self.budget_id} by {self.counted}"
