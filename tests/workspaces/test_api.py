"""Projects and workspaces over REST: who may what, and what comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from rest_framework.test import APIClient

from studio.kernel.permissions import Role
from tests.factories import git, make_member, make_repository, make_user
from workspaces.models import Project
from workspaces.services import request_removal

pytestmark = pytest.mark.django_db

PROJECTS = "/api/v1/projects"


def client_of(user) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


@pytest.fixture
def api(owner) -> APIClient:
    return client_of(owner)


@pytest.fixture
def people(project):
    """A client for each role, and for somebody who belongs to no project."""
    return {role: client_of(make_member(project, role)) for role in Role} | {"stranger": client_of(make_user())}


def test_create__registers_the_repository(member, tmp_path):
    folder = make_repository(tmp_path / "r ü", branch="trunk")
    answer = client_of(member).post(PROJECTS, {"path": str(folder), "name": "Ünder", "key": "UND"})
    body = answer.json()
    assert answer.status_code == 201, body
    assert {name: body[name] for name in ("name", "key", "path", "default_branch", "vcs", "role", "plan_approval")} == {
        "name": "Ünder",
        "key": "UND",
        "path": str(folder),
        "default_branch": "trunk",
        "vcs": "git",
        "role": "owner",
        "plan_approval": True,
    }
    assert answer["Location"].endswith("/api/v1/projects/UND")
    assert body["note"] == ""


def test_create__needs_the_permission(people, tmp_path):
    folder = make_repository(tmp_path / "private")
    for client in people.values():
        answer = client.post(PROJECTS, {"path": str(folder)})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "may_not_register")
        assert answer.json()["error"]["detail"] == {"permission": "workspaces.add_project"}
    assert not Project.objects.filter(path=str(folder)).exists()


def test_create__says_that_a_dirty_checkout_is_not_touched(api, repository):
    (repository / "app.py").write_text("unsaved\n")
    note = api.post(PROJECTS, {"path": str(repository)}).json()["note"]
    assert "app.py" in note
    assert "never touched" in note
    assert git(repository, "status", "--porcelain") == " M app.py\n"


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"path": "relative"}, 400, "path_not_absolute"),
        ({"path": ""}, 400, "path_invalid"),
        ({}, 400, "invalid"),
        ({"path": 7, "name": []}, 400, "invalid"),
        ({"path": "{repository}"}, 409, "already_registered"),
        ({"path": "{repository}/lib"}, 400, "repository_subfolder"),
        ({"path": "{repository}", "default_branch": "x"}, 400, "invalid"),
    ],
)
def test_create__refusals(api, project, repository, fields, status, code):
    sent = {
        name: value.format(repository=repository) if isinstance(value, str) else value for name, value in fields.items()
    }
    answer = api.post(PROJECTS, sent)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"]
    assert Project.objects.count() == 1


def test_list__only_what_one_belongs_to(people, project, owner, django_assert_num_queries):
    other = Project.objects.create(name="Another", key="OTHER", path="/other", default_branch="main")
    for role in Role:
        results = people[role].get(PROJECTS).json()["results"]
        assert [(one["key"], one["role"]) for one in results] == [("DEMO", role.value)]
    assert people["stranger"].get(PROJECTS).json()["results"] == []
    with django_assert_num_queries(1):
        results = client_of(owner).get(PROJECTS).json()["results"]
    assert [(one["key"], one["role"]) for one in results] == [("OTHER", "owner"), ("DEMO", "owner")]
    assert people[Role.OWNER].get(f"{PROJECTS}/{other.key}").status_code == 404


@pytest.mark.parametrize("ref", ["id", "key", "lower"])
def test_read__by_id_or_key(people, project, ref):
    address = {"id": str(project.pk), "key": "DEMO", "lower": "demo"}[ref]
    answer = people[Role.VIEWER].get(f"{PROJECTS}/{address}")
    assert (answer.status_code, answer.json()["id"], answer.json()["role"]) == (200, str(project.pk), "viewer")
    assert people["stranger"].get(f"{PROJECTS}/{address}").status_code == 404


@pytest.mark.parametrize("ref", ["NOPE", "00000000-0000-0000-0000-000000000000", "ß", "x" * 300, "%00"])
def test_read__what_is_not_there(api, ref):
    assert api.get(f"{PROJECTS}/{ref}").status_code == 404


def test_change__is_the_owners(people, project, repository):
    git(repository, "branch", "next")
    sent = {"name": "New", "default_branch": "next", "plan_approval": False, "max_parallel_runs": 7}
    for person, status in ((Role.MAINTAINER, 403), ("stranger", 404)):
        assert people[person].patch(f"{PROJECTS}/DEMO", sent).status_code == status
    answer = people[Role.OWNER].patch(f"{PROJECTS}/DEMO", sent)
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in sent} == sent


@pytest.mark.parametrize(
    "fields", [{"key": "X1"}, {"path": "/"}, {"default_branch": "gone"}, {"max_parallel_runs": 65}, {"nonsense": 1}]
)
def test_change__refusals_name_the_field(api, project, fields):
    answer = api.patch(f"{PROJECTS}/DEMO", fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["detail"]["field"] == next(iter(fields))


def test_delete__is_the_owners_and_keeps_the_repository(people, project, repository, workspace, checkout):
    for person, status in ((Role.MAINTAINER, 403), ("stranger", 404), (Role.OWNER, 204), (Role.OWNER, 404)):
        assert people[person].delete(f"{PROJECTS}/DEMO").status_code == status
    assert not checkout.exists()
    assert git(repository, "status", "--porcelain") == ""


def test_workspace__is_read_by_members(people, workspace):
    address = f"/api/v1/workspaces/{workspace.pk}"
    for path in (address, f"{address}/diff", f"{address}/status"):
        assert people[Role.VIEWER].get(path).status_code == 200
        assert people["stranger"].get(path).status_code == 404
        assert APIClient().get(path).status_code == 401
    body = people[Role.VIEWER].get(address).json()
    assert {name: body[name] for name in ("label", "branch", "base_branch", "state", "path", "project_key")} == {
        "label": "DEMO-1",
        "branch": "studio/demo-1",
        "base_branch": "trunk",
        "state": "ready",
        "path": workspace.path,
        "project_key": "DEMO",
    }


def test_diff__as_json(api, workspace, checkout):
    (checkout / "app.py").write_text("bye\n")
    (checkout / "long.txt").write_text("x\n" * 1_001)
    body = api.get(f"/api/v1/workspaces/{workspace.pk}/diff").json()
    assert (body["total_files"], body["additions"], body["deletions"], body["truncated"]) == (2, 1_002, 1, False)
    app, long = body["files"]
    assert app["hunks"][0]["lines"] == [
        {"kind": "removed", "old_no": 1, "new_no": None, "text": "print('hello')"},
        {"kind": "added", "old_no": None, "new_no": 1, "text": "bye"},
    ]
    assert (long["collapsed"], long["hunks"]) == (True, [])
    asked = api.get(f"/api/v1/workspaces/{workspace.pk}/diff", {"file": long["id"]}).json()
    assert len(asked["files"][0]["hunks"][0]["lines"]) == 1_001
    assert api.get(f"/api/v1/workspaces/{workspace.pk}/diff", {"file": "nope"}).status_code == 404
    assert api.get(f"/api/v1/workspaces/{workspace.pk}/diff", {"offset": "-1"}).status_code == 400
    assert api.get(f"/api/v1/workspaces/{workspace.pk}/diff", {"offset": 2**62}).json()["files"] == []


def test_diff__names_that_are_no_text(api, workspace, checkout):
    import os

    (checkout / os.fsdecode(b"bad\xff\nname")).write_text("x\n")
    (file,) = api.get(f"/api/v1/workspaces/{workspace.pk}/diff").json()["files"]
    assert file["new_path"] == "bad\ufffd\\nname"
    assert api.get(f"/api/v1/workspaces/{workspace.pk}/diff", {"file": file["id"]}).status_code == 200
    assert api.get(f"/api/v1/workspaces/{workspace.pk}/status").json()["untracked"] == ["bad\ufffd\\nname"]


def test_diff__of_a_checkout_that_is_broken(api, workspace, checkout):
    import shutil

    shutil.rmtree(checkout)
    answer = api.get(f"/api/v1/workspaces/{workspace.pk}/diff")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "workspace_failed")


def test_status__of_one_that_is_being_removed(api, workspace):
    request_removal(workspace)
    answer = api.get(f"/api/v1/workspaces/{workspace.pk}/status")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "workspace_not_ready")


def test_nobody_without_an_account(project):
    assert APIClient().get(PROJECTS).status_code == 401
    assert APIClient().post(PROJECTS, {"path": project.path}).status_code == 401
    assert Path(project.path).is_dir()
