"""Sessions with a running turn, as rows: `python -m bench.rows make COUNT` in a studio's environment.

Prints {"sessions": {external id: directory}, "topics": [...], "busy": {directory: [external ids]}}. `python -m bench.rows count`
prints what the logs of all sessions hold: {"stored": n, "gaps": n}.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")


def make(count: int) -> dict[str, Any]:
    """`count` sessions whose turns run on the enabled server."""
    from agents.models import AgentServer
    from sessions_app.models import Turn, TurnState
    from sessions_app.services.turns import admit_turn, open_session
    from studio.kernel.clock import now
    from studio.kernel.ids import new_id
    from workspaces.models import Project, Workspace

    server = AgentServer.objects.get(enabled=True)
    project, _ = Project.objects.get_or_create(
        key="BENCH", defaults={"name": "Bench", "path": "/srv/bench", "default_branch": "main"}
    )
    made = []
    for _ in range(count):
        mark = new_id().hex[-12:]
        workspace = Workspace.objects.create(
            project=project, label=mark, path=f"/srv/bench-{mark}", branch=mark, base_branch="main", state="ready"
        )
        session = open_session(
            workspace=workspace, server=server, role="implementer", title=mark, agent="studio-implementer", model=""
        )
        session.external_id = f"ses_{mark}"
        session.save(update_fields=["external_id"])
        turn = admit_turn(session=session, prompt=mark, max_steps=30_000, wall_seconds=86_400, idle_seconds=86_400)
        Turn.objects.filter(pk=turn.pk).update(
            state=TurnState.RUNNING, started_at=now(), last_event_at=now(), server_boot=server.boot
        )
        made.append(session)
    return {
        "sessions": {one.external_id: one.directory for one in made},
        "topics": [f"session:{one.pk}" for one in made],
        "busy": {one.directory: [one.external_id] for one in made},
    }


def count() -> dict[str, int]:
    """How many entries all logs hold, and how many of the logs have a gap."""
    from django.db.models import Count, Max

    from sessions_app.models import SessionEvent

    logs = SessionEvent.objects.values("session").annotate(rows=Count("pk"), head=Max("seq"))
    return {"stored": sum(log["rows"] for log in logs), "gaps": sum(log["rows"] != log["head"] for log in logs)}


if __name__ == "__main__":
    django.setup()
    print(json.dumps(make(int(sys.argv[2])) if sys.argv[1] == "make" else count()))
