"""Finding what a lost doorbell left behind. Any number of sweepers, at any time, is safe: they only ring bells again."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Q

from studio.kernel.claim import release_dead
from studio.kernel.clock import now
from studio.queue import Names, enqueue
from workspaces.commands import watch
from workspaces.models import MergeAttempt, MergeState, PullRequest, Workspace, WorkspaceSetup, WorkspaceState
from workspaces.services.inspection import ring_for_looks
from workspaces.services.kept import expire_kept
from workspaces.services.pull_requests import due_pull_requests
from workspaces.services.retention import remove_due
from workspaces.setup import servers

# A merge that is due for longer than this was missed by its own doorbell.
OVERDUE = timedelta(seconds=2)


def sweep() -> int:
    """Ring for every merge, removal, pull request, look, command, setup and dev server that is due; how many bells were rung.

    What expired of the kept work is deleted.
    """
    at = now()
    release_dead(MergeAttempt)
    release_dead(PullRequest)
    free = Q(lease_until__isnull=True) | Q(lease_until__lte=at)
    merges = MergeAttempt.objects.filter(
        free, state__in=[MergeState.QUEUED, MergeState.COMPUTED], created_at__lte=at - OVERDUE
    )
    rung = 0
    for attempt_id in merges.values_list("pk", flat=True):
        enqueue(Names.MERGE, attempt_id)
        rung += 1
    begun = Workspace.objects.filter(
        state=WorkspaceState.CREATING, finished_at__isnull=False, restores__isnull=False, look_due__lte=at
    )
    for workspace_id in begun.values_list("pk", flat=True):
        enqueue(Names.MAKE_WORKSPACE, workspace_id)
        rung += 1
    for workspace_id in Workspace.objects.filter(free, state=WorkspaceState.REMOVING).values_list("pk", flat=True):
        enqueue(Names.REMOVE_WORKSPACE, workspace_id)
        rung += 1
    for workspace_id in WorkspaceSetup.objects.filter(again=True).values_list("workspace_id", flat=True):
        enqueue(Names.RUN_SETUP, workspace_id)
        rung += 1
    for pull_request_id in due_pull_requests():
        enqueue(Names.SYNC_PULL_REQUEST, pull_request_id)
        rung += 1
    expire_kept()
    return rung + watch.sweep() + servers.ring_for_due() + remove_due() + ring_for_looks()
