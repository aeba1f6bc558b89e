"""The operator's pages."""

from __future__ import annotations

import pytest
from django.contrib.messages import get_messages
from django.urls import reverse

from agents import services
from agents.models import AgentProfile, AgentRole, AgentServer, ModelCatalog
from studio.kernel.clock import now
from studio.kernel.secretbox import unseal
from studio.queue import Names
from tests.real.tls import Authority

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
    inline = {f"{of}-{name}": 0 for of in ("models", "directories") for name in ("TOTAL_FORMS", "INITIAL_FORMS")}
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


def test_managed_server__is_where_the_studio_puts_it(operator, settings, tmp_path):
    settings.DATA, settings.OPENCODE_URL = tmp_path, ""
    server = services.ensure_servers()
    address = reverse("admin:agents_agentserver_change", args=[server.pk])
    page = operator.get(address).content.decode()
    for name in ("url", "username", "password", "ca_pem", "name", "enabled"):
        assert f'name="{name}"' not in page
    given = form(name="mine", url="http://evil.example", password="x", ca_pem="y", max_parallel_runs=7)
    assert operator.post(address, given).status_code == 302
    server.refresh_from_db()
    assert (server.name, server.url, server.sealed_password, server.ca_pem) == ("local", "", "", "")
    assert (server.managed, server.enabled, server.max_parallel_runs) == (True, True, 7)
    assert operator.post(reverse("admin:agents_agentserver_delete", args=[server.pk])).status_code == 403


def test_server_of_the_environment__is_where_the_environment_says(operator, settings):
    settings.OPENCODE_URL = "http://agents.example:4096"
    server = services.ensure_servers()
    address = reverse("admin:agents_agentserver_change", args=[server.pk])
    operator.post(address, form(name="external", url="http://evil.example", max_parallel_runs=3))
    server.refresh_from_db()
    assert (server.url, server.max_parallel_runs) == ("http://agents.example:4096", 3)
    settings.OPENCODE_URL = ""  # from now on it is nobody's
    operator.post(address, form(name="external", url="http://other.example"))
    server.refresh_from_db()
    assert server.url == "http://other.example"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "local", "own name for a server"),
        ("name", "external", "own name for a server"),
        ("url", "agents.example", "like https://agents.example:4096"),
        ("url", "https://me:pw@agents.example", "in their own fields"),
        ("ca_pem", "-----BEGIN NONSENSE-----", "no certificate in PEM form"),
    ],
)
def test_external_server__with_a_mistake_is_not_saved(operator, field, value, said):
    answer = operator.post(reverse("admin:agents_agentserver_add"), form(**{field: value}))
    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert not AgentServer.objects.exists()


def test_external_server__is_asked_once_it_is_saved(operator, requested_jobs, django_capture_on_commit_callbacks):
    pem = Authority().pem
    with django_capture_on_commit_callbacks(execute=True):
        operator.post(reverse("admin:agents_agentserver_add"), form(url="https://gpu.example/", ca_pem=pem))
    server = AgentServer.objects.get()
    assert (server.url, server.ca_pem, server.managed) == ("https://gpu.example", pem.strip(), False)
    assert requested_jobs == [(Names.SYNC_SERVERS, ())]
