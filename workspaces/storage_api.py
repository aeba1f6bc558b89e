"""Storage over REST: parse, authorise, call one service, render."""

from __future__ import annotations

import uuid

from django.http import StreamingHttpResponse
from django.urls import URLPattern, path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from studio.kernel.api_input import checked_body
from studio.kernel.permissions import Role
from workspaces import services
from workspaces.api import ID, REF, shown
from workspaces.selectors import project_by, require_role, workspace_visible_to
from workspaces.serializers import ProjectSerializer, WorkspaceSerializer
from workspaces.services.kept import Download
from workspaces.storage import kept_of, storage_of
from workspaces.storage_serializers import (
    KeepSerializer,
    KeptWorkSerializer,
    LeavingSerializer,
    RelocateSerializer,
    RemoveSerializer,
    RepairedSerializer,
    StartsSerializer,
    StorageSerializer,
    StoredWorkspaceSerializer,
)

KEPT = OpenApiParameter("kept_id", uuid.UUID, OpenApiParameter.PATH, description="The kept work's id.")


class ProjectStorage(APIView):
    """What a project takes."""

    @extend_schema(operation_id="projects_storage", parameters=[REF], responses=StorageSerializer)
    def get(self, request: Request, ref: str) -> Response:
        """Read what the project's checkouts and kept work take, what in them is not merged, and when they go."""
        project = project_by(ref)
        require_role(request.user, project, Role.VIEWER)
        found = storage_of(project)
        services.mark_seen(kept_of(project))
        return Response(StorageSerializer(found).data)


class ProjectStarts(APIView):
    """What a task of the project may begin at."""

    @extend_schema(operation_id="projects_starts", parameters=[REF], responses=StartsSerializer)
    def get(self, request: Request, ref: str) -> Response:
        """Read the local branches and the worktrees of people that a new task may begin at, at most 200 of each."""
        project = project_by(ref)
        require_role(request.user, project, Role.MAINTAINER)
        found = {"branches": services.start_choices(project), "worktrees": services.worktree_choices(project)}
        return Response(StartsSerializer(found).data)


class ProjectPlace(APIView):
    """Where a project's repository is."""

    extra_errors = (502,)

    @extend_schema(
        operation_id="projects_relocate", parameters=[REF], request=RelocateSerializer, responses=ProjectSerializer
    )
    def post(self, request: Request, ref: str) -> Response:
        """Name the new place of a repository that was moved; its checkouts are mended. Needs the role owner."""
        project = services.relocate_project(
            actor=request.user, project=project_by(ref), **checked_body(RelocateSerializer, request)
        )
        return Response(shown(request, project))


