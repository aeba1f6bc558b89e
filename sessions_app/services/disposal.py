"""Letting agent servers forget directories that nobody works in any more.

A server keeps some 70 MB for each directory, with watchers and tools, until it is told. It must not be told while a turn runs
there: agents/directories.py says how the two keep out of each other's way.
"""

from __future__ import annotations

import uuid

import structlog
from django.db.models import QuerySet

from agents import directories
from agents.models import AgentServer, LoadedDirectory
from agents.services import backend_for
from sessions_app.models import AgentSession, Turn, TurnState
from studio.kernel.errors import StudioError
from studio.queue import Names, enqueue
from workspaces.models import Workspace, WorkspaceState

log = structlog.get_logger(__name__)

LEAVING = (WorkspaceState.REMOVING, WorkspaceState.REMOVED)


def ring_for_unused() -> int:
    """Request the disposal of every directory that has been unused for a while or whose workspace goes; how many."""
    for server_id in AgentServer.objects.filter(directories__isnull=False).values_list("pk", flat=True).distinct():
        directories.forget_earlier(server_id)
    busy = _turns().values("session__directory")
    unused = directories.unused_directories().exclude(directory__in=busy)
    gone = Workspace.objects.filter(state__in=LEAVING).values("path")
    leaving = LoadedDirectory.objects.filter(directory__in=gone, leaving_at__isnull=True)
    wanted = {*unused.values_list("pk", flat=True), *leaving.values_list("pk", flat=True)}
    for loaded_id in wanted:
        enqueue(Names.DISPOSE_DIRECTORY, loaded_id)
    return len(wanted)


def dispose_directory(loaded_id: int | str) -> bool:
    """Let a server forget a directory, once and never while a turn runs in it; whether this call did it. Idempotent."""
    if not str(loaded_id).isdecimal():
        return False
    loaded = directories.claim_leaving(int(loaded_id))
    if loaded is None:
        return False
    if _turns().filter(session__server=loaded.server, session__directory=loaded.directory).exists():
        directories.keep(loaded)
        return False
    try:
        directories.let_go(loaded)
    except StudioError as error:
        log.info("directory_kept", directory=loaded.directory, error=error.message)  # the sweeper asks again
        return False
    log.info("directory_let_go", server=loaded.server.name, directory=loaded.directory)
    return True


def release_workspace(workspace_id: uuid.UUID | str) -> None:
    """Put away the sessions of a workspace that goes, and let their servers forget its directory. Idempotent.

    Put away first: a session of a directory that is gone would make it again at its first write.
    """
    workspace = Workspace.objects.filter(pk=workspace_id, state__in=LEAVING).first()
    if workspace is None:
        return
    sessions = AgentSession.objects.filter(workspace=workspace).exclude(external_id="").select_related("server")
    for session in sessions.filter(server__enabled=True):
        try:
            backend_for(session.server).archive_session(session.external_id)
        except StudioError as error:
            log.info("session_not_put_away", session=str(session.pk), error=error.message)
    for loaded_id in LoadedDirectory.objects.filter(directory=workspace.path).values_list("pk", flat=True):
        dispose_directory(loaded_id)


def _turns() -> QuerySet[Turn]:
    return Turn.objects.filter(state__in=[TurnState.DISPATCHING, TurnState.RUNNING])
