"""Celery jobs: each loads by id and calls one service. Delivered twice, they do the same as once."""

from __future__ import annotations

from celery import shared_task

from studio.queue import Names
from workspaces import services


@shared_task(name=Names.MERGE)
def merge(attempt_id: str) -> None:
    """Carry out a merge."""
    services.run_merge(attempt_id)


@shared_task(name=Names.REMOVE_WORKSPACE)
def remove(workspace_id: str) -> None:
    """Remove a workspace."""
    services.remove_workspace(workspace_id)


@shared_task(name=Names.SWEEP_WORKSPACES)
def sweep() -> None:
    """Ring for due merges and removals."""
    services.sweep()
