"""Servers, catalogues and profiles as rows."""

from __future__ import annotations

import pytest

from agents import services
from agents.backend import Catalog, Health, Model
from agents.endpoint import Endpoint, remove_endpoint, write_endpoint
from agents.identity import mark_process
from agents.jobs import sync_servers
from agents.models import AgentProfile, AgentRole, AgentServer, ModelCatalog, ServerState
from agents.opencode.backend import OpenCodeBackend
from agents.selectors import health_summary, profile_for, ready_servers, server_notice
from studio.kernel.errors import NotFound, Upstream
from studio.kernel.secretbox import seal, unseal
from studio.queue import Names

pytestmark = pytest.mark.django_db

PRACTICE = Model("practice", "practice", "Practice", 1000, 100, usable=True)
REAL = Model("anthropic", "claude/one", "Claude One", 200_000, 8_000, usable=True)


class Answers:
    """A backend that answers what it was given."""

    def __init__(self, *models, practice=False, error=None):
        self.models, self.practice, self.error = models, practice, error

    def health(self):
        if self.error:
            raise self.error
        return Health("1.18.33", "")

    def catalog(self):
        return Catalog(self.models, self.models[0].ref if self.models else "", self.practice, frozenset({"build"}))


@pytest.fixture(autouse=True)
def data_folder(settings, tmp_path):
    """A data folder without an endpoint file, and no backend kept from another test."""
    settings.DATA = tmp_path
    settings.OPENCODE_URL = ""
    services._backends.clear()
    return tmp_path


@pytest.fixture
def answering(monkeypatch):
    def use(backend):
        monkeypatch.setattr(services, "backend_for", lambda _server: backend)

    return use


ENDPOINT = Endpoint("http://127.0.0.1:1234", "opencode", "first", "boot-1", mark_process())


def test_managed_server__follows_its_endpoint_file(data_folder):
    server = services.ensure_servers()
    assert (server.name, server.managed, server.enabled, server.url) == ("local", True, True, "")
    with pytest.raises(Upstream) as raised:
        services.backend_for(server)
    assert raised.value.transient
    write_endpoint(data_folder, ENDPOINT)
    server = services.ensure_servers()
    assert (server.url, server.boot, unseal(server.sealed_password)) == ("http://127.0.0.1:1234", "boot-1", "first")
    sealed = server.sealed_password
    assert "first" not in sealed
    assert services.ensure_servers().sealed_password == sealed  # nothing is written when nothing changed
    remove_endpoint(data_folder)
    assert services.ensure_servers().url == "http://127.0.0.1:1234"
    assert AgentServer.objects.count() == 1


def test_backend__is_kept_until_the_server_starts_again(data_folder):
    write_endpoint(data_folder, ENDPOINT)
    server = services.ensure_servers()
    backend = services.backend_for(server)
    assert services.backend_for(AgentServer.objects.get()) is backend
    write_endpoint(data_folder, Endpoint("http://127.0.0.1:99", "opencode", "second", "boot-2", mark_process()))
    again = services.backend_for(server)  # the row still says what was before
    assert isinstance(again, OpenCodeBackend)
    assert again.client.url == "http://127.0.0.1:99"


def test_external_server__takes_the_place_of_the_managed_one(settings):
    managed = services.ensure_servers()
    settings.OPENCODE_URL, settings.OPENCODE_PASSWORD = "http://agents.example:4096", "pw"
    external = services.ensure_servers()
    managed.refresh_from_db()
    assert (external.managed, external.enabled, managed.enabled) == (False, True, False)
    assert unseal(external.sealed_password) == "pw"
    settings.OPENCODE_PASSWORD = "other"
    assert unseal(services.ensure_servers().sealed_password) == "other"
    settings.OPENCODE_URL = ""
    assert services.ensure_servers() == managed
    external.refresh_from_db()
    assert not external.enabled


def test_server_of_an_operator__is_left_alone(settings):
    other = AgentServer.objects.create(name="gpu box", managed=False, url="http://gpu.example", state=ServerState.READY)
    services.ensure_servers()
    other.refresh_from_db()
    assert other.enabled
    assert list(ready_servers()) == [other]


def test_sync__writes_health_and_models(answering, requested_jobs, django_capture_on_commit_callbacks):
    server = services.ensure_servers()
    answering(Answers(REAL, PRACTICE))
    with django_capture_on_commit_callbacks(execute=True):
        assert services.sync_server(server.pk)
    server.refresh_from_db()
    assert (server.state, server.version, server.error, server.default_model) == (
        "ready",
        "1.18.33",
        "",
        "anthropic/claude/one",
    )
    assert not server_notice().practice
    assert {str(row) for row in server.models.all()} == {"anthropic/claude/one", "practice/practice"}
    assert requested_jobs == [(Names.SCHEDULE_RUNS, ()), (Names.SWEEP_SESSIONS, ())]
    answering(Answers(PRACTICE, practice=True))
    with django_capture_on_commit_callbacks(execute=True):
        services.sync_server(str(server.pk))
    assert [str(row) for row in ModelCatalog.objects.all()] == ["practice/practice"]
    assert server_notice().practice
    assert len(requested_jobs) == 2  # it was ready before


def test_sync__of_a_server_that_fails_writes_the_reason(answering):
    server = services.ensure_servers()
    answering(Answers(error=Upstream("Nobody there.\x00", code="server_unreachable", transient=True)))
    assert not services.sync_server(server.pk)
    server.refresh_from_db()
    assert (server.state, server.error) == ("down", "Nobody there.")
    assert not ready_servers().exists()
    assert health_summary()[0]["error"] == "Nobody there."
    answering(Answers(PRACTICE, practice=True))
    assert services.sync_server(server.pk)
    server.refresh_from_db()
    assert (server.state, server.error) == ("ready", "")


def test_sync__of_a_server_that_is_gone_or_disabled():
    server = services.ensure_servers()
    AgentServer.objects.update(enabled=False)
    assert not services.sync_server(server.pk)
    assert not services.sync_server("00000000-0000-0000-0000-000000000000")


def test_sync__with_another_secret_key_is_down_not_a_crash(settings):
    server = services.ensure_servers()
    AgentServer.objects.update(url="http://127.0.0.1:1", sealed_password=seal("x"))
    settings.SECRET_KEY = "another"
    assert not services.sync_server(server.pk)
    server.refresh_from_db()
    assert "SECRET_KEY" in server.error


def test_job__is_safe_to_repeat(answering):
    answering(Answers(PRACTICE, practice=True))
    sync_servers()
    sync_servers()
    assert AgentServer.objects.get().state == "ready"
    assert AgentProfile.objects.count() == 3


def test_profiles__one_default_per_role_and_a_persons_changes_stay():
    services.ensure_profiles()
    planner = profile_for(AgentRole.PLANNER)
    assert (planner.agent, planner.model, planner.is_default) == ("studio-planner", "", True)
    planner.agent = "mine"
    planner.save()
    services.ensure_profiles()
    assert profile_for(AgentRole.PLANNER).agent == "mine"
    careful = AgentProfile.objects.create(role=AgentRole.PLANNER, name="Careful", agent="studio-planner")
    assert profile_for(AgentRole.PLANNER, "Careful") == careful
    assert profile_for(AgentRole.PLANNER, "No such") == planner
    assert profile_for(AgentRole.REVIEWER, "Careful").role == AgentRole.REVIEWER
    AgentProfile.objects.all().delete()
    with pytest.raises(NotFound):
        profile_for(AgentRole.PLANNER)
