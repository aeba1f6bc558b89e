"""The page of a project's permissions: which rules hold, in which order, and how long an agent waits for an answer."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from agents.models import AgentProfile
from agents.roles import PERMISSION_NAMES
from sessions_app.models import AskTimeout, PermissionRule, RuleAction
from sessions_app.services import ask_timeouts, rules
from sessions_app.services.rules import NewRule
from studio.kernel.errors import Invalid, NotFound, StudioError
from studio.kernel.pages import status_of
from studio.kernel.permissions import Role, at_least
from workspaces.models import Project
from workspaces.selectors import NO_PROJECT, project_by, role_in

ACTIONS = {RuleAction.ALLOW: "Allow", RuleAction.ASK: "Ask a person", RuleAction.DENY: "Deny"}
TIMEOUTS = {
    AskTimeout.REMIND: "Remind, and wait on",
    AskTimeout.REJECT: "Refuse, and the agent goes on without",
    AskTimeout.STOP: "End the agent's turn",
}
# What the pattern of a rule is held against, by permission.
AGAINST = {
    "bash": "the command, such as npm test",
    "edit": "the file's path from the checkout's root",
    "read": "the file's path from the checkout's root",
    "external_directory": "the folder's path, such as /srv/data/*",
    "webfetch": "the address",
    "websearch": "the words that are searched for",
    "task": "the sub-agent's name",
    "question": "nothing: write *",
    "doom_loop": "the tool's name",
    "*": "whatever the tool's own is held against",
}
FIELDS = ("permission", "pattern", "action", "profile")


@require_http_methods(["GET", "POST"])
def permissions(request: HttpRequest, key: str) -> HttpResponse:
    """The rules that hold in the project, and the time-out; a POST adds a rule."""
    project = _visible(request, key)
    if request.method == "GET":
        return _page(request, project)
    posted = {name: request.POST.get(name, "").strip() for name in FIELDS}
    try:
        new = NewRule(posted["permission"], posted["pattern"], posted["action"], _profile(posted["profile"]))
        rules.add_rule(actor=request.user, project=project, new=new)
    except NotFound:
        raise
    except StudioError as error:
        return _page(request, project, wrong={"at": "new", "message": error.message}, posted=posted, error=error)
    messages.success(request, "The rule holds from now on.")
    return redirect("project-permissions", key=project.key)


@require_POST
def rule(request: HttpRequest, key: str, rule_id: int) -> HttpResponse:
    """Move a rule up or down, or remove it."""
    project, what = _visible(request, key), request.POST.get("do", "")
    try:
        if what == "remove":
            rules.remove_rule(actor=request.user, project=project, rule_id=rule_id)
        elif what in ("up", "down"):
            rules.move_rule(actor=request.user, project=project, rule_id=rule_id, up=what == "up")
        else:
            raise Invalid("Move the rule up or down, or remove it.", detail={"field": "do"})
    except NotFound:
        raise
    except StudioError as error:
        return _page(request, project, wrong={"at": "rules", "message": error.message}, error=error)
    return redirect("project-permissions", key=project.key)


@require_POST
def time_out(request: HttpRequest, key: str) -> HttpResponse:
    """Say how long asks wait."""
    project, minutes = _visible(request, key), request.POST.get("timeout_minutes", "").strip()
    try:
        if not minutes.isdecimal() or len(minutes) > 9:
            raise Invalid("Give the minutes as a whole number.", detail={"field": "timeout_minutes"})
        ask_timeouts.set_policy(
            actor=request.user,
            project=project,
            timeout_minutes=int(minutes),
            action=request.POST.get("action", ""),
        )
    except NotFound:
        raise
    except StudioError as error:
        return _page(request, project, wrong={"at": "time-out", "message": error.message}, error=error)
    messages.success(request, "Saved.")
    return redirect("project-permissions", key=project.key)


def _visible(request: HttpRequest, key: str) -> Project:
    project = project_by(key)
    if role_in(request.user, project) is None:
        raise NotFound(NO_PROJECT)
    return project


def _profile(given: str) -> AgentProfile | None:
    """The profile with this id; None for every profile."""
    if not given:
        return None
    found = next((one for one in AgentProfile.objects.all() if str(one.pk) == given), None)
    if found is None:
        raise Invalid("There is no such agent profile.", detail={"field": "profile"})
    return found


def _page(
    request: HttpRequest,
    project: Project,
    *,
    wrong: dict[str, str] | None = None,
    posted: dict[str, str] | None = None,
    error: StudioError | None = None,
) -> HttpResponse:
    everywhere = PermissionRule.objects.filter(project__isnull=True).select_related("profile")
    context: dict[str, Any] = {
        "project": project,
        "rules": list(rules.rules_of(project)),
        "everywhere": list(everywhere),
        "policy": ask_timeouts.policy_of(project),
        "may_configure": at_least(role_in(request.user, project), Role.OWNER),
        "profiles": list(AgentProfile.objects.order_by("name")),
        "permissions": [(name, PERMISSION_NAMES.get(name, "everything"), words) for name, words in AGAINST.items()],
        "actions": [(value.value, words) for value, words in ACTIONS.items()],
        "timeouts": [(value.value, words) for value, words in TIMEOUTS.items()],
        "wrong": wrong or {},
        "posted": posted or {"permission": "bash", "action": RuleAction.ASK.value},
    }
    return render(request, "sessions/permissions.html", context, status=status_of(error) if error else 200)
