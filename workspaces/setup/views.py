"""The page on which owners say what checkouts are set up with, and the strip that shows setup and dev server of one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from studio.kernel.errors import Invalid, StudioError, Upstream
from studio.kernel.pages import is_fragment, pressed, status_of
from studio.kernel.permissions import Role, at_least
from workspaces.commands.selectors import workspace_head
from workspaces.models import DevServer, Project, ServerState, Workspace, WorkspaceState
from workspaces.selectors import project_by, require_role, role_in, workspace_visible_to
from workspaces.setup import servers
from workspaces.setup.config import NAMES, PLACEHOLDERS
from workspaces.setup.effective import FILE, Effective, effective_for, setup_of, stored_values
from workspaces.setup.repository import FILE as FILE_NAME
from workspaces.setup.selectors import DONE, FAILED, NONE, PENDING, RUNNING, Standing, read_row, standing_of
from workspaces.setup.services import run_again
from workspaces.setup.settings import update_setup

LISTS = ("copy", "link")
NUMBERS = ("script_seconds", "cleanup_seconds", "ready_seconds")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
CHANGED = "setupchanged"  # tells the strip's script to look

# The state in words, its tone and its icon.
SETUP_LOOKS = {
    PENDING: ("Not set up yet", "grey", "clock"),
    RUNNING: ("Setting up", "accent", "spin"),
    DONE: ("Set up", "green", "check"),
    FAILED: ("Setup failed", "red", "alert"),
}
SERVER_LOOKS = {
    ServerState.REQUESTED: ("Starting", "accent", "spin"),
    ServerState.STARTING: ("Starting", "accent", "spin"),
    ServerState.HEALTHY: ("Running", "green", "check"),
    ServerState.UNHEALTHY: ("Does not answer", "amber", "alert"),
    ServerState.STOPPING: ("Stopping", "grey", "spin"),
    ServerState.STOPPED: ("Stopped", "grey", "pause"),
    ServerState.FAILED: ("Failed", "red", "alert"),
}


@require_http_methods(["GET", "POST"])
def setup(request: HttpRequest, key: str) -> HttpResponse:
    """What an owner may set. What is wrong with a value is said next to it."""
    project = project_by(key)
    require_role(request.user, project, Role.OWNER)
    wrong: dict[str, Any] = {}
    posted = form_of(stored_values(project))
    if request.method == "POST":
        posted = {name: request.POST.get(name, "") for name in NAMES}
        try:
            update_setup(actor=request.user, project=project, **_values(posted))
        except StudioError as error:
            wrong = {"field": error.detail.get("field", ""), "message": error.message, "status": status_of(error)}
        else:
            messages.success(request, "Saved. It holds for checkouts that are made from now on.")
            return redirect("project-setup", key=project.key)
    context = {"project": project, "values": posted, "wrong": wrong, "placeholders": PLACEHOLDERS, **_file(project)}
    return render(request, "workspaces/setup.html", context, status=wrong.get("status", 200))


def _file(project: Project) -> dict[str, Any]:
    """What the page says of the repository's own file, and which values come from it."""
    try:
        found: Effective = effective_for(project)
    except Upstream as error:
        return {"file_name": FILE_NAME, "trouble": error.message}
    values = form_of({name: getattr(found.setup, name) for name in NAMES})
    # No dict: a template would take its method `copy` for the setting.
    own = SimpleNamespace(**{name: values[name] or "(nothing)" for name in NAMES if found.sources[name] == FILE})
    empty = found.setup.is_empty and not found.file.there
    return {"file_name": FILE_NAME, "file": found.file, "own": own, "commit": found.commit, "empty": empty}


def form_of(values: dict[str, Any]) -> dict[str, str]:
    """The settings as the form has them: lists and variables line by line."""
    shown = {name: str(value) for name, value in values.items()}
    shown |= {name: "\n".join(values[name]) for name in LISTS}
    shown["environment"] = "\n".join(f"{name}={value}" for name, value in values["environment"].items())
    shown["at_review"] = "1" if values["at_review"] else ""
    return shown


