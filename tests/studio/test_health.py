"""/healthz, /readyz, the signs of life and the ping job, on a real Valkey."""

from __future__ import annotations

import pytest
from celery.signals import before_task_publish

from agents.models import AgentServer, ServerState
from studio import health, jobs, signs
from studio.kernel.clock import later
from tests.factories import make_server

EVERYTHING = {"database", "migrations", "broker", "worker", "beat", "bridge", "agent_servers"}


@pytest.fixture
def no_broker(settings):
    """Nothing listens where the broker should be."""
    settings.CHANNELS_URL = "redis://127.0.0.1:9/1"
    signs.broker.cache_clear()
    yield
    signs.broker().close()
    signs.broker.cache_clear()


@pytest.fixture
def broker(settings, valkey):
    """A real broker without any sign in it."""
    settings.CHANNELS_URL = valkey.url
    signs.broker.cache_clear()
    client = signs.broker()
    client.flushdb()
    yield client
    client.close()
    signs.broker.cache_clear()


@pytest.fixture
def readyz(client):
    def ask():
        response = client.get("/readyz")
        return response.status_code, response.json()

    return ask


@pytest.mark.django_db
def test_healthz__needs_no_login_and_no_other_part(client, no_broker):
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert "no-cache" in response["Cache-Control"]
    assert client.post("/healthz").status_code == 405


@pytest.mark.django_db
def test_readyz__names_every_missing_part_and_no_secret(readyz, no_broker):
    make_server(state=ServerState.DOWN, error="refused by http://10.0.0.1:4096")
    status, body = readyz()
    assert status == 503
    assert body["ready"] is False
    assert set(body["parts"]) == EVERYTHING
    assert set(body["missing"]) == {"broker", "worker", "beat", "bridge", "agent_servers"}
    assert all(body["parts"][name]["message"] for name in body["missing"])
    assert "10.0.0.1" not in str(body)


@pytest.mark.real
@pytest.mark.django_db
def test_readyz__becomes_ready_part_by_part(readyz, broker):
    assert set(readyz()[1]["missing"]) == {"worker", "beat", "agent_servers"}
    signs.Sign("worker")()
    signs.Sign("beat")()
    assert set(readyz()[1]["missing"]) == {"agent_servers"}
    server = make_server(state=ServerState.STARTING)
    assert set(readyz()[1]["missing"]) == {"bridge", "agent_servers"}
    AgentServer.objects.filter(pk=server.pk).update(lease_until=later(10))
    assert set(readyz()[1]["missing"]) == {"agent_servers"}
    AgentServer.objects.filter(pk=server.pk).update(state=ServerState.READY)
    status, body = readyz()
    assert (status, body["ready"], body["missing"]) == (200, True, [])
    AgentServer.objects.filter(pk=server.pk).update(lease_until=later(-1))
    assert readyz()[1]["missing"] == ["bridge"]


@pytest.mark.real
@pytest.mark.django_db
def test_readyz__expects_no_agents_of_a_studio_without(readyz, broker, settings):
    settings.STUDIO_AGENT = False
    signs.Sign("worker")()
    signs.Sign("beat")()
    status, body = readyz()
    assert status == 200
    assert set(body["parts"]) == EVERYTHING - {"bridge", "agent_servers"}


@pytest.mark.django_db
def test_readyz__names_migrations_that_are_due(readyz, no_broker, monkeypatch):
    monkeypatch.setattr(health._Migrations, "done", False)
    monkeypatch.setattr(health.MigrationExecutor, "migration_plan", lambda *_: [("studio", "0002")])
    assert readyz()[1]["parts"]["migrations"]["message"].startswith("1 migrations are due")


@pytest.mark.real
def test_sign__is_given_seldom_and_expires(broker, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(signs.time, "monotonic", lambda: now[0])
    sign = signs.Sign("worker")
    assert not signs.alive("worker")
    sign()
    assert signs.alive("worker")
    assert 0 < broker.ttl("studio:sign:worker") <= signs.VALID_SECONDS
    broker.flushdb()
    now[0] += signs.EVERY_SECONDS / 2
    sign()
    assert not signs.alive("worker")
    now[0] += signs.EVERY_SECONDS
    sign()
    assert signs.alive("worker")


def test_sign__that_cannot_be_given_stops_nothing(no_broker):
    signs.Sign("worker")()


@pytest.mark.real
def test_beat__gives_its_sign_when_it_publishes(broker):
    signs.begin_beat()
    try:
        assert signs.alive("beat")
        broker.flushdb()
        signs.beat_sign._last -= signs.EVERY_SECONDS
        before_task_publish.send(sender="sessions.sweep")
        assert signs.alive("beat")
    finally:
        before_task_publish.disconnect(signs.beat_sign, dispatch_uid="studio.sign")


@pytest.mark.real
def test_ping__leaves_a_proof_that_expires(broker):
    assert not signs.answered("abc")
    jobs.ping("abc")
    jobs.ping("abc")
    assert signs.answered("abc")
    assert 0 < broker.ttl("studio:sign:ping:abc") <= signs.ANSWER_SECONDS
