"""The page of a project's setup, and the strip of a checkout."""

from __future__ import annotations

import pytest

from studio.kernel.permissions import Role
from tasks.choices import Status
from tests import factories
from tests.pages.conftest import FRAGMENT, body, signed_in
from workspaces.models import CommandKind, DevServer, ProjectSetup, ServerState, WorkspaceSetup
from workspaces.setup.config import NAMES
from workspaces.setup.effective import stored_values
from workspaces.setup.views import form_of

ADDRESS = "/projects/DEMO/setup/"


@pytest.fixture
def workspace(project):
    """A checkout of the project, and a task that has it."""
    found = factories.make_workspace(project, label="DEMO-1")
    factories.make_task(project, workspace=found, status=Status.PLANNING)
    return found


def strip(client, workspace, **headers):
    return body(client.get(f"/workspaces/{workspace.pk}/setup/", headers=FRAGMENT, **headers))


def test_setup_page__owners_only(as_owner, as_reviewer, as_stranger, project):
    assert as_owner.get(ADDRESS).status_code == 200
    assert as_reviewer.get(ADDRESS).status_code == 403
    assert as_stranger.get(ADDRESS).status_code == 404
    assert as_reviewer.post(ADDRESS, {}).status_code == 403


def test_setup_page__saves_what_the_form_has_and_gives_it_back(as_owner, project):
    assert "Checkouts begin with what is committed" in body(as_owner.get(ADDRESS))
    form = form_of(stored_values(project)) | {
        "copy": ".env*\r\n\r\nconfig/local.toml",
        "environment": "A=1=2\r\n B = {port}",
        "script": "make\r\nmake test",
        "at_review": "1",
    }
    assert as_owner.post(ADDRESS, form)["Location"] == ADDRESS
    row = ProjectSetup.objects.get()
    assert (row.copy, row.environment) == ([".env*", "config/local.toml"], {"A": "1=2", "B": " {port}"})
    assert (row.script, row.at_review) == ("make\nmake test", True)
    page = body(as_owner.get(ADDRESS))
    assert ".env*\nconfig/local.toml</textarea>" in page
    assert "Checkouts begin with" not in page


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("copy", "/etc/passwd", "must be below the repository"),
        ("environment", "nonsense", "Line 1 is no variable"),
        ("script_seconds", "soon", "as a whole number"),
        ("ready_seconds", "0", "from 1 to 900"),
    ],
)
def test_setup_page__what_is_wrong_is_said_at_its_field_and_nothing_typed_is_lost(
    as_owner, project, field, value, sentence
):
    form = form_of(stored_values(project)) | {"server": "npm run dev", field: value}
    response = as_owner.post(ADDRESS, form)
    page = body(response)
    assert response.status_code == 400
    assert f'id="wrong-{field}" role="alert"' in page
    assert sentence in page
    assert "npm run dev</textarea>" in page
    assert not ProjectSetup.objects.exists()


def test_setup_page__says_what_comes_from_the_repository(as_owner, owner):
    text = "[setup]\nscript = 'npm ci'\n"
    folder = factories.make_repository(files={".opencode-studio/config.toml": text})
    project = factories.make_project(key="FILE", path=folder, owner=owner)
    address = "/projects/FILE/setup/"
    assert "It is not used, because this project is not trusted" in body(as_owner.get(address))
    type(project).objects.update(trusted=True)
    page = body(as_owner.get(address))
    assert "From the repository, which counts: <code>npm ci</code>" in page
    assert page.count("From the repository, which counts") == 1


def test_strip__nothing_where_nothing_is_set_up(as_owner, workspace):
    assert "strippart" not in strip(as_owner, workspace)


def test_strip__a_failed_setup_with_its_last_lines(as_owner, as_reviewer, workspace):
    WorkspaceSetup.objects.create(workspace=workspace, error="The <disk> is full.", notes=[".env: missing"])
    page = strip(as_owner, workspace)
    assert "Setup failed" in page
    assert "The &lt;disk&gt; is full." in page
    assert "Run setup again" in page
    assert "Run setup again" not in strip(as_reviewer, workspace)
    page = body(as_owner.get("/tasks/DEMO-1/"))
    assert "The &lt;disk&gt; is full." in page
    assert "Setup failed" not in body(as_owner.get("/tasks/DEMO-1/", headers=FRAGMENT))  # the strip looks after itself


