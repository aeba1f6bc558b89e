"""The managed server as its row says: what its supervisor tells, and its replacement when it is idle and has grown too large.

The supervisor has no database. It tells by a file of this host (agents/endpoint.py); the bridge and the job
`agents.sync_servers` bring that into the row.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db.models import F, Q

from agents.endpoint import Status, ask_recycle, read_endpoint, read_status
from agents.models import AgentServer, ServerState
from studio.kernel.clock import now
from studio.kernel.text import clean, cut

log = structlog.get_logger(__name__)

MANAGED_NAME = "local"
ERROR_LIMIT = 1_000
CRASH_LIMIT = 4_000
MEMORY_STEP = 10  # MB; smaller changes are not written down
GONE = "The process that runs the agent server has ended. Start it again: make run, or the service `agentserver`."
# A supervisor that did not react for this long will not: the server takes turns again.
RECYCLE_PATIENCE = timedelta(seconds=60)


def note_supervisor(server: AgentServer) -> bool:
    """Bring what the supervisor of this host tells into the row of its server; whether the server is worth asking.

    True for every other server. Idempotent; nothing is written when nothing has changed.
    """
    if not server.managed or server.name != MANAGED_NAME or settings.OPENCODE_URL:
        return True
    status = read_status(settings.DATA)
    if status is None:
        return True
    gone = status.gone()
    asked = read_endpoint(settings.DATA) is not None if gone else status.state == "ready"
    values = _figures(status) | ({} if asked else _state(status, server))
    changed = {name: value for name, value in values.items() if _differs(name, getattr(server, name), value)}
    # A state that somebody else has changed meanwhile is not overwritten.
    if changed and AgentServer.objects.filter(pk=server.pk, state=server.state).update(**changed):
        for name, value in changed.items():
            setattr(server, name, value)
        if changed.get("state") == ServerState.DOWN:
            log.warning("server_down", server=server.name, error=server.error)
    return asked


def _figures(status: Status) -> dict[str, Any]:
    said = "\n".join([status.crash, *status.output]) if status.crash else ""
    return {
        "memory_mb": status.memory_mb,
        "started_at": _moment(status.started_at),
        "crashes": status.crashes,
        "crash": cut(clean(said), CRASH_LIMIT),
        "crashed_at": _moment(status.crashed_at),
        "next_start_at": _moment(status.next_start_at),
    }


def _state(status: Status, server: AgentServer) -> dict[str, Any]:
    """What a server that cannot be asked is: about to be, or down for a reason."""
    if status.gone():
        message = status.message if status.state == "stopped" else GONE
        return {"state": ServerState.DOWN, "error": message, "trouble": ""}
    if status.state in ("missing", "waiting"):
        return {
            "state": ServerState.DOWN,
            "error": cut(clean(status.message), ERROR_LIMIT),
            "trouble": status.trouble,
        }
    if server.state == ServerState.RECYCLING:
        return {}
    return {"state": ServerState.STARTING, "error": "", "trouble": ""}


def _differs(name: str, old: Any, new: Any) -> bool:
    if name == "memory_mb" and old and new:
        return bool(abs(old - new) >= MEMORY_STEP)
    return bool(old != new)


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def too_large(server: AgentServer) -> bool:
    """Whether the managed server holds more memory than it may."""
    limit = settings.STUDIO_AGENT_MEMORY_MB
    return bool(server.managed and limit and server.memory_mb > limit)


def hold_for_recycling(server: AgentServer) -> bool:
    """Let a ready server take nothing new, so that it can be replaced; True for the one caller that achieved it.

    Whoever sends a turn marks it first and looks at this afterwards; whoever recycles does it the other way round. So one
    of the two sees the other.
    """
    held = AgentServer.objects.filter(pk=server.pk, state=ServerState.READY, boot=server.boot).exclude(boot="")
    return held.update(state=ServerState.RECYCLING, recycle_boot=server.boot, recycle_asked_at=now()) == 1


def let_go_on(server_id: uuid.UUID) -> None:
    """Give up the replacement: the server takes turns again."""
    AgentServer.objects.filter(pk=server_id, state=ServerState.RECYCLING, boot=F("recycle_boot")).update(
        state=ServerState.READY, recycle_boot="", recycle_asked_at=None
    )


def replace_process(server: AgentServer) -> bool:
    """Ask the supervisor of this host for a fresh process; False when it has not reacted for RECYCLE_PATIENCE.

    Only for a server that is held and idle. Asking again is harmless.
    """
    if server.recycle_asked_at is None or now() - server.recycle_asked_at > RECYCLE_PATIENCE:
        return False
    ask_recycle(settings.DATA, server.recycle_boot)
    return True


def still_the_old_one() -> Q:
    """Of servers that are being recycled, those whose old process may still answer."""
    return Q(state=ServerState.RECYCLING, boot=F("recycle_boot"))
