"""When a managed server is replaced by a fresh process: it has grown too large, and nothing runs on it.

The server does not give memory back; only a new process does. Whoever dispatches a turn marks it first and looks at the
server afterwards; here the server is held first and the turns are looked at afterwards. So no turn is cut off, and a crash at
any point leaves either a server that takes turns or one that the next tick goes on with.
"""

from __future__ import annotations

import uuid

import structlog

from agents import supervision
from agents.models import AgentServer, ServerState
from sessions_app.models import Ask, AskKind, AskState, Turn, TurnState

log = structlog.get_logger(__name__)


def tend_server(server_id: uuid.UUID) -> None:
    """Note what the server's supervisor tells, and have the server replaced when that is due. Idempotent, for every tick."""
    server = AgentServer.objects.filter(pk=server_id, enabled=True).first()
    if server is None or not server.managed:
        return
    supervision.note_supervisor(server)
    if server.state == ServerState.READY and supervision.too_large(server) and is_idle(server_id):
        if not supervision.hold_for_recycling(server):
            return
        log.info("server_held", server=server.name, memory_mb=server.memory_mb)
        server.refresh_from_db()
    if server.state != ServerState.RECYCLING or server.boot != server.recycle_boot:
        return
    if not is_idle(server_id):
        supervision.let_go_on(server_id)  # a turn came first; it is tried again when that has ended
    elif not supervision.replace_process(server):
        log.warning("server_not_replaced", server=server.name)
        supervision.let_go_on(server_id)


def is_idle(server_id: uuid.UUID) -> bool:
    """Whether nothing runs on the server, may be on its way to it, or waits there for a person."""
    turns = Turn.objects.filter(session__server_id=server_id)
    asks = Ask.objects.filter(session__server_id=server_id, state=AskState.PENDING).exclude(kind=AskKind.BUDGET)
    return not (turns.filter(state__in=[TurnState.DISPATCHING, TurnState.RUNNING]).exists() or asks.exists())
