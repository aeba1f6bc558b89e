"""What a setup placed in a checkout is listed for everybody and read by those who may change the setup, by page and by API."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import Client

from studio.kernel.permissions import Role
from tests import factories
from workspaces.files import search
from workspaces.files.search import find_lines
from workspaces.files.source import source_of
from workspaces.models import ProjectSetup
from workspaces.setup import services

pytestmark = pytest.mark.django_db
SECRETS = (".env", "config/local/token", ".opencode-studio/env")
ROLES = (Role.VIEWER, Role.REVIEWER, Role.MAINTAINER, Role.OWNER)


@pytest.fixture
def placed(workspace, repository):
    """A checkout into which the setup has copied secrets, one of them in a folder, and written its variables."""
    (repository / ".env").write_text("TOKEN=needle\n")
    (repository / "config/local").mkdir(parents=True)
    (repository / "config/local/token").write_bytes(b"\x89PNG\r\n\x1a\nneedle")
    ProjectSetup.objects.create(
        project=workspace.project, copy=[".env", "config/local"], environment={"API_KEY": "needle"}
    )
    services.ensure_setup(workspace, origin="run")
    (Path(workspace.path) / "app.py").write_text("print('needle')\n")
    return workspace


def client_of(project, role):
    client = Client()
    client.force_login(factories.make_member(project, role))
    return client


@pytest.mark.parametrize("role", ROLES)
def test_role__reads_what_it_may_and_learns_where_it_is(placed, role):
    client, may = client_of(placed.project, role), role == Role.OWNER
    api, pages = f"/api/v1/workspaces/{placed.pk}", f"/workspaces/{placed.pk}/files"
    listed = client.get(f"{api}/tree").json()["entries"]
    assert ".env" in [entry["path"] for entry in listed]
    for path in SECRETS:
        found = client.get(f"{api}/file?path={path}").json()
        page = client.get(f"{pages}/?path={path}").content.decode()
        raw = client.get(f"{pages}/raw/?path={path}")
        assert "only owners of the project can read it" in page.lower()
        assert "only owners of the project can read it" in found["notes"][0].lower()
        assert (raw.status_code, found["kind"] == "withheld") == ((200, False) if may else (403, True))
        text = found["text"] + page + b"".join(raw).decode("utf-8", "replace")
        assert ("needle" in text) == may
    image = client.get(f"{pages}/image/?path=config/local/token")
    assert image.status_code == (200 if may else 403)
    assert client.get(f"{api}/file?path=app.py").json()["text"] == "print('needle')"


@pytest.mark.parametrize("program", ["rg", "git"])
@pytest.mark.parametrize("role", ROLES)
def test_role__finds_what_it_may(placed, role, program, monkeypatch):
    if program == "git":
        monkeypatch.setattr(search.shutil, "which", lambda _: None)
    client, may = client_of(placed.project, role), role == Role.OWNER
    found = client.get(f"/api/v1/workspaces/{placed.pk}/search?q=needle&where=lines").json()
    names = {file["path"] for file in found["files"]}
    assert "app.py" in names
    assert may or not names & set(SECRETS)
    page = client.get(f"/workspaces/{placed.pk}/files/?q=needle&in=lines").content.decode()
    assert may or "TOKEN" not in page
    assert may or "API_KEY" not in page
    if may and program == "rg":
        assert ".env" in names


def test_nobody__reads_them_where_no_reader_is_named(placed, owner):
    assert source_of(placed).placed.withholds(".ENV")  # some file systems take it for the same
    assert not source_of(placed, owner).placed.withholds(".env")
    assert not source_of(placed).placed.withholds(".env.example")
    assert {file.path for file in find_lines(placed, "needle").files} == {"app.py"}
