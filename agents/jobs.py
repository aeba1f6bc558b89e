"""Background jobs of the app."""

from __future__ import annotations

from celery import shared_task

from agents.models import AgentServer
from agents.services import ensure_profiles, ensure_servers, sync_server
from studio.queue import Names


@shared_task(name=Names.SYNC_SERVERS)
def sync_servers() -> None:
    """Bring what is known of every enabled server up to date. Idempotent."""
    ensure_servers()
    ensure_profiles()
    for server_id in AgentServer.objects.filter(enabled=True).values_list("pk", flat=True):
        sync_server(server_id)
