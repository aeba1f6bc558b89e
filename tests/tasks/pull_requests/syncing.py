"""Reading a pull request again, as the jobs do."""

from __future__ import annotations

import pytest

from studio.kernel.clock import later
from tasks.services import pull_requests
from workspaces.models import PullRequest
from workspaces.services import sync_pull_request

both_forges = pytest.mark.parametrize("forge", ["github", "gitea"], indirect=True)


def sync(row: PullRequest | None = None) -> PullRequest:
    """The job, due now, and what follows from it."""
    row = row or PullRequest.objects.latest("created_at")
    PullRequest.objects.filter(pk=row.pk, next_sync_at__isnull=False).update(next_sync_at=later(-1))
    sync_pull_request(row.pk)
    pull_requests.advance_pull_request(row.pk)
    row.refresh_from_db()
    return row
