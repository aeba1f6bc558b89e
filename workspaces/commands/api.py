"""Commands over REST: parse, authorise, call one service, render."""

from __future__ import annotations

import uuid

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from studio.kernel.api_input import checked_body, checked_query
from workspaces.commands import selectors
from workspaces.commands.serializers import (
    CommandSerializer,
    CommandStartSerializer,
    OutputQuery,
    OutputSerializer,
)
from workspaces.commands.services import cancel_command, start_command
from workspaces.models import Command
from workspaces.selectors import workspace_visible_to

WORKSPACE = OpenApiParameter("workspace_id", uuid.UUID, OpenApiParameter.PATH, description="The workspace's id.")
ID = OpenApiParameter("command_id", uuid.UUID, OpenApiParameter.PATH, description="The command's id.")


class CommandList(GenericAPIView[Command]):
    """The commands of a workspace."""

    serializer_class = CommandSerializer

    @extend_schema(operation_id="commands_list", parameters=[WORKSPACE], responses=CommandSerializer(many=True))
    def get(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """List the commands of a workspace, the newest first."""
        workspace = workspace_visible_to(request.user, workspace_id)
        rows = selectors.commands_visible_to(request.user).filter(workspace=workspace).order_by("-created_at", "pk")
        page = selectors.counted(self.paginate_queryset(rows) or [])
        return self.get_paginated_response(CommandSerializer(page, many=True).data)

    @extend_schema(
        operation_id="commands_create",
        parameters=[WORKSPACE],
        request=CommandStartSerializer,
        responses={201: CommandSerializer},
    )
    def post(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Start a shell command in the background of a workspace. Needs the role maintainer.

        It goes on when the studio restarts, and what it leaves in the background ends with it. Answers 409 when the checkout
        is gone or too many commands run.
        """
        workspace, fields = (
            workspace_visible_to(request.user, workspace_id),
            checked_body(CommandStartSerializer, request),
        )
        command = start_command(workspace=workspace, text=fields.pop("command"), actor=request.user, **fields)
        location = {"Location": request.build_absolute_uri(f"/api/v1/commands/{command.pk}")}
        return Response(CommandSerializer(command).data, status=201, headers=location)


class CommandDetail(APIView):
    """One command."""

    @extend_schema(operation_id="commands_retrieve", parameters=[ID], responses=CommandSerializer)
    def get(self, request: Request, command_id: uuid.UUID) -> Response:
        """Read how a command stands."""
        [command] = selectors.counted([selectors.command_visible_to(request.user, command_id)])
        return Response(CommandSerializer(command).data)


class CommandOutput(APIView):
    """What a command wrote."""

    @extend_schema(operation_id="commands_output", parameters=[ID, OutputQuery], responses=OutputSerializer)
    def get(self, request: Request, command_id: uuid.UUID) -> Response:
        """Read what a command wrote, standard output and errors together, by a cursor.

        Of a long output the first 256 kB and the last 768 kB are kept.
        """
        command, query = selectors.command_visible_to(request.user, command_id), checked_query(OutputQuery, request)
        piece = selectors.output_of(command, query["after"], query["limit"])
        said = {name: getattr(piece, name) for name in ("start", "next", "total", "skipped", "text", "more")}
        return Response(OutputSerializer({**said, "state": command.state}).data)


class CommandCancel(APIView):
    """Ending a command."""

    @extend_schema(operation_id="commands_cancel", parameters=[ID], request=None, responses=CommandSerializer)
    def post(self, request: Request, command_id: uuid.UUID) -> Response:
        """End a command: it is asked to end, and killed after five seconds. Needs the role maintainer.

        Answers 409 when it has ended already.
        """
        command = selectors.command_visible_to(request.user, command_id)
        return Response(CommandSerializer(cancel_command(command=command, actor=request.user)).data)


urlpatterns: list[URLPattern] = [
    path("workspaces/<uuid:workspace_id>/commands", CommandList.as_view(), name="api-commands"),
    path("commands/<uuid:command_id>", CommandDetail.as_view(), name="api-command"),
    path("commands/<uuid:command_id>/output", CommandOutput.as_view(), name="api-command-output"),
    path("commands/<uuid:command_id>/cancel", CommandCancel.as_view(), name="api-command-cancel"),
]
