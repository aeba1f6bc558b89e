"""The list of projects, registering a repository, and a project's settings."""

from __future__ import annotations

import pytest
from django.test import override_settings

from studio.kernel.permissions import Role
from tasks.choices import RunState, Status
from tests import factories
from tests.pages.conftest import body, signed_in
from workspaces.models import Project


def register(client, **form):
    return client.post("/projects/register/", form)


def test_the_first_address_leads_to_the_projects(as_owner):
    assert as_owner.get("/")["Location"] == "/projects/"


def test_no_project_yet_teaches(as_owner):
    page = body(as_owner.get("/projects/"))
    assert "No repository yet" in page
    assert "/projects/register/" in page


def test_who_may_not_register_is_told_whom_to_ask(as_stranger, as_viewer, member):
    for client in (as_stranger, as_viewer):
        page = body(client.get("/projects/"))
        assert "Ask a superuser of this studio" in page
        assert "/projects/register/" not in page
        for response in (client.get("/projects/register/"), register(client, path=str(factories.make_repository()))):
            assert response.status_code == 403
            assert "Ask a superuser of this studio" in body(response)
    assert Project.objects.count() == 1
    page = body(signed_in(member).get("/projects/"))
    assert "/projects/register/" in page
    assert "Ask a superuser" not in page


def test_one_sees_ones_own_projects_with_what_goes_on(as_viewer, project, owner):
    factories.make_project(key="OTHER", name="Somebody else's", owner=owner)
    factories.make_task(project, status=Status.PLANNING_REVIEW)
    factories.make_task(project, status=Status.PLANNING, run_state=RunState.RUNNING)
    factories.make_task(project, status=Status.DONE)
    page = body(as_viewer.get("/projects/"))
    assert "Farewell" in page
    assert "1 needs you" in page
    assert "1 at work" in page
    assert "2 open" in page
    assert "Somebody else" not in page


def test_a_repository_is_registered_and_its_board_opens(as_owner, db):
    folder = factories.make_repository(branch="trunk")
    response = register(as_owner, path=f"  {folder} ", name="Mine", key="mine")
    assert response["Location"] == "/projects/MINE/board/"
    found = Project.objects.get()
    assert (found.name, found.default_branch) == ("Mine", "trunk")


@pytest.mark.parametrize(
    ("form", "field", "sentence"),
    [
        ({"path": ""}, "path", "as an absolute path"),
        ({"path": "relative/path"}, "path", "is not an absolute path"),
        ({"path": "{here}/nothing"}, "path", "does not exist"),
        ({"path": "{here}/README.md"}, "path", "is a file"),
        ({"path": "/etc"}, "path", "/etc"),
        ({"path": "{here}", "key": "1"}, "key", "two to ten capital letters and digits"),
        ({"path": "{here}", "name": "x" * 300}, "name", "1 to 120 characters"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_typed_is_lost(as_owner, form, field, sentence):
    here = factories.make_repository()
    form = {name: value.format(here=here) for name, value in form.items()}
    response = register(as_owner, **form)
    page = body(response)
    assert response.status_code == 400
    assert f'id="{field}-wrong" role="alert"' in page
    assert sentence in page
    for value in form.values():
        assert f'value="{value}"' in page
    assert not Project.objects.exists()


def test_a_repository_is_registered_once(as_owner, db):
    folder = factories.make_repository()
    register(as_owner, path=str(folder))
    again = register(as_owner, path=str(folder))
    assert again.status_code == 409
    assert "is already registered" in body(again)


def test_a_taken_key_is_said_at_the_key(as_owner, project):
    response = register(as_owner, path=str(factories.make_repository()), key="DEMO")
    assert response.status_code == 409
    assert 'id="key-wrong"' in body(response)


def test_only_an_owner_sees_the_settings(project):
    for role, status in ((Role.OWNER, 200), (Role.MAINTAINER, 403), (Role.VIEWER, 403)):
        client = signed_in(factories.make_member(project, role))
        assert client.get("/projects/DEMO/settings/").status_code == status
        assert ("/projects/DEMO/settings/" in body(client.get("/projects/DEMO/board/"))) == (status == 200)


def test_the_settings_are_saved(as_owner, project):
    form = {
        "name": "Renamed",
        "default_branch": "main",
        "auto_complete": "1",
        "trusted": "1",
        "max_review_rounds": "5",
        "max_parallel_runs": "2",
    }
    assert as_owner.post("/projects/DEMO/settings/", form)["Location"] == "/projects/DEMO/settings/"
    project.refresh_from_db()
    assert (project.name, project.plan_approval, project.auto_complete) == ("Renamed", False, True)
    assert (project.max_review_rounds, project.max_parallel_runs, project.trusted) == (5, 2, True)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"default_branch": "no-such-branch"}, "no-such-branch"),
        ({"max_parallel_runs": "many"}, "whole numbers"),
        ({"max_parallel_runs": "1000"}, "max_parallel_runs"),
        ({"name": ""}, "name"),
    ],
)
def test_wrong_settings_are_said_and_nothing_changes(as_owner, project, changed, sentence):
    form = {"name": "Other", "default_branch": "main", "max_review_rounds": "5", "max_parallel_runs": "2", **changed}
    response = as_owner.post("/projects/DEMO/settings/", form)
    assert response.status_code == 400
    assert sentence in body(response)
    project.refresh_from_db()
    assert project.name == "Farewell"


def test_the_health_page_names_what_is_missing(as_owner, db):
    factories.make_server("local", practice=True, version="1.18.33", error="It said <b>no</b>.")
    page = body(as_owner.get("/health/"))
    assert "1.18.33" in page
    assert "It said &lt;b&gt;no&lt;/b&gt;." in page
    assert "The broker (Valkey or Redis) does not answer." in page


def test_the_practice_label_is_on_every_page(as_owner, project):
    factories.make_task(project)
    pages = ["/projects/", "/projects/DEMO/board/", "/tasks/DEMO-1/", "/health/", "/projects/register/"]
    for path in pages:
        assert "Practice model" not in body(as_owner.get(path))
    factories.make_server(practice=True)
    for path in pages:
        assert "Practice model: scripted answers, no real agent." in body(as_owner.get(path))


@pytest.mark.parametrize(
    ("cookie", "shown"), [("dark", 'data-theme="dark"'), ("light", 'data-theme="light"'), ('x" onload="', None)]
)
def test_the_chosen_look_is_kept(as_owner, db, cookie, shown):
    as_owner.cookies["theme"] = cookie
    page = body(as_owner.get("/projects/"))
    assert (shown in page) if shown else ("data-theme=" not in page)


def test_a_failure_has_a_page(owner, monkeypatch):
    client = signed_in(owner)
    client.raise_request_exception = False
    monkeypatch.setattr("tasks.views.board.projects_visible_to", lambda user: 1 / 0)
    with override_settings(DEBUG=False):
        response = client.get("/projects/")
    assert response.status_code == 500
    assert "The studio failed here" in body(response)
