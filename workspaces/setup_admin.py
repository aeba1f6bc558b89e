"""The operator's view of setups and dev servers: how they stand and why. Values are changed on the project's page, which checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from studio.admin_rows import for_each
from studio.live_admin import LiveListMixin
from workspaces.admin_rows import ReadOnly
from workspaces.models import DevServer, ProjectSetup, WorkspaceSetup
from workspaces.setup.servers import stop_server
from workspaces.setup.services import run_again

if TYPE_CHECKING:
    ProjectSetupBase = admin.ModelAdmin[ProjectSetup]
    WorkspaceSetupBase = admin.ModelAdmin[WorkspaceSetup]
    DevServerBase = admin.ModelAdmin[DevServer]
else:  # these classes take no parameters while they run
    ProjectSetupBase = WorkspaceSetupBase = DevServerBase = admin.ModelAdmin


def _topics(rows: list[Any]) -> set[str]:
    return {f"workspace:{row.workspace_id}" for row in rows}


@admin.register(ProjectSetup)
class ProjectSetupAdmin(ReadOnly, ProjectSetupBase):
    """What projects set up their checkouts with."""

    list_display = ["project", "script", "server", "at_review", "updated_at"]
    list_select_related = ["project"]
    search_fields = ["project__key", "project__name"]


@admin.register(WorkspaceSetup)
class WorkspaceSetupAdmin(ReadOnly, LiveListMixin, WorkspaceSetupBase):
    """How far the setup of each checkout is."""

    list_display = ["workspace", "port", "placed_at", "command", "error", "cleanup_note"]
    list_filter = ["workspace__project"]
    list_select_related = ["workspace__project", "command"]
    search_fields = ["workspace__label", "workspace__path"]
    actions = ["run"]

    def live_topics(self, rows: list[WorkspaceSetup]) -> set[str]:
        """The checkouts that are shown."""
        return _topics(rows)

    @admin.action(description="Run the setup again", permissions=["operate"])
    def run(self, request: HttpRequest, queryset: QuerySet[WorkspaceSetup]) -> None:
        """Ask for setups once more."""
        rows = queryset.select_related("workspace__project")
        for_each(self, request, rows, lambda row: run_again(workspace=row.workspace, actor=request.user), "runs again")


@admin.register(DevServer)
class DevServerAdmin(ReadOnly, LiveListMixin, DevServerBase):
    """Dev servers, with why one is in its state."""

    list_display = ["workspace", "state", "port", "asked_by", "note", "since", "checked_at"]
    list_filter = ["state", "workspace__project"]
    list_select_related = ["workspace__project"]
    search_fields = ["workspace__label", "asked_by"]
    actions = ["stop"]

    def live_topics(self, rows: list[DevServer]) -> set[str]:
        """The checkouts that are shown."""
        return _topics(rows)

    @admin.action(description="Stop the dev server", permissions=["operate"])
    def stop(self, request: HttpRequest, queryset: QuerySet[DevServer]) -> None:
        """Stop servers that run."""
        rows = queryset.select_related("workspace__project")
        for_each(
            self,
            request,
            rows,
            lambda row: stop_server(workspace=row.workspace, actor=request.user),
            "is being stopped",
        )
