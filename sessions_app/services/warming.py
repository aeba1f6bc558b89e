"""Loading workspaces on an agent server before their turn comes: a cold directory costs the first prompt a second or more.

A hint only: whatever fails here, the turn's own dispatch does it again. A workspace is not made ahead of its time, because its
base commit would be older than it need be.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable

import structlog

from agents.directories import is_loaded, warm_directory
from agents.models import AgentServer, ServerState
from studio.kernel.errors import StudioError
from studio.queue import Names, enqueue
from workspaces.models import Workspace, WorkspaceState

log = structlog.get_logger(__name__)

AHEAD = os.cpu_count() or 1  # loading is all computing, so more at once would only take from the turns that run


def warm_ahead(server: AgentServer, workspaces: Iterable[Workspace]) -> int:
    """Request the loading of the first few of `workspaces` that the server has not loaded; of how many."""
    cold = [one for one in list(workspaces)[:AHEAD] if _is_there(one) and not is_loaded(server, one.path)]
    for workspace in cold:
        enqueue(Names.WARM_WORKSPACE, server.pk, workspace.pk)
    return len(cold)


def warm_workspace(server_id: uuid.UUID | str, workspace_id: uuid.UUID | str) -> bool:
    """Let the server load the workspace unless it has; whether it was asked to. Idempotent, and takes a second at most."""
    server = AgentServer.objects.filter(pk=server_id, enabled=True, state=ServerState.READY).first()
    workspace = Workspace.objects.filter(pk=workspace_id).first()
    if server is None or workspace is None or not _is_there(workspace):
        return False
    try:
        return warm_directory(server, workspace.path)
    except StudioError as error:
        log.info("directory_not_warmed", directory=workspace.path, error=error.message)
        return False


def _is_there(workspace: Workspace) -> bool:
    return workspace.state == WorkspaceState.READY
