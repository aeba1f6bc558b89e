"""Issues become tasks, each once."""

from __future__ import annotations

import pytest

from studio.kernel.errors import Conflict, Forbidden, Invalid
from studio.kernel.permissions import Role
from tasks.models import ImportedIssue, Task
from tasks.services.issues import import_issues
from tests.factories import make_member, make_project
from tests.real.forge_server import REPOSITORY, TOKEN, forge_server
from workspaces.forge.base import NotThere
from workspaces.forge.connections import save_connection

pytestmark = pytest.mark.django_db


@pytest.fixture(params=["github", "gitea"])
def forge(request):
    with forge_server(request.param) as running:
        running.issue(12, "It crashes", "Always.\n\n<script>alert(1)</script>", "bug", "x" * 100)
        running.issue(13, " ", "", "bug")
        running.issue(14, "It is slow", "", "speed")
        yield running


@pytest.fixture
def project(forge, owner):
    project = make_project(key="DEMO")
    save_connection(
        actor=owner, project=project, kind=forge.kind, base_url=forge.url, repository=REPOSITORY, token=TOKEN
    )
    return project


@pytest.mark.parametrize("given", ["12", "#12", "{url}/octo/app/issues/12"])
def test_one__is_a_task_with_a_link_back(forge, project, owner, given):
    [imported] = import_issues(actor=owner, project=project, issue=given.format(url=forge.url))
    task = imported.task
    assert imported.created
    assert (task.title, task.status) == ("It crashes", "todo")
    assert task.description.startswith("Always.")
    assert f"{forge.url}/octo/app/issues/12" in task.description
    assert task.labels == ["bug", "x" * 39 + "…"]
    assert (imported.issue.number, imported.issue.repository) == (12, REPOSITORY)
    [again] = import_issues(actor=owner, project=project, issue=given.format(url=forge.url))
    assert not again.created
    assert again.task == task
    assert Task.objects.count() == ImportedIssue.objects.count() == 1


def test_label__all_open_ones_and_those_that_were_there(project, owner):
    import_issues(actor=owner, project=project, issue="12")
    found = import_issues(actor=owner, project=project, label="bug")
    assert sorted((one.issue.number, one.created) for one in found) == [(12, False), (13, True)]
    assert Task.objects.get(issue__number=13).title == "Issue #13"
    assert import_issues(actor=owner, project=project, label="nothing") == []


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"issue": "12", "label": "bug"},
        {"issue": "twelve"},
        {"issue": "https://elsewhere.invalid/octo/app/issues/12"},
        {"issue": "0"},
        {"issue": "https://[x/"},
    ],
)
def test_wrong_input__is_said(project, owner, given):
    with pytest.raises(Invalid):
        import_issues(actor=owner, project=project, **given)


def test_unknown__and_roles(project, owner):
    with pytest.raises(NotThere):
        import_issues(actor=owner, project=project, issue="99")
    with pytest.raises(Forbidden):
        import_issues(actor=make_member(project, Role.VIEWER), project=project, issue="12")
    project.forge.delete()
    with pytest.raises(Conflict):
        import_issues(actor=owner, project=project, issue="12")
    assert not Task.objects.exists()
