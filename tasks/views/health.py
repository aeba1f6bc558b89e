"""The state of the studio's parts, for people. Programs ask /readyz and the API."""

from __future__ import annotations

import platform
from datetime import datetime

import django
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from agents.selectors import health_summary
from studio import __version__
from studio.health import readiness
from tasks.choices import OCCUPYING_RUN_STATES, RunPhaseState
from tasks.models import PhaseRun

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
    """Every part with what is wrong with it, the agent servers, the queue of runs, and the versions."""
    context = {
        "parts": [(NAMES.get(part.name, part.name), part) for part in readiness()],
        "servers": [{**server, "seen": _moment(server["seen_at"])} for server in health_summary()],
        "queued": PhaseRun.objects.filter(state=RunPhaseState.QUEUED).count(),
        "at_work": PhaseRun.objects.filter(state__in=OCCUPYING_RUN_STATES).count(),
        "versions": (
            ("Studio", __version__),
            ("Django", django.get_version()),
            ("Python", platform.python_version()),
        ),
    }
    return render(request, "studio/health.html", context)


def _moment(written: str | None) -> datetime | None:
    return datetime.fromisoformat(written) if written else None
