"""The operator's pages."""

from __future__ import annotations

import pytest
from django.contrib.messages import get_messages
from django.urls import reverse

from agents import services
from agents.models import AgentProfile, AgentRole, AgentServer, ModelCatalog
from studio.kernel.clock import now
from studio.kernel.secretbox import unseal

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client, owner):
    client.force_login(owner)
    return client


@pytest.fixture
def server(settings, tmp_path):
    settings.DATA = tmp_path
    server = AgentServer.objects.create(name="gpu", managed=False, url="http://127.0.0.1:1", state="ready")
    ModelCatalog.objects.create(server=server, provider="p", model="m", name="M", seen_at=now())
    return server


def form(**fields):
    inline = {f"models-{name}": value for name, value in (("TOTAL_FORMS", 0), ("INITIAL_FORMS", 0))}
    return {
        "name": "gpu",
        "enabled": "on",
        "url": "http://127.0.0.1:1",
        "username": "opencode",
        "max_parallel_runs": 4,
        **inline,
        **fields,
    }


def test_pages__open_without_showing_a_password(operator, server):
    services.ensure_profiles()
    for model in ("agentserver", "agentprofile"):
        assert operator.get(reverse(f"admin:agents_{model}_changelist")).status_code == 200
    page = operator.get(reverse("admin:agents_agentserver_change", args=[server.pk]))
    assert "p" in page.content.decode()
    assert "sealed" not in page.content.decode()


def test_password__is_sealed_and_kept_when_left_empty(operator):
    operator.post(reverse("admin:agents_agentserver_add"), form(password="first"))
    server = AgentServer.objects.get()
    assert (unseal(server.sealed_password), server.managed) == ("first", False)
    operator.post(reverse("admin:agents_agentserver_change", args=[server.pk]), form(max_parallel_runs=9))
    server.refresh_from_db()
    assert (unseal(server.sealed_password), server.max_parallel_runs) == ("first", 9)


def test_sync_now__says_how_it_went(operator, server):
    action = {"action": "sync_now", "_selected_action": [str(server.pk)]}
    answer = operator.post(reverse("admin:agents_agentserver_changelist"), action)
    assert "down" in str(next(iter(get_messages(answer.wsgi_request))))
    server.refresh_from_db()
    assert server.state == "down"


def test_profile__gets_a_new_version_with_each_change(operator):
    services.ensure_profiles()
    profile = AgentProfile.objects.get(role=AgentRole.PLANNER)
    values = {
        name: getattr(profile, name) for name in ("role", "name", "agent", "max_steps", "wall_seconds", "idle_seconds")
    }
    operator.post(
        reverse("admin:agents_agentprofile_change", args=[profile.pk]), {**values, "is_default": "on", "model": "a/b"}
    )
    profile.refresh_from_db()
    assert (profile.model, profile.version) == ("a/b", 2)
