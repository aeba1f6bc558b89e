"""The files of a workspace over REST: parse, authorise, read, render."""

from __future__ import annotations

import uuid

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from studio.kernel.api_input import checked_query
from workspaces.files import tree
from workspaces.files.content import plain_text
from workspaces.files.paths import path_of
from workspaces.files.search import find_lines, find_names
from workspaces.files.serializers import (
    FileQuery,
    FileSerializer,
    SearchQuery,
    SearchSerializer,
    TreeQuery,
    TreeSerializer,
    file_shown,
    found_shown,
)
from workspaces.files.source import source_of
from workspaces.selectors import workspace_visible_to

ID = OpenApiParameter("workspace_id", uuid.UUID, OpenApiParameter.PATH, description="The workspace's id.")


class WorkspaceTree(APIView):
    """The tree of a workspace."""

    extra_errors = (502,)

    @extend_schema(operation_id="workspaces_tree", parameters=[ID, TreeQuery], responses=TreeSerializer)
    def get(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """List a folder of a workspace, or the files of its change. Of a removed workspace it is the last commit."""
        workspace, query = workspace_visible_to(request.user, workspace_id), checked_query(TreeQuery, request)
        stretch = {"offset": query["offset"], "limit": query["limit"]}
        if query["changed"]:
            found = tree.changed_entries(workspace, **stretch)
        else:
            found = tree.listing(source_of(workspace), path_of(request), **stretch)
        return Response(TreeSerializer(found).data)


class WorkspaceFile(APIView):
    """A file of a workspace."""

    extra_errors = (502,)

    @extend_schema(operation_id="workspaces_file", parameters=[ID, FileQuery], responses=FileSerializer)
    def get(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Read a file of a workspace: the text of a text, else what it is. Links are named and never followed.

        Of what the project's setup placed there (`withheld`) the text is for the role owner alone.
        """
        workspace, _ = workspace_visible_to(request.user, workspace_id), checked_query(FileQuery, request)
        return Response(file_shown(*plain_text(source_of(workspace, request.user), path_of(request))))


class WorkspaceSearch(APIView):
    """Finding files of a workspace."""

    extra_errors = (502,)

    @extend_schema(operation_id="workspaces_search", parameters=[ID, SearchQuery], responses=SearchSerializer)
    def get(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Find files of a workspace by their names, or lines in them. What the repository ignores is passed over."""
        workspace, query = workspace_visible_to(request.user, workspace_id), checked_query(SearchQuery, request)
        if query["where"] == "lines":
            found = find_lines(workspace, query["q"], regex=query["regex"], reader=request.user)
            return Response(found_shown(found))
        return Response(found_shown(find_names(workspace, query["q"])))


urlpatterns: list[URLPattern] = [
    path("workspaces/<uuid:workspace_id>/tree", WorkspaceTree.as_view(), name="api-workspace-tree"),
    path("workspaces/<uuid:workspace_id>/file", WorkspaceFile.as_view(), name="api-workspace-file"),
    path("workspaces/<uuid:workspace_id>/search", WorkspaceSearch.as_view(), name="api-workspace-search"),
]