class WorkspaceKeep(APIView):
    """Whether a person keeps a checkout."""

    @extend_schema(
        operation_id="workspaces_keep", parameters=[ID], request=KeepSerializer, responses=StoredWorkspaceSerializer
    )
    def post(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Keep a checkout until a person says otherwise, or let its days count again. Needs the role reviewer."""
        workspace, fields = workspace_visible_to(request.user, workspace_id), checked_body(KeepSerializer, request)
        kept = services.hold_workspace(actor=request.user, workspace=workspace, **fields)
        return Response(StoredWorkspaceSerializer(kept).data)


class WorkspaceRemove(APIView):
    """The end of a checkout."""

    extra_errors = (409,)

    @extend_schema(operation_id="workspaces_leaving", parameters=[ID], responses=LeavingSerializer)
    def get(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Read what a removal would take away now, what of it is kept, and what nobody could bring back.

        Needs the role maintainer. `confirm` in the answer is what a removal of exactly that is confirmed with.
        """
        workspace = workspace_visible_to(request.user, workspace_id)
        found = services.look_before_removal(actor=request.user, workspace=workspace)
        return Response(LeavingSerializer(found).data)

    @extend_schema(
        operation_id="workspaces_remove",
        parameters=[ID],
        request=RemoveSerializer,
        responses={202: WorkspaceSerializer},
    )
    def post(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Remove the checkout of a finished task now. What is not merged is kept. Needs the role maintainer.

        Refused (`confirmation_needed`) without `confirm` when something goes that is not kept, such as ignored files; and with
        a `confirm` that is not the one of what goes now. The error's `detail` has the present facts.
        """
        workspace, fields = workspace_visible_to(request.user, workspace_id), checked_body(RemoveSerializer, request)
        services.discard_workspace(actor=request.user, workspace=workspace, confirm=fields["confirm"])
        workspace.refresh_from_db()
        return Response(WorkspaceSerializer(workspace).data, status=202)


class WorkspaceRepair(APIView):
    """Mending a checkout."""

    extra_errors = (502,)

    @extend_schema(operation_id="workspaces_repair", parameters=[ID], request=None, responses=RepairedSerializer)
    def post(self, request: Request, workspace_id: uuid.UUID) -> Response:
        """Mend a checkout that was damaged from outside, without losing a commit. Needs the role maintainer."""
        workspace = workspace_visible_to(request.user, workspace_id)
        return Response({"done": services.repair_workspace(actor=request.user, workspace=workspace)})


class KeptDetail(APIView):
    """Kept work."""

    @extend_schema(operation_id="kept_retrieve", parameters=[KEPT], responses=KeptWorkSerializer)
    def get(self, request: Request, kept_id: uuid.UUID) -> Response:
        """Read what is kept of a removed checkout."""
        return Response(KeptWorkSerializer(services.find_kept(request.user, kept_id)).data)

    @extend_schema(operation_id="kept_update", parameters=[KEPT], request=KeepSerializer, responses=KeptWorkSerializer)
    def patch(self, request: Request, kept_id: uuid.UUID) -> Response:
        """Keep it whatever its age, or let its time count again. Needs the role reviewer."""
        kept, fields = services.find_kept(request.user, kept_id), checked_body(KeepSerializer, request)
        return Response(KeptWorkSerializer(services.hold_kept(actor=request.user, kept=kept, **fields)).data)

    @extend_schema(operation_id="kept_delete", parameters=[KEPT], responses={204: None})
    def delete(self, request: Request, kept_id: uuid.UUID) -> Response:
        """Delete kept work for good. Needs the role maintainer."""
        services.delete_kept(actor=request.user, kept=services.find_kept(request.user, kept_id))
        return Response(status=204)


class KeptRestore(APIView):
    """The way back."""

    extra_errors = (502,)

    @extend_schema(
        operation_id="kept_restore", parameters=[KEPT], request=None, responses={202: StoredWorkspaceSerializer}
    )
    def post(self, request: Request, kept_id: uuid.UUID) -> Response:
        """Make a checkout of its own from kept work, on a new branch. Needs the role maintainer.

        It belongs to no task and stays until a person removes it. A task that has not started can begin at kept work instead.
        """
        kept = services.find_kept(request.user, kept_id)
        row = services.restore_kept(actor=request.user, kept=kept)
        return Response(StoredWorkspaceSerializer(row).data, status=202)


class AnyForm(BaseContentNegotiation):
    """Whatever a client accepts, it gets the file; errors are JSON."""

    def select_parser(self, request: Request, parsers: object) -> None:
        """A download has no body."""

    def select_renderer(
        self, request: Request, renderers: object, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """JSON, for the errors."""
        return JSONRenderer(), JSONRenderer.media_type


class KeptFile(APIView):
    """The files of kept work."""

    content_negotiation_class = AnyForm
    renderer_classes = [JSONRenderer]


class KeptPatch(KeptFile):
    """The patch."""

    @extend_schema(
        operation_id="kept_patch",
        parameters=[KEPT],
        responses={(200, "text/x-patch"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, kept_id: uuid.UUID) -> StreamingHttpResponse:
        """Download the patch: `git apply` takes it on the commit that it was made from."""
        return sent(services.open_kept(services.find_kept(request.user, kept_id), "patch"))


class KeptBundle(KeptFile):
    """The bundle."""

    @extend_schema(
        operation_id="kept_bundle",
        parameters=[KEPT],
        responses={(200, "application/x-git-bundle"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, kept_id: uuid.UUID) -> StreamingHttpResponse:
        """Download the bundle: `git fetch FILE BRANCH` takes its commits."""
        return sent(services.open_kept(services.find_kept(request.user, kept_id), "bundle"))


def sent(file: Download) -> StreamingHttpResponse:
    """The file as a download, piece by piece."""
    headers = {
        "Content-Disposition": f'attachment; filename="{file.name}"',
        "Content-Length": str(file.size),
        "Cache-Control": "private, no-store",
    }
    return StreamingHttpResponse(file.pieces(), content_type=file.content_type, headers=headers)


urlpatterns: list[URLPattern] = [
    path("projects/<str:ref>/storage", ProjectStorage.as_view(), name="api-project-storage"),
    path("projects/<str:ref>/starts", ProjectStarts.as_view(), name="api-project-starts"),
    path("projects/<str:ref>/relocate", ProjectPlace.as_view(), name="api-project-relocate"),
    path("workspaces/<uuid:workspace_id>/keep", WorkspaceKeep.as_view(), name="api-workspace-keep"),
    path("workspaces/<uuid:workspace_id>/remove", WorkspaceRemove.as_view(), name="api-workspace-remove"),
    path("workspaces/<uuid:workspace_id>/repair", WorkspaceRepair.as_view(), name="api-workspace-repair"),
    path("kept/<uuid:kept_id>", KeptDetail.as_view(), name="api-kept"),
    path("kept/<uuid:kept_id>/restore", KeptRestore.as_view(), name="api-kept-restore"),
    path("kept/<uuid:kept_id>/patch", KeptPatch.as_view(), name="api-kept-patch"),
    path("kept/<uuid:kept_id>/bundle", KeptBundle.as_view(), name="api-kept-bundle"),
]
