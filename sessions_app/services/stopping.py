"""Making sure that what was stopped has stopped: asked of the server until it says so, and its stray commands ended.

A turn is settled when its end is certain for the studio. That is not yet the end of what runs: the server may have been out
of reach, an abort may have crossed a prompt on its way, a command may have left its process group.
"""

from __future__ import annotations

import uuid

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from agents.endpoint import ask_end_strays, read_endpoint
from agents.opencode.config import ServerFolder
from agents.services import backend_for
from agents.strays import end_strays
from sessions_app.models import AgentSession, SubSession, Turn, TurnState
from studio.kernel.clock import later, now
from studio.kernel.errors import NotFound, Upstream
from studio.kernel.owners import pid_space
from studio.queue import Names, enqueue

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 2.0  # after an abort that the server has not carried out yet
BACKOFF_CAP = 60.0  # seconds, while the server does not answer
AT_ONCE = 50  # turns that one sweep asks for
AT_WORK = (TurnState.DISPATCHING, TurnState.RUNNING)


def confirm_stopped(turn_id: uuid.UUID | str) -> bool:
    """Whether nothing of a stopped turn runs any more; what does is stopped again. Idempotent.

    Repeated by the sweeper until it is certain. Meanwhile no other turn is sent into the same workspace.
    """
    turn = Turn.objects.select_related("session__server").filter(pk=turn_id, unconfirmed=True).first()
    if turn is None or turn.state != TurnState.SETTLED:
        return False
    session = turn.session
    try:
        if not _ended_with_its_server(turn) and not _went_on(turn) and _still_at_work(session):
            Turn.objects.filter(pk=turn.pk).update(next_try_at=later(AGAIN_SECONDS))
            return False
    except Upstream as error:
        waited = (now() - turn.settled_at).total_seconds() if turn.settled_at else 0.0
        delay = min(BACKOFF_CAP, max(AGAIN_SECONDS, waited / 4))
        Turn.objects.filter(pk=turn.pk).update(next_try_at=later(delay))
        log.info("stop_not_confirmed", turn=str(turn.pk), error=error.message)
        return False
    if session.server.managed and not _busy(session):
        _end_commands(session.directory)
    _mark_confirmed(turn)
    return True


def _ended_with_its_server(turn: Turn) -> bool:
    """Whether the server's process has been replaced since: its turns ended with it."""
    server = turn.session.server
    return bool(server.managed and server.boot and turn.server_boot and turn.server_boot != server.boot)


def _went_on(turn: Turn) -> bool:
    """Whether a later turn of the same session was sent: then that one says what the session does."""
    return Turn.objects.filter(session_id=turn.session_id, number__gt=turn.number, started_at__isnull=False).exists()


def _still_at_work(session: AgentSession) -> bool:
    """Stop what the session and its sub-agents still do on the server; whether there was anything."""
    if not session.external_id:
        return False
    children = SubSession.objects.filter(session=session).values_list("external_id", flat=True)
    backend = backend_for(session.server)
    running = backend.busy(session.directory) & {session.external_id, *children}
    for external in running:
        try:
            backend.abort(external)
        except NotFound:
            log.info("stopped_session_is_gone", session=external)
    return bool(running)


def _busy(session: AgentSession) -> bool:
    """Whether another turn is at work in the workspace: its commands must not be ended with the old ones."""
    return Turn.objects.filter(session__workspace_id=session.workspace_id, state__in=AT_WORK).exists()


def _end_commands(directory: str) -> None:
    """End what the agent's commands left running; in another container the server's supervisor does it a moment later."""
    endpoint = read_endpoint(settings.DATA)
    if endpoint is None or endpoint.process.space == pid_space():
        end_strays(str(ServerFolder(settings.DATA / "opencode").root), directory)
    else:
        ask_end_strays(settings.DATA, directory)


def _mark_confirmed(turn: Turn) -> None:
    """Take the mark away, and let those begin that waited for it."""
    with transaction.atomic():
        Turn.objects.filter(pk=turn.pk).update(unconfirmed=False, next_try_at=None)
        waiting = Turn.objects.filter(session__workspace_id=turn.session.workspace_id, state=TurnState.ADMITTED)
        ready = list(waiting.filter(hold="", retry_code="").values_list("pk", flat=True))
        Turn.objects.filter(pk__in=ready).update(next_try_at=None)
        for turn_id in ready:
            enqueue(Names.DISPATCH_TURN, turn_id)


def unconfirmed_now() -> list[uuid.UUID]:
    """The stopped turns that should be held against their servers now, the longest waiting first."""
    due = Q(next_try_at__isnull=True) | Q(next_try_at__lte=now())
    stopped = Turn.objects.filter(due, unconfirmed=True, state=TurnState.SETTLED, session__server__enabled=True)
    return list(stopped.order_by("settled_at").values_list("pk", flat=True)[:AT_ONCE])
