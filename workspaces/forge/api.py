"""A project's forge over REST: parse, authorise, call one service, render."""

from __future__ import annotations

from dataclasses import asdict

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from studio.kernel.api_input import checked_body
from studio.kernel.errors import NotFound
from studio.kernel.permissions import Role
from workspaces.forge.connections import check_connection, connection_of, remove_connection, save_connection
from workspaces.forge.serializers import AccessSerializer, ConnectionEditSerializer, ConnectionSerializer
from workspaces.selectors import project_by, require_role

REF = OpenApiParameter("ref", str, OpenApiParameter.PATH, description="The project's key (DEMO) or id.")


class ProjectForge(APIView):
    """A project's connection to its forge."""

    extra_errors = (502,)

    @extend_schema(operation_id="projects_forge", parameters=[REF], responses=ConnectionSerializer)
    def get(self, request: Request, ref: str) -> Response:
        """Read the connection; the token is never shown. 404 when there is none."""
        project = project_by(ref)
        require_role(request.user, project, Role.VIEWER)
        found = connection_of(project)
        if found is None:
            raise NotFound(f"{project.name} is not connected to a forge.", code="no_forge")
        return Response(ConnectionSerializer(found).data)

    @extend_schema(
        operation_id="projects_forge_set",
        parameters=[REF],
        request=ConnectionEditSerializer,
        responses=ConnectionSerializer,
    )
    def put(self, request: Request, ref: str) -> Response:
        """Connect the project, or change the fields that are given. Needs the role owner.

        The stored token stays with its address: another address needs it anew.
        """
        fields = checked_body(ConnectionEditSerializer, request)
        row = save_connection(actor=request.user, project=project_by(ref), **fields)
        return Response(ConnectionSerializer(row).data)

    @extend_schema(operation_id="projects_forge_remove", parameters=[REF], responses={204: None})
    def delete(self, request: Request, ref: str) -> Response:
        """Forget the connection with its token. Needs the role owner."""
        remove_connection(actor=request.user, project=project_by(ref))
        return Response(status=204)


class ProjectForgeCheck(APIView):
    """Whether the connection works."""

    extra_errors = (409, 502)

    @extend_schema(operation_id="projects_forge_check", parameters=[REF], request=None, responses=AccessSerializer)
    def post(self, request: Request, ref: str) -> Response:
        """Ask the forge, and say what is missing. Needs the role owner."""
        found = check_connection(actor=request.user, project=project_by(ref))
        return Response(AccessSerializer(asdict(found)).data)


urlpatterns: list[URLPattern] = [
    path("projects/<str:ref>/forge", ProjectForge.as_view(), name="api-project-forge"),
    path("projects/<str:ref>/forge/check", ProjectForgeCheck.as_view(), name="api-project-forge-check"),
]