def _values(posted: dict[str, str]) -> dict[str, Any]:
    """The form's texts as values. Raises Invalid with the field."""
    values: dict[str, Any] = dict(posted)
    values |= {name: posted[name].splitlines() for name in LISTS}
    values["environment"] = _variables(posted["environment"])
    values["at_review"] = posted["at_review"] == "1"
    values["health_path"] = posted["health_path"].strip() or "/"
    for name in NUMBERS:
        text = posted[name].strip()
        if not text.isdecimal() or len(text) > 9:
            raise Invalid("Give the seconds as a whole number.", detail={"field": name})
        values[name] = int(text)
    return values


def _variables(text: str) -> dict[str, str]:
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, sign, value = line.strip().partition("=")
        if name and not sign:
            raise Invalid(f"Line {number} is no variable: write NAME=value.", detail={"field": "environment"})
        if name:
            found[name.strip()] = value
    return found


@dataclass(frozen=True, slots=True)
class Strip:
    """What the strip of a checkout shows."""

    workspace: Workspace
    cursor: int
    setup: Standing
    notes: list[str]
    server: DevServer | None
    can_serve: bool
    link: str
    may: bool
    there: bool

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return self.setup.state == NONE and not self.can_serve and self.server is None

    @property
    def setup_look(self) -> tuple[str, str, str] | None:
        """Words, tone and icon of the setup."""
        return SETUP_LOOKS.get(self.setup.state)

    @property
    def server_look(self) -> tuple[str, str, str]:
        """Words, tone and icon of the server."""
        return SERVER_LOOKS[ServerState(self.server.state if self.server else ServerState.STOPPED)]

    @property
    def runs(self) -> bool:
        """Whether a server runs or is on its way."""
        return self.server is not None and self.server.state in servers.LIVE


def strip_of(request: HttpRequest, workspace: Workspace) -> Strip:
    """The strip of a checkout, for the task page and the page's script."""
    # The cursor is read before the rows: what happens in between is told again, never missed.
    cursor = workspace_head(str(workspace.pk))
    row = read_row(workspace.pk)
    server = DevServer.objects.select_related("command").filter(workspace=workspace).first()
    there = workspace.state == WorkspaceState.READY
    try:
        can_serve = there and bool(setup_of(workspace).server)
    except StudioError:
        can_serve = False  # the setup says what is wrong
    return Strip(
        workspace=workspace,
        cursor=cursor,
        setup=standing_of(row),
        notes=row.notes if row else [],
        server=server,
        can_serve=can_serve,
        link=link_to(request, server) if server and there else "",
        may=at_least(role_in(request.user, workspace.project), Role.MAINTAINER),
        there=there,
    )


def link_to(request: HttpRequest, server: DevServer) -> str:
    """The address of a server that answers, for a browser on the studio's own machine; empty for any other (ADR 12).

    Cookies do not know ports: under the studio's own host name a browser would hand the studio's session to whatever an agent
    serves. So the link names the machine differently than the studio's own address does.
    """
    host = request.get_host().rsplit(":", 1)[0] if not request.get_host().endswith("]") else request.get_host()
    if host not in LOOPBACK or server.state != ServerState.HEALTHY or server.port is None:
        return ""
    if server.address == "::1":
        name = "localhost" if host == "[::1]" else "[::1]"
    else:
        name = "127.0.0.1" if host == "localhost" else "localhost"
    return f"http://{name}:{server.port}/"


@require_GET
def strip(request: HttpRequest, workspace_id: uuid.UUID) -> HttpResponse:
    """The strip alone, for the page's script; for everybody else the page of the checkout's commands."""
    workspace = workspace_visible_to(request.user, workspace_id)
    if not is_fragment(request):
        return redirect("workspace-commands", workspace_id=workspace.pk)
    return render(request, "workspaces/_strip.html", {"strip": strip_of(request, workspace)})


ACTS: dict[str, Callable[..., object]] = {
    "setup": run_again,
    "start": servers.start_server,
    "stop": servers.stop_server,
    "restart": servers.restart_server,
}


@require_POST
def act(request: HttpRequest, workspace_id: uuid.UUID, what: str) -> HttpResponse:
    """Run the setup again, or start, stop or restart the server. What is refused is said in a sentence."""
    workspace = workspace_visible_to(request.user, workspace_id)
    return pressed(
        request,
        lambda: ACTS[what](workspace=workspace, actor=request.user),
        event=CHANGED,
        back="workspace-commands",
        workspace_id=workspace.pk,
    )
