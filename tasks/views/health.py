"""The state of the studio's parts, for people. Programs ask /readyz and the API."""

from __future__ import annotations

import platform
from datetime import datetime
from typing import Any

import django
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from agents.selectors import MOMENTS, health_summary, server_notice
from studio import __version__
from studio.health import readiness
from tasks.choices import OCCUPYING_RUN_STATES, RunPhaseState
from tasks.models import PhaseRun
from workspaces.disk import disk
from workspaces.storage import storage_notes

TONES = {"ready": "green", "down": "red", "recycling": "amber"}
NAMES = {
    "database": "Database",
    "migrations": "Migrations",
    "broker": "Broker",
    "worker": "Worker",
    "beat": "Scheduler",
    "bridge": "Bridge to the agents",
    "agent_servers": "Agent servers",
}


@require_GET
def health(request: HttpRequest) -> HttpResponse:
    """Every part with what is wrong with it, the agent servers, the queue of runs, and the versions; alone when asked again."""
    context = {
        "parts": [(NAMES.get(part.name, part.name), part) for part in readiness()],
        "servers": [_shown(server) for server in health_summary()],
        "queued": PhaseRun.objects.filter(state=RunPhaseState.QUEUED).count(),
        "at_work": PhaseRun.objects.filter(state__in=OCCUPYING_RUN_STATES).count(),
        "storage_notes": storage_notes(request.user),
        "disk": disk(),
        "versions": (
            ("Studio", __version__),
            ("Django", django.get_version()),
            ("Python", platform.python_version()),
        ),
    }
    return render(
        request, "studio/_health.html" if request.headers.get("HX-Request") else "studio/health.html", context
    )


@require_GET
def servers(request: HttpRequest) -> HttpResponse:
    """The line on every page about the agent servers, as it is now; empty when there is nothing to say."""
    return render(request, "studio/_servers.html", {"notice": server_notice()})


def _shown(server: dict[str, Any]) -> dict[str, Any]:
    moments = {name: datetime.fromisoformat(server[name]) if server[name] else None for name in MOMENTS}
    return {**server, **moments, "tone": TONES.get(server["state"], "grey")}
