"""Whether each part of the studio works, and the two addresses that say so without a login.

/healthz answers as soon as this process can: it is for whoever restarts processes. /readyz holds every part against
what a task needs and answers 503 until all are there; it names the missing ones, and nothing secret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis.exceptions import RedisError

from agents.models import AgentServer, ServerState, ServerTrouble
from studio import signs
from studio.kernel.clock import now

log = structlog.get_logger(__name__)


class Missing(Exception):
    """The part does not work; the message says why."""


@dataclass(frozen=True, slots=True)
class PartHealth:
    """One part; `message` is empty when it works."""

    name: str
    ok: bool
    message: str = ""


def check_database() -> None:
    """The database answers."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        raise Missing("The database does not answer.") from error


def database_trouble() -> str:
    """Why a query has failed: half a sentence. A database that answers lacks its tables."""
    try:
        check_database()
    except Missing:
        return "the database does not answer"
    return "the database is not set up"


def check_migrations() -> None:
    """No migration is due."""
    if _Migrations.done:
        return
    try:
        executor = MigrationExecutor(connection)
        due = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        raise Missing("The database does not answer.") from error
    if due:
        raise Missing(f"{len(due)} migrations are due: run `manage.py migrate`.")
    _Migrations.done = True


class _Migrations:
    # Reading all migrations takes a while; a process whose code found none due never finds one later.
    done = False


def check_broker() -> None:
    """Valkey answers."""
    try:
        signs.broker().ping()
    except RedisError as error:
        raise Missing("The broker (Valkey or Redis) does not answer.") from error


def check_worker() -> None:
    """A Celery worker is connected to the broker."""
    _require_sign("worker")


def check_beat() -> None:
    """The scheduler publishes."""
    _require_sign("beat")


def _require_sign(name: str) -> None:
    try:
        if signs.alive(name):
            return
    except RedisError as error:
        raise Missing("Nothing can be heard of it while the broker does not answer.") from error
    raise Missing(f"No {name} has given a sign of life for {signs.VALID_SECONDS} s.")


def check_bridge() -> None:
    """A bridge holds the lease of every enabled agent server."""
    for server in _servers():
        if server.lease_until is None or server.lease_until <= now():
            raise Missing(f"No bridge follows the agent server {server.name}.")


def check_agent_servers() -> None:
    """An enabled agent server answers; another one that does not is on the health page."""
    servers = _servers()
    if not servers:
        raise Missing("No agent server is registered.")
    if any(server.state in (ServerState.READY, ServerState.RECYCLING) for server in servers):
        return
    server = next((one for one in servers if one.trouble), servers[0])
    # Not its error text: this is read without a login.
    trouble = f": {ServerTrouble(server.trouble).label}" if server.trouble in ServerTrouble.values else ""
    raise Missing(f"The agent server {server.name} is {server.get_state_display().lower()}{trouble}.")


def _servers() -> list[AgentServer]:
    try:
        return list(AgentServer.objects.filter(enabled=True).order_by("created_at"))
    except DatabaseError as error:
        raise Missing(f"Nothing is known of it while {database_trouble()}.") from error


CHECKS: dict[str, Callable[[], None]] = {
    "database": check_database,
    "migrations": check_migrations,
    "broker": check_broker,
    "worker": check_worker,
    "beat": check_beat,
    "bridge": check_bridge,
    "agent_servers": check_agent_servers,
}
OF_AGENTS = {"bridge", "agent_servers"}  # not expected of a studio that was started without agents


def part_health(name: str) -> PartHealth:
    """Check one part now."""
    try:
        CHECKS[name]()
    except Missing as missing:
        return PartHealth(name, ok=False, message=str(missing))
    return PartHealth(name, ok=True)


def readiness() -> list[PartHealth]:
    """Check every part that this studio is meant to have, now; bounded by the broker's and the database's time-outs."""
    return [part_health(name) for name in CHECKS if settings.STUDIO_AGENT or name not in OF_AGENTS]


@require_safe
@never_cache
@login_not_required
def healthz(request: HttpRequest) -> JsonResponse:
    """This web process answers."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
@login_not_required
def readyz(request: HttpRequest) -> JsonResponse:
    """Every part works, or which one does not."""
    parts = readiness()
    ready = all(part.ok for part in parts)
    body = {
        "ready": ready,
        "parts": {part.name: {"ok": part.ok, "message": part.message} for part in parts},
        "missing": [part.name for part in parts if not part.ok],
    }
    response = JsonResponse(body, status=200 if ready else 503)
    # Whoever waits for readiness asks often; that the answer is "not yet" is no error to log.
    response._has_been_logged = True  # type: ignore[attr-defined]  # what Django's own handlers set
    return response
