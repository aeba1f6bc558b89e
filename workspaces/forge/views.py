"""The page of a project's forge: the connection, whether it works, and what may be imported from it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from studio.kernel.errors import NotFound, StudioError
from studio.kernel.pages import say, status_of
from studio.kernel.permissions import Role, at_least
from workspaces.forge import connections
from workspaces.forge.base import Access
from workspaces.models import ForgeConnection, ForgeKind, Project
from workspaces.selectors import NO_PROJECT, project_by, role_in

TEXTS = ("kind", "base_url", "repository", "remote", "base_branch")
LISTS = ("reviewers", "labels")


@require_http_methods(["GET", "POST"])
def forge(request: HttpRequest, key: str) -> HttpResponse:
    """The connection; a POST sets it."""
    project = _visible(request, key)
    if request.method == "GET":
        return _page(request, project)
    posted = request.POST
    fields: dict[str, Any] = {name: posted.get(name, "") for name in TEXTS}
    fields |= {name: posted.get(name, "").split(",") for name in LISTS}
    fields["draft"] = posted.get("draft") == "1"
    if posted.get("token", "").strip():
        fields["token"] = posted["token"]  # an empty field keeps the stored one, which is never shown
    try:
        connections.save_connection(actor=request.user, project=project, **fields)
    except NotFound:
        raise
    except StudioError as error:
        wrong = {"field": error.detail.get("field", ""), "message": error.message}
        return _page(request, project, values=fields, wrong=wrong, status=status_of(error))
    messages.success(request, "Saved. Check the connection to see whether it works.")
    return redirect("project-forge", key=project.key)


@require_POST
def check(request: HttpRequest, key: str) -> HttpResponse:
    """Try the connection and say what is missing."""
    project = _visible(request, key)
    try:
        access = connections.check_connection(actor=request.user, project=project)
    except NotFound:
        raise
    except StudioError as error:
        return _page(request, project, wrong={"field": "", "message": error.message}, status=status_of(error))
    return _page(request, project, access=access)


@require_POST
def remove(request: HttpRequest, key: str) -> HttpResponse:
    """Forget the connection."""
    project = _visible(request, key)
    connections.remove_connection(actor=request.user, project=project)
    messages.success(request, "The connection and its token are forgotten.")
    return redirect("project-forge", key=project.key)


def _visible(request: HttpRequest, key: str) -> Project:
    project = project_by(key)
    if role_in(request.user, project) is None:
        raise NotFound(NO_PROJECT)
    return project


def _page(
    request: HttpRequest,
    project: Project,
    *,
    values: dict[str, Any] | None = None,
    wrong: dict[str, str] | None = None,
    access: Access | None = None,
    status: int = 200,
) -> HttpResponse:
    role, connection = role_in(request.user, project), connections.connection_of(project)
    context = {
        "project": project,
        "connection": connection,
        "values": values or _values(request, project, connection),
        "kinds": ForgeKind.choices,
        "wrong": wrong or {},
        "access": access,
        "may_configure": at_least(role, Role.OWNER),
        "may_import": at_least(role, Role.REVIEWER),
    }
    return render(request, "workspaces/forge.html", context, status=status)


def _values(request: HttpRequest, project: Project, connection: ForgeConnection | None) -> dict[str, Any]:
    if connection is not None:
        return {name: getattr(connection, name) for name in (*TEXTS, *LISTS, "draft")}
    try:
        return {"kind": ForgeKind.GITHUB, "remote": "origin", **connections.suggest(project)}
    except StudioError as error:
        say(request, error)
        return {"kind": ForgeKind.GITHUB, "remote": "origin"}
