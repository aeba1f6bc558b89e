"""The state of the studio for programs that are signed in; /healthz and /readyz are for probes."""

from __future__ import annotations

from typing import Any, TypedDict

import structlog
from celery import current_app
from django.db.models import Count, Q
from django.urls import URLPattern, path
from drf_spectacular.utils import extend_schema
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from agents.selectors import health_summary
from sessions_app.streams import REASONS, stream_health
from studio import __version__
from studio.health import readiness
from tasks.choices import ACTIVE_RUN_STATES, OCCUPYING_RUN_STATES, RunPhaseState
from tasks.models import PhaseRun
from workspaces.disk import disk
from workspaces.storage import storage_notes

log = structlog.get_logger(__name__)


class Queue(TypedDict):
    """What waits: jobs in the broker (null when it does not answer), runs for an agent, runs with one."""

    jobs: int | None
    runs_queued: int
    runs_working: int


class PartSerializer(serializers.Serializer[Any]):
    """Whether a part works, and why not."""

    ok = serializers.BooleanField()
    message = serializers.CharField()


class QueueSerializer(serializers.Serializer[Any]):
    """What waits."""

    jobs = serializers.IntegerField(allow_null=True, help_text="In the broker; null when it does not answer.")
    runs_queued = serializers.IntegerField(help_text="Waiting for an agent.")
    runs_working = serializers.IntegerField(help_text="With an agent at work.")


class ServerHealthSerializer(serializers.Serializer[Any]):
    """What is known of an agent server."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    managed = serializers.BooleanField(help_text="Started and supervised by this studio.")
    state = serializers.CharField(help_text="starting, ready, recycling or down.")
    version = serializers.CharField()
    practice = serializers.BooleanField(help_text="Scripted answers, no real model.")
    default_model = serializers.CharField()
    error = serializers.CharField()
    trouble = serializers.CharField(help_text="A code for what a person has to do something about, or empty.")
    remedy = serializers.CharField(help_text="What can be done, where the error does not say so itself.")
    memory_mb = serializers.IntegerField(help_text="Of a managed server and all that it started; 0: unknown.")
    memory_limit_mb = serializers.IntegerField(
        help_text="Above it an idle server is replaced by a fresh process; 0: never."
    )
    crashes = serializers.IntegerField(help_text="How often it has ended in a row.")
    crash = serializers.CharField(help_text="How it ended last, and what it said before.")
    seen_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    crashed_at = serializers.DateTimeField(allow_null=True)
    next_start_at = serializers.DateTimeField(allow_null=True)
    recycled_at = serializers.DateTimeField(allow_null=True)


class StreamHealthSerializer(serializers.Serializer[Any]):
    """What an agent server's event stream carried."""

    server = serializers.CharField()
    entries = serializers.IntegerField(help_text="Things that happened in sessions, taken into their logs.")
    last_entry_at = serializers.DateTimeField(allow_null=True)
    heartbeats = serializers.IntegerField()
    last_heartbeat_at = serializers.DateTimeField(allow_null=True)
    problems = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="What could not be used, by reason: "
        + "; ".join(f"{one}: {text}" for one, text in REASONS.items())
        + ".",
    )


class StorageHealthSerializer(serializers.Serializer[Any]):
    """The disk of the data folder, and what is below the workspace root."""

    free_bytes = serializers.IntegerField()
    low = serializers.BooleanField(help_text="Less is free than STUDIO_DISK_LOW_MB.")
    notes = serializers.ListField(
        child=serializers.CharField(),
        help_text="What somebody should look at: a full disk, limits and repositories of the account's projects, and for "
        "superusers unknown folders.",
    )


class HealthSerializer(serializers.Serializer[Any]):
    """The state of the studio. `parts` has database, migrations, broker, worker, beat, bridge and agent_servers."""

    status = serializers.ChoiceField(choices=["ok", "degraded"], help_text="ok: every part works.")
    version = serializers.CharField()
    parts = serializers.DictField(child=PartSerializer())
    queue = QueueSerializer()
    agent_servers = ServerHealthSerializer(many=True)
    streams = StreamHealthSerializer(many=True)
    storage = StorageHealthSerializer()


class Health(APIView):
    """The state of the studio."""

    @extend_schema(operation_id="health", responses=HealthSerializer)
    def get(self, request: Request) -> Response:
        """Read the state of every part, of the queue and of the agent servers."""
        parts, room = readiness(), disk()
        return Response(
            {
                "status": "ok" if all(part.ok for part in parts) else "degraded",
                "version": __version__,
                "parts": {part.name: {"ok": part.ok, "message": part.message} for part in parts},
                "queue": _queue(broker=any(part.name == "broker" and part.ok for part in parts)),
                "agent_servers": health_summary(),
                "streams": stream_health(),
                "storage": {"free_bytes": room.free_bytes, "low": room.low, "notes": storage_notes(request.user)},
            }
        )


def _queue(*, broker: bool) -> Queue:
    runs = PhaseRun.objects.filter(state__in=ACTIVE_RUN_STATES).aggregate(
        queued=Count("pk", filter=Q(state=RunPhaseState.QUEUED)),
        working=Count("pk", filter=Q(state__in=OCCUPYING_RUN_STATES)),
    )
    return {"jobs": _jobs() if broker else None, "runs_queued": runs["queued"], "runs_working": runs["working"]}


def _jobs() -> int | None:
    """The length of Celery's queue, which lies in the broker's own database and not in the channel layer's."""
    try:
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=2)
            channel: Any = connection.default_channel
            return int(channel.client.llen(current_app.conf.task_default_queue))
    except (OperationalError, RedisError, OSError) as error:
        log.warning("queue_not_read", error=str(error))
        return None


urlpatterns: list[URLPattern] = [path("health", Health.as_view(), name="api-health")]
