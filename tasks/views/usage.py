"""The page of what a project's agents used."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from sessions_app.budget_use import use_in_project
from studio.kernel.errors import NotFound
from studio.kernel.permissions import Role, at_least
from tasks.usage import DAYS, usage_page
from workspaces.selectors import NO_PROJECT, project_by, role_in


@require_GET
def usage(request: HttpRequest, key: str) -> HttpResponse:
    """Tokens and costs today, in the last days and in all; by day, by model, by task."""
    project = project_by(key)
    role = role_in(request.user, project)
    if role is None:
        raise NotFound(NO_PROJECT)
    context = {
        "project": project,
        "page": usage_page(project),
        "span": DAYS,
        "used_up": sum(use.budget.enabled and use.reached for use in use_in_project(project)),
        "may_configure": at_least(role, Role.OWNER),
    }
    return render(request, "tasks/usage.html", context)
