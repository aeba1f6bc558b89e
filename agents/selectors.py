"""Reading servers, models and profiles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from agents.discovery import WANTED
from agents.models import AgentProfile, AgentServer, ServerState, ServerTrouble
from studio.kernel.errors import NotFound
from studio.kernel.text import cut

NOTE_LIMIT = 500
MOMENTS = ("seen_at", "started_at", "crashed_at", "next_start_at", "recycled_at")
IN_ADMIN = "under Administration, Agent servers."
REMEDIES: dict[str, str] = {
    ServerTrouble.CRASHING: "What it said last is on the health page; its log is agentserver.log in the data folder's log.",
    ServerTrouble.UNREACHABLE: f"Look whether it runs, and at its address {IN_ADMIN}",
    ServerTrouble.PASSWORD_REFUSED: f"Enter its password {IN_ADMIN}",
    ServerTrouble.SECRET_UNREADABLE: f"Enter its password again {IN_ADMIN}",
    ServerTrouble.NOT_OPENCODE: f"Look at its address {IN_ADMIN}",
    ServerTrouble.UNSUPPORTED_VERSION: f"Install OpenCode {WANTED} there.",
}


def ready_servers() -> QuerySet[AgentServer]:
    """The servers that can take a run, oldest first."""
    return AgentServer.objects.filter(enabled=True, state=ServerState.READY).order_by("created_at", "pk")


def profile_for(role: str, name: str | None = None) -> AgentProfile:
    """The profile called `name` if it is for `role`, else the role's default. Raises NotFound when there is neither."""
    profiles = AgentProfile.objects.filter(role=role)
    profile = (profiles.filter(name=name).first() if name else None) or profiles.filter(is_default=True).first()
    if profile is None:
        raise NotFound(f"There is no agent profile for the role {role}.", code="profile_missing")
    return profile


@dataclass(frozen=True, slots=True)
class Notice:
    """What every page says about the agent servers: that answers are scripted, or why no agent can run and what to do."""

    practice: bool = False
    trouble: str = ""
    remedy: str = ""


def server_notice() -> Notice:
    """What to say now. One query. Nothing is said of a server that is only starting, or while another one is there."""
    servers = list(AgentServer.objects.filter(enabled=True).order_by("created_at", "pk"))
    ready = [server for server in servers if server.state == ServerState.READY]
    if ready:
        return Notice(practice=any(server.practice for server in ready))
    troubled = next((server for server in servers if server.state == ServerState.DOWN and server.trouble), None)
    if troubled is None or any(server.state != ServerState.DOWN for server in servers):
        return Notice()
    return Notice(trouble=troubled.error, remedy=remedy_for(troubled))


def unready_note() -> str:
    """Why a run has to wait for an agent server, where more is known than that none is ready; else empty."""
    servers = list(AgentServer.objects.filter(enabled=True).order_by("created_at", "pk"))
    if any(server.state == ServerState.RECYCLING for server in servers):
        return "Waiting: the agent server is being replaced by a fresh process."
    said = next((server.error for server in servers if server.state == ServerState.DOWN and server.trouble), "")
    return cut(f"Waiting: no agent server is ready. {said}", NOTE_LIMIT) if said else ""


def remedy_for(server: AgentServer) -> str:
    """What a person can do about a server's trouble, where its error does not say so itself."""
    if server.trouble == ServerTrouble.UNREACHABLE and server.managed:
        return "Its log is agentserver.log in the data folder's log; `make doctor` looks at every part."
    return REMEDIES.get(server.trouble, "")


def health_summary() -> list[dict[str, Any]]:
    """What is known of each enabled server, for health pages and endpoints."""
    return [
        {
            "id": str(server.pk),
            "name": server.name,
            "managed": server.managed,
            "state": server.state,
            "version": server.version,
            "practice": server.practice,
            "default_model": server.default_model,
            "error": server.error,
            "trouble": server.trouble,
            "remedy": remedy_for(server),
            "memory_mb": server.memory_mb,
            "memory_limit_mb": settings.STUDIO_AGENT_MEMORY_MB if server.managed else 0,
            "crashes": server.crashes,
            "crash": server.crash,
            **{name: _iso(getattr(server, name)) for name in MOMENTS},
        }
        for server in AgentServer.objects.filter(enabled=True).order_by("created_at", "pk")
    ]


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
