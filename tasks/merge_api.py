"""A task's merge over REST: what it would be, and the sides of its conflicts."""

from __future__ import annotations

from typing import Any

from django.urls import URLPattern, path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from studio.kernel.api_input import checked_query
from studio.kernel.errors import NotFound
from tasks import selectors
from tasks.api import REF
from tasks.models import Task
from workspaces.models import Workspace
from workspaces.services import conflicted_files, instructions, preview_merge, revert_instructions
from workspaces.services.merges.request import WAYS


class MergeQuery(serializers.Serializer[Any]):
    """Which merge is meant."""

    how = serializers.ChoiceField(choices=[(way, way) for way in WAYS], default="merge")
    target = serializers.CharField(
        required=False, default="", max_length=250, help_text="A local branch; where the task came from when not given."
    )


class ConflictQuery(MergeQuery):
    """Which conflicts are meant."""

    file = serializers.CharField(
        required=False, default="", max_length=1000, help_text="A file's path: that one alone, with its sides."
    )


class TargetCheckoutSerializer(serializers.Serializer[Any]):
    """A person's checkout that is on the target branch; it is never touched while it is not clean."""

    path = serializers.CharField()
    is_clean = serializers.BooleanField()
    files = serializers.ListField(
        child=serializers.CharField(), help_text="Changed there and not committed: the first."
    )
    count = serializers.IntegerField(help_text="How many are.")
    operation = serializers.CharField(allow_blank=True, help_text="Begun there and not ended: merge, rebase, …")


class PreviewSerializer(serializers.Serializer[Any]):
    """What a merge would be."""

    how = serializers.CharField()
    target = serializers.CharField()
    branches = serializers.ListField(child=serializers.CharField(), help_text="What else could be the target.")
    possible = serializers.BooleanField(help_text="Whether it would go through as things are.")
    nothing = serializers.BooleanField(help_text="The target has all of it already.")
    ahead = serializers.IntegerField(help_text="Commits that the target lacks.")
    behind = serializers.IntegerField(help_text="Commits that the target has besides.")
    uncommitted = serializers.IntegerField(help_text="Files in the workspace that are committed first.")
    files = serializers.IntegerField(help_text="That change on the target.")
    additions = serializers.IntegerField()
    deletions = serializers.IntegerField()
    conflicts = serializers.ListField(child=serializers.CharField(), help_text="Files in conflict.")
    refusal = serializers.CharField(allow_blank=True)
    marked = serializers.ListField(
        child=serializers.CharField(),
        help_text="Files to which it would add lines of an unresolved conflict: refused, unless `markers_meant` names them.",
    )
    checkouts = TargetCheckoutSerializer(many=True)
    rules = serializers.ListField(child=serializers.CharField(), help_text="The repository's hooks and signatures.")


class ConflictedSerializer(serializers.Serializer[Any]):
    """A file in conflict."""

    path = serializers.CharField()
    binary = serializers.BooleanField()
    cut = serializers.BooleanField(help_text="There is more of a side than is shown.")


class SidesSerializer(ConflictedSerializer):
    """A file in conflict with its sides. Null is a side that has no such file, and each of them for a binary file."""

    base = serializers.CharField(allow_null=True, allow_blank=True, help_text="What both began from.")
    target = serializers.CharField(allow_null=True, allow_blank=True)
    source = serializers.CharField(  # type: ignore[assignment]  # a declared field hides no attribute
        allow_null=True, allow_blank=True, help_text="The task's side."
    )
    merged = serializers.CharField(allow_null=True, allow_blank=True, help_text="The text with conflict markers.")


class ConflictsSerializer(serializers.Serializer[Any]):
    """In what a merge would conflict, and how a person resolves it by hand."""

    files = ConflictedSerializer(many=True)
    file = SidesSerializer(allow_null=True, help_text="The file that was asked for by name, if it is in conflict.")
    commands = serializers.CharField(
        help_text="What to run in the workspace, then complete again; or, of a revert, in your own checkout."
    )


class TaskMerge(APIView):
    """What merging a task would be."""

    extra_errors = (502,)

    @extend_schema(operation_id="tasks_merge_preview", parameters=[REF, MergeQuery], responses=PreviewSerializer)
    def get(self, request: Request, ref: str) -> Response:
        """Read what merging a task's change would do, before it is completed. Nothing is moved."""
        workspace, query = _workspace(_task(request, ref)), checked_query(MergeQuery, request)
        return Response(PreviewSerializer(preview_merge(workspace, **query)).data)


class TaskConflicts(APIView):
    """In what a task's merge conflicts."""

    extra_errors = (409, 502)

    @extend_schema(operation_id="tasks_conflicts", parameters=[REF, ConflictQuery], responses=ConflictsSerializer)
    def get(self, request: Request, ref: str) -> Response:
        """List the files in which a merge of the task would conflict now; with `file` that one, with its three sides.

        Of a merge that could not be taken back it is what conflicted then, by name alone.
        """
        task, query = _task(request, ref), checked_query(ConflictQuery, request)
        if (revert := selectors.failed_revert(task)) is not None:
            named = [{"path": path, "binary": False, "cut": False} for path in revert.conflicts]
            by_name = {"files": named, "file": None, "commands": revert_instructions(revert)}
            return Response(ConflictsSerializer(by_name).data)
        workspace = _workspace(task)
        target = query["target"] or workspace.base_branch
        found = conflicted_files(workspace, target=target, how=query["how"], file=query["file"])
        one = found[0] if query["file"] and found else None
        answer = {"files": found, "file": one, "commands": instructions(workspace, target)}
        return Response(ConflictsSerializer(answer).data)


def _task(request: Request, ref: str) -> Task:
    return selectors.by_ref(request.user, ref)


def _workspace(task: Task) -> Workspace:
    if task.workspace is None:
        raise NotFound(f"{task.key} has no workspace yet, so there is nothing to merge.", code="no_workspace")
    return task.workspace


urlpatterns: list[URLPattern] = [
    path("tasks/<str:ref>/merge", TaskMerge.as_view(), name="api-task-merge"),
    path("tasks/<str:ref>/conflicts", TaskConflicts.as_view(), name="api-task-conflicts"),
]
