"""Finding what a lost doorbell left behind. Any number of sweepers, at any time, is safe: they only ring bells again."""

from __future__ import annotations

import uuid

from django.db.models import Exists, OuterRef, Q

from sessions_app.models import Ask, AskState, TurnState
from studio.kernel.claim import release_dead
from studio.kernel.clock import now
from studio.queue import Names, enqueue
from tasks.choices import Needs, RunPhaseState, RunState, Status
from tasks.models import PhaseRun, Task
from tasks.services import pull_requests
from tasks.services.merge_news import untold_merges
from tasks.services.runs import fail_run
from tasks.services.starting import let_go_unattached
from workspaces.models import MergeAttempt, MergeState, WorkspaceState
from workspaces.services import release_workspace

RELEASED_AT_ONCE = 20
LEAVING = (WorkspaceState.REMOVING, WorkspaceState.REMOVED)


def sweep() -> int:
    """Ring for everything that is due; how many bells were rung."""
    release_dead(PhaseRun)
    at = now()
    due = PhaseRun.objects.filter(Q(lease_until__isnull=True) | Q(lease_until__lte=at)).filter(
        Q(next_try_at__isnull=True) | Q(next_try_at__lte=at)
    )
    rung = 0
    if PhaseRun.objects.filter(state=RunPhaseState.QUEUED).exists():
        enqueue(Names.SCHEDULE_RUNS)
        rung += 1
    for run_id in due.filter(state=RunPhaseState.PREPARING).values_list("pk", flat=True):
        enqueue(Names.PREPARE_RUN, run_id)
        rung += 1
    under_way = due.filter(state__in=[RunPhaseState.RUNNING, RunPhaseState.FINISHING])
    for turn_id in under_way.filter(turn__state=TurnState.SETTLED).values_list("turn_id", flat=True):
        enqueue(Names.ADVANCE_TURN, turn_id)
        rung += 1
    for run_id in under_way.filter(turn__isnull=True).values_list("pk", flat=True):
        fail_run(run_id, "session_lost")
    # A merge is waited for in review, its reverse in done.
    merging = Task.objects.filter(status__in=[Status.REVIEW, Status.DONE], run_state=RunState.RUNNING).values_list(
        "workspace_id", flat=True
    )
    settled = MergeAttempt.objects.filter(workspace_id__in=list(merging)).exclude(
        state__in=[MergeState.QUEUED, MergeState.COMPUTED]
    )
    for attempt_id in {*settled.values_list("pk", flat=True), *untold_merges()}:
        enqueue(Names.ADVANCE_MERGE, attempt_id)
        rung += 1
    for turn_id in _unheard_asks():
        enqueue(Names.REFRESH_CARD, turn_id)
        rung += 1
    for pull_request_id in pull_requests.unnoticed():
        enqueue(Names.ADVANCE_PULL_REQUEST, pull_request_id)
        rung += 1
    finished = Task.objects.filter(status__in=[Status.DONE, Status.CANCELLED], workspace__finished_at__isnull=True)
    for task in finished.exclude(workspace__state__in=LEAVING).select_related("workspace")[:RELEASED_AT_ONCE]:
        if task.workspace is not None:
            release_workspace(task.workspace)  # it was finished before checkouts had a time to stay
    let_go_unattached()
    return rung


def _unheard_asks() -> list[uuid.UUID]:
    """The turns of running runs whose agent waits for an answer while the card does not say so, or no longer waits while
    it does."""
    asks = Exists(Ask.objects.filter(turn=OuterRef("turn"), state=AskState.PENDING))
    says = Q(task__needs=Needs.ANSWER)
    running = PhaseRun.objects.filter(state=RunPhaseState.RUNNING, stop_requested_at__isnull=True)
    unheard = running.exclude(turn__state=TurnState.SETTLED).filter((asks & ~says) | (~asks & says))
    return [turn_id for turn_id in unheard.values_list("turn_id", flat=True) if turn_id is not None]
