"""The operator's buttons call the services and say how it went."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from tests.factories import make_user
from workspaces.commands.services import Ending, settle_command, start_command
from workspaces.models import CommandState, MergeAttempt, Project, ProjectMembership
from workspaces.selectors import may_register
from workspaces.services import request_merge

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client, owner):
    client.force_login(owner)
    return client


def press(client, model, action, row):
    answer = client.post(
        reverse(f"admin:workspaces_{model}_changelist"),
        {"action": action, "_selected_action": [str(row.pk)]},
        follow=True,
    )
    assert answer.status_code == 200
    return [str(message) for message in answer.context["messages"]]


@pytest.mark.parametrize("model", ["project", "workspace", "mergeattempt", "command"])
def test_lists_and_pages__open(operator, workspace, project, model):
    attempt = request_merge(workspace=workspace, how="merge", message="m")
    command = start_command(workspace=workspace, text="make test", actor=None)
    row = {"project": project, "workspace": workspace, "mergeattempt": attempt, "command": command}[model]
    assert operator.get(reverse(f"admin:workspaces_{model}_changelist")).status_code == 200
    assert operator.get(reverse(f"admin:workspaces_{model}_change", args=[row.pk])).status_code == 200
    assert operator.get(reverse(f"admin:workspaces_{model}_delete", args=[row.pk])).status_code == 403
    assert operator.get(reverse(f"admin:workspaces_{model}_add")).status_code == 403


def edit(client, project, **changed):
    values = {
        "name": project.name,
        "default_branch": project.default_branch,
        "plan_approval": "on",
        "max_review_rounds": 3,
        "max_parallel_runs": 3,
        "memberships-TOTAL_FORMS": 0,
        "memberships-INITIAL_FORMS": 0,
        **changed,
    }
    answer = client.post(reverse("admin:workspaces_project_change", args=[project.pk]), values, follow=True)
    assert answer.status_code == 200
    return [str(message) for message in answer.context["messages"]]


def test_project__is_changed_through_the_service(operator, project):
    edit(operator, project, name="Renamed", max_parallel_runs=5)
    project.refresh_from_db()
    assert (project.name, project.max_parallel_runs, project.key) == ("Renamed", 5, "DEMO")
    said = edit(operator, project, default_branch="nowhere")
    assert any("no branch" in text for text in said)
    assert not any("successfully" in text for text in said)
    project.refresh_from_db()
    assert project.default_branch == "trunk"


def test_project__members(operator, project):
    added = {
        "memberships-TOTAL_FORMS": 1,
        "memberships-0-user": make_user().pk,
        "memberships-0-role": "reviewer",
        "memberships-0-project": project.pk,
    }
    edit(operator, project, **added)
    assert ProjectMembership.objects.filter(project=project, role="reviewer").exists()


def test_project__is_removed_by_the_service(operator, project, workspace, checkout):
    assert press(operator, "project", "remove_projects", project) == ["Demo: was removed."]
    assert not Project.objects.exists()
    assert not checkout.exists()


def remove(client, workspace, **form):
    url = reverse("admin:workspaces_workspace_changelist")
    return client.post(url, {"action": "remove", "_selected_action": [str(workspace.pk)], **form}, follow=True)


def test_workspace__is_removed_by_a_job_once_it_was_confirmed_what_goes(
    operator, workspace, checkout, requested_jobs, django_capture_on_commit_callbacks
):
    (checkout / "new.py").write_text("new\n")
    (checkout / ".gitignore").write_text("*.log\n")
    (checkout / "old.log").write_text("old\n")
    page = remove(operator, workspace).content.decode()
    for words in (
        "<h1>Remove 1 checkout?</h1>", workspace.branch, "new.py", "old.log", "1 ignored file goes for good",
        "A patch and a bundle of everything that is not merged", "Its task is not finished",
    ):  # fmt: skip
        assert words in page
    workspace.refresh_from_db()
    assert (workspace.state, requested_jobs) == ("ready", [])
    (confirm,) = re.findall(rf'name="confirm-{workspace.pk}" value="(\w+)"', page)
    given = {"post": "yes", f"confirm-{workspace.pk}": confirm}
    (checkout / "later.py").write_text("not shown\n")
    (said,) = remove(operator, workspace, **given).context["messages"]
    assert "what goes with it has changed since it was shown" in str(said)
    (checkout / "later.py").unlink()
    with django_capture_on_commit_callbacks(execute=True):
        (said,) = remove(operator, workspace, **given).context["messages"]
    assert str(said) == "DEMO-1: is being removed."
    assert ("workspaces.remove", (str(workspace.pk),)) in requested_jobs


def test_workspace__that_has_gone_is_not_removed_again(operator, workspace):
    type(workspace).objects.update(state="removed")
    (said,) = remove(operator, workspace).context["messages"]
    assert str(said) == "What you chose has been removed already."


def test_merge__is_rung_for_again(operator, workspace, requested_jobs, django_capture_on_commit_callbacks):
    attempt = request_merge(workspace=workspace, how="merge", message="m")
    MergeAttempt.objects.update(attempts=4)
    with django_capture_on_commit_callbacks(execute=True):
        assert "is tried again" in press(operator, "mergeattempt", "retry", attempt)[0]
    assert requested_jobs == [("workspaces.merge", (str(attempt.pk),))]
    MergeAttempt.objects.update(state="merged")
    assert "has settled" in press(operator, "mergeattempt", "retry", attempt)[0]


def test_buttons__are_not_for_those_who_may_only_look(client, workspace):
    from django.contrib.auth.models import Permission

    looker = make_user()
    looker.is_staff = True
    looker.save()
    looker.user_permissions.set(Permission.objects.filter(codename="view_workspace"))
    client.force_login(looker)
    press(client, "workspace", "remove", workspace)
    workspace.refresh_from_db()
    assert workspace.state == "ready"


def test_front_page__counts_what_is_stuck(operator, workspace):
    workspace.state, workspace.error = "removing", "The disk is full."
    workspace.save()
    page = operator.get(reverse("admin:index")).content.decode()
    assert "Workspaces that could not be removed" in page


def test_command__is_cancelled_by_a_button_that_says_when_it_has_ended(operator, workspace):
    command = start_command(workspace=workspace, text="make test", actor=None)
    assert press(operator, "command", "cancel", command) == ["make test: is being ended."]
    command.refresh_from_db()
    assert command.cancel_note == "Cancelled by owner."
    settle_command(command.pk, Ending(CommandState.CANCELLED))
    assert press(operator, "command", "cancel", command) == ["make test: This command has ended already."]


def test_superusers__add_accounts_and_let_them_register(operator, owner):
    password = {"password1": "a long enough phrase", "password2": "a long enough phrase", "usable_password": "true"}
    answer = operator.post(reverse("admin:auth_user_add"), {"username": "ada", **password})
    form, ada = answer["Location"], type(owner).objects.get(username="ada")
    assert not may_register(ada)
    page = operator.get(form).content.decode()
    (number,) = re.findall(r'<option value="(\d+)">[^<]*\| Can add project</option>', page)
    joined = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00"}
    operator.post(form, {"username": "ada", "is_active": "on", "user_permissions": [number], **joined})
    assert may_register(type(owner).objects.get(username="ada"))
