"""Projects and workspaces over REST: parse, authorise, call one service, render."""

from __future__ import annotations

import uuid

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from studio.kernel.api_input import checked_body, checked_query
from studio.kernel.errors import NotFound
from studio.kernel.openapi import ErrorSerializer
from workspaces.models import Project
from workspaces.selectors import (
    NO_PROJECT,
    REGISTER,
    project_by,
    projects_visible_to,
    role_in,
    roles_in,
    workspace_visible_to,
)
from workspaces.serializers import (
    DiffQuery,
    DiffSerializer,
    ProjectCreateSerializer,
    ProjectEditSerializer,
    ProjectSerializer,
    RegisteredProjectSerializer,
    WorkspaceSerializer,
    WorkspaceStatusSerializer,
)
from workspaces.services import checkout_note, diff_for, register_project, remove_project, status_for, update_project

__all__ = ["DiffSerializer", "urlpatterns"]

REF = OpenApiParameter("ref", str, OpenApiParameter.PATH, description="The project's key (DEMO) or id.")
ID = OpenApiParameter("workspace_id", uuid.UUID, OpenApiParameter.PATH, description="The workspace's id.")


class ProjectList(GenericAPIView[Project]):
    """The projects that the account may see."""

    serializer_class = ProjectSerializer

    @extend_schema(operation_id="projects_list", responses=ProjectSerializer(many=True))
    def get(self, request: Request) -> Response:
        """List projects by name."""
        page = self.paginate_queryset(projects_visible_to(request.user).order_by("name", "key")) or []
        roles = roles_in(request.user, page)
        for project in page:
            project.role = roles[project.pk]  # type: ignore[attr-defined]  # shown by the serializer
        return self.get_paginated_response(ProjectSerializer(page, many=True).data)

    @extend_schema(
        operation_id="projects_create",
        request=ProjectCreateSerializer,
        responses={
            201: RegisteredProjectSerializer,
            403: OpenApiResponse(ErrorSerializer, description=f"The account lacks the permission `{REGISTER}`."),
        },
    )
    def post(self, request: Request) -> Response:
        """Register a repository; the account becomes its owner. Its checkout may be dirty: it is not touched.

        Needs the permission `workspaces.add_project`, which superusers have and give in the admin.
        """
        project = register_project(actor=request.user, **checked_body(ProjectCreateSerializer, request))
        location = {"Location": request.build_absolute_uri(f"/api/v1/projects/{project.key}")}
        return Response({**shown(request, project), "note": checkout_note(project)}, status=201, headers=location)


class ProjectDetail(APIView):
    """One project."""

    extra_errors = (502,)

    @extend_schema(operation_id="projects_retrieve", parameters=[REF], responses=ProjectSerializer)
    def get(self, request: Request, ref: str) -> Response:
        """Read a project."""
        return Response(shown(request, project_by(ref)))

    @extend_schema(
        operation_id="projects_update",
        parameters=[REF],
        request=ProjectEditSerializer,
        responses=ProjectSerializer,
    )
    def patch(self, request: Request, ref: str) -> Response:
        """Change a project's settings. Needs the role owner."""
        fields = checked_body(ProjectEditSerializer, request)
        return Response(shown(request, update_project(actor=request.user, project=project_by(ref), **fields)))

    @extend_schema(operation_id="projects_delete", parameters=[REF], responses={204: None})
    def delete(self, request: Request, ref: str) -> Response:
        """Take a project out of the studio, with its tasks. The repository stays; unmerged work is kept as patches.

        Needs the role owner. Answers 409 while agents work in it.
        """
        remove_project(actor=request.user, project=project_by(ref))
        return Response(status=204)


def shown(request: Request, project: Project) -> dict[str, object]:
    """The project with the account's role in it. Raises NotFound when the account may not know that it exists."""
    role = role_in(request.user, project)
    if role is None:
        raise NotFound(NO_PROJECT)
    project.role = role.value  # type: ignore[attr-defined]  # shown by the serializer
    return dict(ProjectSerializer(project).data)


class WorkspaceDetail(APIView):
    """One workspace."""

    @extend_schema(operation_id="workspaces_retrieve", parameters=[ID], responses=WorkspaceSerializer)
    def get(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Read a workspace: where it is, its branch and commits, and what went wrong with it."""
        return Response(WorkspaceSerializer(workspace_visible_to(request.user, workspace_id)).data)


class WorkspaceDiff(APIView):
    """The change in a workspace."""

    extra_errors = (502,)

    @extend_schema(operation_id="workspaces_diff", parameters=[ID, DiffQuery], responses=DiffSerializer)
    def get(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Read everything in a workspace against its base: committed, staged, unstaged and untracked, each file once.

        Long files are folded: their lines come when they are asked for with `file`.
        """
        workspace, query = workspace_visible_to(request.user, workspace_id), checked_query(DiffQuery, request)
        return Response(DiffSerializer(diff_for(workspace, **query)).data)


class WorkspaceStatus(APIView):
    """Where a workspace stands."""

    extra_errors = (502,)

    @extend_schema(operation_id="workspaces_status", parameters=[ID], responses=WorkspaceStatusSerializer)
    def get(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Read how far a workspace is ahead of and behind its target branch, and what in it is not committed."""
        return Response(WorkspaceStatusSerializer(status_for(workspace_visible_to(request.user, workspace_id))).data)


urlpatterns: list[URLPattern] = [
    path("projects", ProjectList.as_view(), name="api-projects"),
    path("projects/<str:ref>", ProjectDetail.as_view(), name="api-project"),
    path("workspaces/<uuid:workspace_id>", WorkspaceDetail.as_view(), name="api-workspace"),
    path("workspaces/<uuid:workspace_id>/diff", WorkspaceDiff.as_view(), name="api-workspace-diff"),
    path("workspaces/<uuid:workspace_id>/status", WorkspaceStatus.as_view(), name="api-workspace-status"),
]
