"""Setups and dev servers over REST: parse, authorise, call one service, render."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Any

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from studio.kernel.api_input import checked_body
from studio.kernel.permissions import Role
from workspaces.models import DevServer, Project, Workspace
from workspaces.selectors import project_by, require_role, workspace_visible_to
from workspaces.setup import servers
from workspaces.setup.effective import effective_for, stored_values
from workspaces.setup.selectors import read_row, standing_of
from workspaces.setup.serializers import (
    DevServerSerializer,
    ProjectSetupSerializer,
    SetupEditSerializer,
    WorkspaceSetupSerializer,
)
from workspaces.setup.services import run_again
from workspaces.setup.settings import update_setup

REF = OpenApiParameter("ref", str, OpenApiParameter.PATH, description="The project's key (DEMO) or id.")
ID = OpenApiParameter("workspace_id", uuid.UUID, OpenApiParameter.PATH, description="The workspace's id.")


class ProjectSetupView(APIView):
    """What a project's checkouts are set up with."""

    extra_errors = (502,)

    @extend_schema(operation_id="projects_setup", parameters=[REF], responses=ProjectSetupSerializer)
    def get(self, request: Request, ref: str) -> Response:
        """Read a project's setup. Needs the role owner."""
        project = project_by(ref)
        require_role(request.user, project, Role.OWNER)
        return Response(ProjectSetupSerializer(shown(project)).data)

    @extend_schema(
        operation_id="projects_setup_update",
        parameters=[REF],
        request=SetupEditSerializer,
        responses=ProjectSetupSerializer,
    )
    def patch(self, request: Request, ref: str) -> Response:
        """Change a project's setup. Needs the role owner. Checkouts that are set up already stay as they are."""
        project = project_by(ref)
        update_setup(actor=request.user, project=project, **checked_body(SetupEditSerializer, request))
        return Response(ProjectSetupSerializer(shown(project)).data)


def shown(project: Project) -> dict[str, Any]:
    """A project's setup as the serializer takes it."""
    found = effective_for(project)
    return {
        "stored": stored_values(project),
        "effective": asdict(found.setup),
        "sources": found.sources,
        "trusted": found.trusted,
        "file_found": found.file.there,
        "file_error": found.file.error,
        "commit": found.commit,
    }


class WorkspaceSetupView(APIView):
    """How far a checkout's setup is."""

    @extend_schema(operation_id="workspaces_setup", parameters=[ID], responses=WorkspaceSetupSerializer)
    def get(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Read how a checkout's setup stands and what it has put there."""
        return Response(WorkspaceSetupSerializer(standing(workspace_visible_to(request.user, workspace_id))).data)

    @extend_schema(
        operation_id="workspaces_setup_run", parameters=[ID], request=None, responses={202: WorkspaceSetupSerializer}
    )
    def post(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Run a checkout's setup once more. Needs the role maintainer. Answers 409 while it runs."""
        workspace = workspace_visible_to(request.user, workspace_id)
        run_again(workspace=workspace, actor=request.user)
        return Response(WorkspaceSetupSerializer(standing(workspace)).data, status=202)


def standing(workspace: Workspace) -> dict[str, Any]:
    """A checkout's setup as the serializer takes it."""
    row = read_row(workspace.pk)
    found = standing_of(row)
    return {
        "state": found.state,
        "sentence": found.sentence,
        "log": found.log,
        "command": found.command.pk if found.command else None,
        "port": row.port if row else None,
        "placed": row.placed if row else [],
        "notes": row.notes if row else [],
        "cleanup": row.cleanup_id if row else None,
        "cleanup_note": row.cleanup_note if row else "",
    }


class DevServerView(APIView):
    """The dev server of a checkout."""

    @extend_schema(operation_id="workspaces_server", parameters=[ID], responses=DevServerSerializer)
    def get(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Read how a checkout's dev server stands; “stopped” when none was ever started."""
        workspace = workspace_visible_to(request.user, workspace_id)
        row = DevServer.objects.filter(workspace=workspace).first() or DevServer(workspace=workspace)
        return Response(DevServerSerializer(row).data)


class DevServerAct(APIView):
    """Starting, stopping and restarting a dev server."""

    extra_errors: tuple[int, ...] = (502,)
    act = staticmethod(servers.start_server)

    def post(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Do it, and show how the server stands."""
        workspace = workspace_visible_to(request.user, workspace_id)
        return Response(DevServerSerializer(self.act(workspace=workspace, actor=request.user)).data, status=202)


class DevServerStart(DevServerAct):
    """Starting."""

    extra_errors = (400, 502)  # a project without a dev server

    @extend_schema(
        operation_id="workspaces_server_start", parameters=[ID], request=None, responses={202: DevServerSerializer}
    )
    def post(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Start a checkout's dev server; one that runs goes on. Needs the role maintainer.

        Answers 409 when too many run or the checkout is gone.
        """
        return super().post(request, workspace_id)


class DevServerStop(DevServerAct):
    """Stopping."""

    act = staticmethod(servers.stop_server)

    @extend_schema(
        operation_id="workspaces_server_stop", parameters=[ID], request=None, responses={202: DevServerSerializer}
    )
    def post(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Stop a checkout's dev server. Needs the role maintainer."""
        return super().post(request, workspace_id)


class DevServerRestart(DevServerAct):
    """Restarting."""

    extra_errors = (400, 502)  # a project without a dev server

    act = staticmethod(servers.restart_server)

    @extend_schema(
        operation_id="workspaces_server_restart", parameters=[ID], request=None, responses={202: DevServerSerializer}
    )
    def post(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Stop a checkout's dev server and start it with the settings as they are now. Needs the role maintainer."""
        return super().post(request, workspace_id)


urlpatterns: list[URLPattern] = [
    path("projects/<str:ref>/setup", ProjectSetupView.as_view(), name="api-project-setup"),
    path("workspaces/<uuid:workspace_id>/setup", WorkspaceSetupView.as_view(), name="api-workspace-setup"),
    path("workspaces/<uuid:workspace_id>/server", DevServerView.as_view(), name="api-server"),
    path("workspaces/<uuid:workspace_id>/server/start", DevServerStart.as_view(), name="api-server-start"),
    path("workspaces/<uuid:workspace_id>/server/stop", DevServerStop.as_view(), name="api-server-stop"),
    path("workspaces/<uuid:workspace_id>/server/restart", DevServerRestart.as_view(), name="api-server-restart"),
]
