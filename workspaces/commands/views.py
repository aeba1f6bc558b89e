"""The commands of a checkout as people use them: start, watch, cancel; the page's script keeps it up to date."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from studio.kernel.errors import Conflict, Invalid
from studio.kernel.pages import is_fragment, number, plain, pressed, status_of
from studio.kernel.permissions import Role, at_least
from workspaces.commands import selectors
from workspaces.commands.output import Piece, folded
from workspaces.commands.services import ACTIVE_PER_WORKSPACE, DEFAULT_SECONDS, cancel_command, start_command
from workspaces.commands.settling import in_words
from workspaces.models import Command, CommandState, Workspace, WorkspaceState
from workspaces.selectors import role_in, workspace_visible_to

SHOWN = 12  # commands on the page; the rest comes when it is asked for
END_BYTES = 16 * 1024  # of an output that the page begins with
PIECE_BYTES = 64 * 1024
CHANGED = "commandschanged"  # tells the page's script to look

# The state in words, its tone and its icon.
LOOKS = {
    CommandState.STARTING: ("Starting", "accent", "spin"),
    CommandState.RUNNING: ("Running", "accent", "spin"),
    CommandState.SUCCEEDED: ("Succeeded", "green", "check"),
    CommandState.FAILED: ("Failed", "red", "alert"),
    CommandState.CANCELLED: ("Cancelled", "grey", "x"),
    CommandState.TIMED_OUT: ("Over its time", "amber", "clock"),
    CommandState.LOST: ("Lost", "amber", "alert"),
}
LIMITS = ((300, "5 minutes"), (DEFAULT_SECONDS, "15 minutes"), (3600, "1 hour"), (14400, "4 hours"))


@dataclass(frozen=True, slots=True)
class CommandView:
    """A command on the page. Without a `piece` its output is fetched when it is opened."""

    command: Command
    piece: Piece | None

    @property
    def look(self) -> tuple[str, str, str]:
        """Words, tone and icon of its state."""
        return LOOKS[CommandState(self.command.state)]

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return selectors.is_active(self.command)

    @property
    def cursor(self) -> int:
        """The number of its last change that this view may lack: what follows it is told again."""
        return selectors.command_head(str(self.command.pk)) if self.active else 0

    @property
    def limit(self) -> str:
        """Its time limit in words."""
        return in_words(self.command.time_limit)

    @property
    def text(self) -> str:
        """The end of the output, each line as it was last written."""
        return folded(self.piece.text) if self.piece else ""


def view_of(command: Command, *, output: bool) -> CommandView:
    """A command prepared for its template, with the end of its output if asked for."""
    return CommandView(command, selectors.end_of_output(command, END_BYTES) if output else None)


def panel(request: HttpRequest, workspace: Workspace) -> dict[str, Any]:
    """What the templates of the panel read: the newest commands, the running and the first one with output."""
    # The cursor is read before the rows: what happens in between is told again, never missed.
    cursor = selectors.workspace_head(str(workspace.pk))
    all_of_it = request.GET.get("all") == "1"
    rows = list(
        workspace.commands.select_related("workspace").order_by("-created_at")[: None if all_of_it else SHOWN + 1]
    )
    shown = selectors.counted(rows if all_of_it else rows[:SHOWN])
    return {
        "workspace": workspace,
        "commands": [view_of(row, output=index == 0 or selectors.is_active(row)) for index, row in enumerate(shown)],
        "more": len(rows) > len(shown),
        "cursor": cursor,
        **_form(request, workspace),
    }


def _form(request: HttpRequest, workspace: Workspace) -> dict[str, Any]:
    may = at_least(role_in(request.user, workspace.project), Role.MAINTAINER)
    return {
        "workspace": workspace,
        "may": may,
        "there": workspace.state == WorkspaceState.READY,
        "limits": LIMITS,
        "limit": DEFAULT_SECONDS,
        "most": ACTIVE_PER_WORKSPACE,
        "suggestions": selectors.suggestions(workspace.project) if may else [],
    }


@require_http_methods(["GET", "POST"])
def commands(request: HttpRequest, workspace_id: uuid.UUID) -> HttpResponse:
    """The panel on a page of its own; for the page's script the list, or after a POST the form."""
    workspace = workspace_visible_to(request.user, workspace_id)
    if request.method == "POST":
        return _start(request, workspace)
    context = {**panel(request, workspace), "project": workspace.project}
    template = "workspaces/_command_list.html" if is_fragment(request) else "workspaces/commands.html"
    return render(request, template, context)


def _start(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    text = request.POST.get("command", "")
    wrong: dict[str, Any] = {}
    try:
        limit = number_of(request.POST.get("time_limit", ""))
        start_command(workspace=workspace, text=text, actor=request.user, time_limit=limit)
    except (Invalid, Conflict) as error:
        wrong = {"message": error.message, "text": text, "status": status_of(error)}
    if not is_fragment(request):
        if wrong:
            messages.error(request, wrong["message"])
        return redirect("workspace-commands", workspace_id=workspace.pk)
    context = {**_form(request, workspace), "wrong": wrong}
    response = render(request, "workspaces/_command_form.html", context, status=wrong.get("status", 200))
    if not wrong:
        response["HX-Trigger"] = CHANGED
    return response


def number_of(value: str) -> int | None:
    """Seconds as the form has them; None for the usual limit. Raises Invalid."""
    if not value:
        return None
    if not value.isdecimal() or len(value) > 9:
        raise Invalid("The time limit is a whole number of seconds.", detail={"field": "time_limit"})
    return int(value)


@require_GET
def command(request: HttpRequest, command_id: uuid.UUID) -> HttpResponse:
    """One command with the end of its output, for the page's script."""
    [found] = selectors.counted([selectors.command_visible_to(request.user, command_id)])
    if not is_fragment(request):
        return redirect("workspace-commands", workspace_id=found.workspace_id)
    may = at_least(role_in(request.user, found.workspace.project), Role.MAINTAINER)
    there = found.workspace.state == WorkspaceState.READY
    context = {"c": view_of(found, output=True), "may": may, "there": there, "open": True}
    return render(request, "workspaces/_command.html", context)


@require_POST
def cancel(request: HttpRequest, command_id: uuid.UUID) -> HttpResponse:
    """End a command. What is refused is said in a sentence."""
    found = selectors.command_visible_to(request.user, command_id)
    return pressed(
        request,
        lambda: cancel_command(command=found, actor=request.user),
        event=CHANGED,
        back="workspace-commands",
        workspace_id=found.workspace_id,
    )


@require_GET
def output(request: HttpRequest, command_id: uuid.UUID) -> HttpResponse:
    """Everything that is kept of the output (a megabyte at most), as plain text from byte `after` on."""
    found = selectors.command_visible_to(request.user, command_id)
    return plain("".join(_pieces(found, number(request, "after") or 0)), 200)


def _pieces(found: Command, after: int) -> Iterator[str]:
    while True:
        piece = selectors.output_of(found, after, PIECE_BYTES)
        if piece.skipped and piece.start:
            yield f"\n[{piece.skipped:,} bytes in the middle were not kept]\n"
        yield folded(piece.text)
        if not piece.more or piece.next <= after:
            return
        after = piece.next
