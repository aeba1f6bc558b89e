"""How the board stands, for the admin's front page."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Count, Q
from django.urls import reverse

from studio.operations import Figure
from tasks.choices import ACTIVE_RUN_STATES, OCCUPYING_RUN_STATES, Needs, RunPhaseState, RunState
from tasks.models import PhaseRun, Task


def board_figures() -> Iterable[Figure]:
    """What is queued, at work, in trouble, failed and waiting for people."""
    runs, tasks = reverse("admin:tasks_phaserun_changelist"), reverse("admin:tasks_task_changelist")
    counts = PhaseRun.objects.filter(state__in=ACTIVE_RUN_STATES).aggregate(
        queued=Count("pk", filter=Q(state=RunPhaseState.QUEUED)),
        working=Count("pk", filter=Q(state__in=OCCUPYING_RUN_STATES)),
        trouble=Count("pk", filter=Q(failures__gt=0, next_try_at__isnull=False)),
    )
    yield Figure("Runs queued", counts["queued"], f"{runs}?state__exact={RunPhaseState.QUEUED}")
    yield Figure("Runs at work", counts["working"], f"{runs}?state__exact={RunPhaseState.RUNNING}")
    note = "Their steps failed and are tried again; the notes say why." if counts["trouble"] else ""
    yield Figure("Runs in trouble", counts["trouble"], runs, alarm=counts["trouble"] > 0, note=note)
    failed = Task.objects.filter(run_state=RunState.FAILED).count()
    yield Figure("Tasks failed", failed, f"{tasks}?run_state__exact={RunState.FAILED}", alarm=failed > 0)
    waiting = Task.objects.exclude(needs=Needs.NOTHING).count()
    yield Figure("Tasks waiting for a person", waiting, f"{tasks}?run_state__exact={RunState.WAITING}")
