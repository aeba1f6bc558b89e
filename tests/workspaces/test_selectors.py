"""Who sees which project, and as what."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser

from studio.kernel.errors import Forbidden, NotFound
from studio.kernel.permissions import Role
from tests.factories import make_member, make_project, make_user, make_workspace
from workspaces import selectors

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    return make_project(key="ONE", path="/one")


@pytest.mark.parametrize("role", Role)
def test_members_see_their_projects_as_what_they_are(project, role):
    other = make_project(key="TWO", path="/two")
    user = make_member(project, role)
    assert list(selectors.projects_visible_to(user)) == [project]
    assert selectors.role_in(user, project) == role
    assert selectors.role_in(user, other) is None
    assert selectors.roles_in(user, [project, other]) == {project.pk: role}


def test_superusers_own_everything(project, owner):
    assert list(selectors.projects_visible_to(owner)) == [project]
    assert selectors.role_in(owner, project) == Role.OWNER
    assert selectors.roles_in(owner, [project]) == {project.pk: Role.OWNER}


@pytest.mark.parametrize("who", ["stranger", "anonymous"])
def test_others_see_nothing(project, who):
    user = make_user() if who == "stranger" else AnonymousUser()
    assert not selectors.projects_visible_to(user).exists()
    assert selectors.role_in(user, project) is None
    assert selectors.roles_in(user, [project]) == {}
    with pytest.raises(NotFound):
        selectors.require_role(user, project, Role.VIEWER)


def test_require_role__is_ordered(project):
    maintainer = make_member(project, Role.MAINTAINER)
    for needed in (Role.VIEWER, Role.REVIEWER, Role.MAINTAINER):
        assert selectors.require_role(maintainer, project, needed) == Role.MAINTAINER
    with pytest.raises(Forbidden, match="needs the role owner"):
        selectors.require_role(maintainer, project, Role.OWNER)


@pytest.mark.parametrize("ref", ["one", "ONE", " ONE "])
def test_project_by__key(project, ref):
    assert (
        selectors.project_by(ref)
        == selectors.project_by(project.pk)
        == selectors.project_by(str(project.pk))
        == project
    )


@pytest.mark.parametrize("ref", ["", "nope", "../x", "ß", "\0", "00000000-0000-0000-0000-000000000000"])
def test_project_by__nothing(project, ref):
    with pytest.raises(NotFound):
        selectors.project_by(ref)


def test_workspace_visible_to(owner):
    workspace = make_workspace(make_project())
    assert selectors.workspace_visible_to(owner, str(workspace.pk)) == workspace
    for user, ref in ((make_user(), workspace.pk), (owner, "nope"), (owner, "00000000-0000-0000-0000-000000000000")):
        with pytest.raises(NotFound):
            selectors.workspace_visible_to(user, ref)