@pytest.mark.parametrize(
    ("host", "address", "link"),
    [
        ("127.0.0.1:8000", "127.0.0.1", "http://localhost:20001/"),
        ("localhost:8000", "127.0.0.1", "http://127.0.0.1:20001/"),
        ("localhost:8000", "::1", "http://[::1]:20001/"),
        ("[::1]:8000", "127.0.0.1", "http://localhost:20001/"),
        ("studio.example.org", "127.0.0.1", ""),
    ],
)
def test_strip__links_to_the_server_under_a_name_that_has_no_cookies(
    as_owner, project, workspace, settings, host, address, link
):
    settings.ALLOWED_HOSTS = ["*"]
    ProjectSetup.objects.create(project=project, server="serve")
    values = {"state": ServerState.HEALTHY, "wanted": True, "port": 20001, "address": address}
    DevServer.objects.create(workspace=workspace, **values)
    page = strip(as_owner, workspace, HTTP_HOST=host)
    assert (f'href="{link}" target="_blank" rel="noopener noreferrer"' in page) == bool(link)
    assert ("ssh -L 20001:localhost:20001" in page) == (not link)


def test_strip__buttons_do_what_they_say(as_owner, as_viewer, project, workspace):
    ProjectSetup.objects.create(project=project, server="serve")
    assert ">Start<" in strip(as_owner, workspace)
    address = f"/workspaces/{workspace.pk}/setup"
    assert as_viewer.post(f"{address}/start/", headers=FRAGMENT).status_code == 403
    response = as_owner.post(f"{address}/start/", headers=FRAGMENT)
    assert (response.status_code, response["HX-Trigger"]) == (204, "setupchanged")
    assert DevServer.objects.get().state == ServerState.REQUESTED
    assert ">Stop<" in strip(as_owner, workspace)
    assert as_owner.post(f"{address}/setup/", headers=FRAGMENT).status_code == 204
    assert WorkspaceSetup.objects.get().again
    refused = as_owner.post(f"{address}/setup/", headers=FRAGMENT)
    assert (refused.status_code, body(refused)[:30]) == (409, "The setup is running already. ")


def test_commands_page__tells_the_studios_own_from_peoples(as_owner, workspace):
    values = {"text": "npm ci", "title": "Setup script", "requested_by": "studio", "time_limit": 60, "state": "failed"}
    workspace.commands.create(kind=CommandKind.SETUP, **values)
    page = body(as_owner.get(f"/workspaces/{workspace.pk}/commands/"))
    assert '<b class="line">Setup script</b>' in page
    assert "Run again" not in page
    assert '<option value="npm ci">' not in page


def test_api__setup_and_server(as_owner, as_reviewer, project, workspace):
    address = "/api/v1/projects/DEMO/setup"
    assert as_reviewer.get(address).status_code == 403
    given = {"script": "make", "environment": {"A": "{port}"}}
    answer = as_owner.patch(address, given, content_type="application/json").json()
    assert (answer["stored"]["script"], answer["sources"]["script"], answer["sources"]["link"]) == (
        "make",
        "settings",
        "default",
    )
    assert set(answer["effective"]) == set(NAMES)
    refused = as_owner.patch(address, {"copy": ["../x"]}, content_type="application/json")
    assert (refused.status_code, refused.json()["error"]["detail"]["field"]) == (400, "copy")
    own = f"/api/v1/workspaces/{workspace.pk}"
    assert as_reviewer.get(f"{own}/setup").json()["state"] == "none"
    assert as_owner.post(f"{own}/setup").json()["state"] == "running"
    assert as_reviewer.get(f"{own}/server").json()["state"] == "stopped"
    assert as_owner.post(f"{own}/server/start").json()["error"]["code"] == "no_server"
    ProjectSetup.objects.update(server="serve")
    assert as_owner.post(f"{own}/server/start").json()["state"] == "requested"
    assert as_owner.post(f"{own}/server/restart").json()["state"] == "requested"
    assert as_owner.post(f"{own}/server/stop").json()["state"] == "stopping"
    assert signed_in(factories.make_member(project, Role.REVIEWER)).post(f"{own}/server/start").status_code == 403
