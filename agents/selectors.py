"""Reading servers, models and profiles."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from agents.models import AgentProfile, AgentServer, ServerState
from studio.kernel.errors import NotFound


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


def practice_active() -> bool:
    """Whether a ready server has nothing but the practice model, so that every page must say so."""
    return ready_servers().filter(practice=True).exists()


def health_summary() -> list[dict[str, Any]]:
    """What is known of each enabled server, for health pages and endpoints."""
    servers = AgentServer.objects.filter(enabled=True).order_by("created_at", "pk")
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
            "seen_at": server.seen_at.isoformat() if server.seen_at else None,
        }
        for server in servers
    ]
