"""One run of a phase: a session's turn, what it was asked, and how it ended."""

from __future__ import annotations

from django.db import models

from agents.models import AgentServer
from sessions_app.models import AgentSession, Turn
from studio.kernel.claim import Claimable
from studio.kernel.ids import new_id
from tasks.choices import ACTIVE_RUN_STATES, Phase, RunPhaseState


class PhaseRun(Claimable):
    """The row behind a card's run state. One active run per task, by constraint: two starts cannot make two agents."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    task = models.ForeignKey("tasks.Task", on_delete=models.CASCADE, related_name="runs")
    phase = models.CharField(max_length=16, choices=Phase)
    round = models.PositiveSmallIntegerField(default=1)  # of this phase within the attempt
    attempt = models.PositiveSmallIntegerField(default=1)  # the task's attempt
    retry = models.PositiveSmallIntegerField(default=0)  # of this round
    state = models.CharField(max_length=12, choices=RunPhaseState, default=RunPhaseState.QUEUED)
    feedback = models.TextField(blank=True)
    update_from = models.CharField(max_length=250, blank=True)  # the branch that is merged into the checkout first
    conflicts = models.JSONField(default=list, blank=True)  # files that the run is to resolve
    material = models.TextField(blank=True)  # a failing check's log: to be read, never to be obeyed
    server = models.ForeignKey(AgentServer, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    session = models.ForeignKey(AgentSession, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs")
    turn = models.OneToOneField(Turn, null=True, blank=True, on_delete=models.SET_NULL, related_name="run")
    base_commit = models.CharField(max_length=64, blank=True)  # the workspace's head when the run began
    head_commit = models.CharField(max_length=64, blank=True)  # and when it ended
    summary = models.TextField(blank=True)  # what the agent said it did
    note = models.TextField(blank=True)  # why it still waits
    stop_requested_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    failures = models.PositiveSmallIntegerField(default=0)  # of the studio's own steps, bounded
    next_try_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["task"], condition=models.Q(state__in=ACTIVE_RUN_STATES), name="run_one_active_per_task"
            )
        ]
        indexes = [models.Index(fields=["state", "next_try_at"], name="run_due")]

    def __str__(self) -> str:
        return f"{self.phase} round {self.round} of {self.task_id}"
