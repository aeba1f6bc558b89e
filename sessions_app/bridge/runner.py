"""Keeps one ServerBridge running per enabled server, and follows commands in the background and dev servers."""

from __future__ import annotations

import threading
import uuid

import structlog
from django.db import DatabaseError, close_old_connections

from agents.models import AgentServer
from sessions_app.bridge.server import ServerBridge
from studio.kernel import checkpoints
from workspaces.commands.watch import follow as watch_commands
from workspaces.setup.servers import follow as watch_servers

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
STOP_SECONDS = 5.0


def run(stop: threading.Event) -> None:
    """Follow every enabled server until `stop` is set; servers that appear later are followed too."""
    followers: dict[uuid.UUID, threading.Thread] = {}
    threading.Thread(target=watch_commands, args=[stop], name="commands", daemon=True).start()
    threading.Thread(target=watch_servers, args=[stop], name="dev-servers", daemon=True).start()
    threading.Thread(target=checkpoints.keep, args=[stop], name="checkpoints", daemon=True).start()
    while not stop.is_set():
        try:
            wanted = set(AgentServer.objects.filter(enabled=True).values_list("pk", flat=True))
        except DatabaseError as error:
            log.warning("bridge_waits_for_database", error=str(error))
            wanted = set()
        finally:
            close_old_connections()
        for server_id in wanted:
            thread = followers.get(server_id)
            if thread is None or not thread.is_alive():
                bridge = ServerBridge(server_id, stop)
                followers[server_id] = threading.Thread(target=bridge.run, name=f"bridge-{server_id}", daemon=True)
                followers[server_id].start()
        stop.wait(LOOK_SECONDS)
    for thread in followers.values():
        thread.join(STOP_SECONDS)
