"""The health endpoint for programs."""

from __future__ import annotations

import pytest
from celery import Celery

from agents.models import ServerState
from sessions_app.models import StreamCount
from studio import __version__
from studio.api import health
from studio.kernel.clock import now
from tests.factories import make_run, make_server
from tests.real.valkey import ValkeyServer


def test_health__names_every_part_and_each_server(viewer):
    make_server("alpha")
    make_server("beta", state=ServerState.DOWN, error="Connection refused")
    make_run(state="queued")
    body = viewer.get("/api/v1/health").json()
    assert body["version"] == __version__
    assert {"database", "broker", "worker", "bridge", "agent_servers"} <= set(body["parts"])
    assert body["parts"]["database"] == {"ok": True, "message": ""}
    assert [(one["name"], one["state"], one["error"]) for one in body["agent_servers"]] == [
        ("alpha", "ready", ""),
        ("beta", "down", "Connection refused"),
    ]
    assert body["queue"]["runs_queued"] == 1


def test_health__counts_what_the_streams_carried_and_could_not_use(viewer):
    server = make_server("alpha")
    assert viewer.get("/api/v1/health").json()["streams"] == []
    at = now()
    for reason, count in (("taken", 7), ("heartbeat", 3), ("unknown_type", 2)):
        StreamCount.objects.create(server=server, reason=reason, count=count, last_at=at)
    (stream,) = viewer.get("/api/v1/health").json()["streams"]
    assert (stream["server"], stream["entries"], stream["heartbeats"]) == ("alpha", 7, 3)
    assert stream["problems"] == {"unknown_type": 2}
    assert stream["last_entry_at"] == at.isoformat()


def test_health__is_degraded_without_a_broker_and_says_so(viewer):
    body = viewer.get("/api/v1/health").json()
    assert body["status"] == "degraded"
    assert body["parts"]["broker"]["ok"] is False
    assert body["parts"]["broker"]["message"]
    assert body["queue"]["jobs"] is None


def test_health__says_nothing_secret(viewer):
    make_server("alpha", sealed_password="sealed", username="opencode")
    text = viewer.get("/api/v1/health").content.decode()
    assert "sealed" not in text
    assert "password" not in text


@pytest.mark.real
def test_queue__is_counted_in_the_broker_and_unknown_without_it(monkeypatch):
    server = ValkeyServer()
    try:
        server.start()
        app = Celery("test", broker=server.url, set_as_current=False)
        monkeypatch.setattr(health, "current_app", app)
        assert health._jobs() == 0
        app.send_task("studio.ping", args=["x"])
        assert health._jobs() == 1
        server.kill()
        assert health._jobs() is None
        app.close()
    finally:
        server.close()
