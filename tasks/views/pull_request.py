"""What people do with a task's pull request from its page, and importing issues from the forge's page."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from studio.kernel.errors import NotFound, StudioError
from studio.kernel.markdown import render as markdown
from studio.kernel.pages import say
from studio.kernel.permissions import Role, at_least
from tasks.models import ImportedIssue, Task
from tasks.services import pull_requests
from tasks.services.issues import import_issues
from tasks.services.proposal import made_body, made_title
from workspaces.forge.connections import connection_of
from workspaces.models import PullRequest
from workspaces.selectors import project_by, role_in

KEYS_SHOWN = 5


@require_POST
def act(request: HttpRequest, ref: str, action: str) -> HttpResponse:
    """Refresh, send comments or a check's log to an agent, or write a comment; then the task's page says how it went."""
    given: dict[str, Any] = {"actor": request.user, "task_ref": ref}
    try:
        if action == "refresh":
            pull_requests.refresh(**given)
            said = "It is read again now."
        elif action == "answer-comments":
            pull_requests.answer_comments(**given)
            said = "Sent to an agent, with the comments as findings."
        elif action == "fix-check":
            pull_requests.fix_check(**given, check_id=request.POST.get("check", ""))
            said = "Sent to an agent, with the end of the log."
        elif action == "comment":
            pull_requests.comment(**given, body=request.POST.get("body", ""))
            said = "Your comment stands on the forge."
        else:
            raise NotFound("There is no such action.")
    except NotFound:
        raise
    except StudioError as error:
        say(request, error)
    else:
        messages.success(request, said)
    return redirect(f"{reverse('task', kwargs={'ref': ref})}?tab=pull_request")


@require_POST
def import_from_forge(request: HttpRequest, key: str) -> HttpResponse:
    """Make tasks of issues; the board shows them, or the forge's page says why not."""
    project = project_by(key)
    if role_in(request.user, project) is None:
        raise NotFound("There is no such project.")
    given = {name: request.POST.get(name, "") for name in ("issue", "label")}
    try:
        found = import_issues(actor=request.user, project=project, **given)
    except StudioError as error:
        say(request, error)
        return redirect("project-forge", key=project.key)
    new = [one.task.key for one in found if one.created]
    listed = ", ".join(new[:KEYS_SHOWN]) + (" …" if len(new) > KEYS_SHOWN else "")
    if not found:
        messages.info(request, "The forge has no open issue with this label.")
    elif new:
        messages.success(request, f"{len(new)} imported: {listed}. {len(found) - len(new)} were here already.")
    else:
        messages.info(request, "They were all imported before.")
    return redirect("board", key=project.key)


def context_of(task: Task) -> dict[str, Any]:
    """What the task's page shows of forge, pull request and issue."""
    connection = connection_of(task.project)
    shown: dict[str, Any] = {
        "forge": connection,
        "pull_request": pull_requests.pull_request_of(task),
        "issue": ImportedIssue.objects.filter(task=task).first(),
    }
    if connection is not None and task.status == "review" and task.workspace is not None:
        shown["proposal"] = {"title": made_title(task), "body": made_body(task), "draft": connection.draft}
    return shown


def tab_of(row: PullRequest | None, role: str | None) -> dict[str, Any]:
    """What the tab shows besides: the comments with their markdown made safe, and what the person may do."""
    comments = list(row.comments.all()) if row is not None else []
    return {
        "comments": [(comment, markdown(comment.body)) for comment in comments],
        "new_comments": sum(1 for comment in comments if comment.finding is None),
        "may_send": at_least(role, Role.REVIEWER),
        "may_comment": at_least(role, Role.MAINTAINER),
    }
