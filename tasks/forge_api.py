"""Pull requests of tasks and issues that become tasks, over REST: parse, authorise, call one service, render."""

from __future__ import annotations

from typing import Any

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from studio.kernel.api_input import StrictSerializer, checked_body
from studio.kernel.errors import NotFound
from tasks import selectors
from tasks.api import REF, visible_project
from tasks.models import ImportedIssue, Task
from tasks.serializers import TaskSerializer
from tasks.services import pull_requests
from tasks.services.issues import import_issues
from workspaces.forge.serializers import PullRequestSerializer
from workspaces.models import PullRequest

PROJECT = OpenApiParameter("ref", str, OpenApiParameter.PATH, description="The project's key (DEMO) or id.")


class CheckSerializer(StrictSerializer[Any]):
    """Which check's log is sent."""

    check_id = serializers.CharField(max_length=80, help_text="From the pull request's “checks”.")


class CommentSerializer(StrictSerializer[Any]):
    """A comment to write."""

    body = serializers.CharField(trim_whitespace=False, help_text="Markdown, at most 20,000 characters.")


class ImportSerializer(StrictSerializer[Any]):
    """Which issues: one, or all open ones with a label (at most 100)."""

    issue = serializers.CharField(required=False, allow_blank=True, default="", help_text="Its number or address.")
    label = serializers.CharField(required=False, allow_blank=True, default="")  # type: ignore[assignment]  # the field's name


class ImportedSerializer(serializers.Serializer[Any]):
    """An issue and the task that it became."""

    key = serializers.CharField(source="task.key", help_text="The task's key.")
    number = serializers.IntegerField(source="issue.number", help_text="The issue's number.")
    url = serializers.CharField(source="issue.url")
    created = serializers.BooleanField(help_text="False when the task was there already.")


class IssueSerializer(serializers.ModelSerializer[ImportedIssue]):
    """The issue that a task came from."""

    class Meta:
        model = ImportedIssue
        fields = ["repository", "number", "url", "created_at"]
        read_only_fields = fields


def found_pull_request(task: Task) -> PullRequest:
    """The task's pull request with its comments. Raises NotFound."""
    row = pull_requests.pull_request_of(task)
    if row is None:
        raise NotFound(f"{task.key} has no pull request.", code="no_pull_request")
    return row


class TaskPullRequest(APIView):
    """The pull request of a task."""

    @extend_schema(operation_id="tasks_pull_request", parameters=[REF], responses=PullRequestSerializer)
    def get(self, request: Request, ref: str) -> Response:
        """Read a task's pull request with its checks and review comments, as they were when they were read last."""
        return Response(PullRequestSerializer(found_pull_request(selectors.by_ref(request.user, ref))).data)


class PullRequestRefresh(APIView):
    """Reading it anew."""

    extra_errors = (409,)

    @extend_schema(
        operation_id="tasks_pull_request_refresh", parameters=[REF], request=None, responses=PullRequestSerializer
    )
    def post(self, request: Request, ref: str) -> Response:
        """Have the pull request read from the forge now; the news comes with the feed. Needs the role reviewer."""
        return Response(PullRequestSerializer(pull_requests.refresh(actor=request.user, task_ref=ref)).data)


class PullRequestComments(APIView):
    """What reviewers on the forge wrote, for an agent."""

    extra_errors = (409,)

    @extend_schema(
        operation_id="tasks_pull_request_answer_comments", parameters=[REF], request=None, responses=TaskSerializer
    )
    def post(self, request: Request, ref: str) -> Response:
        """Make findings of the new review comments, each once, and open a fix round. Needs the role reviewer."""
        return Response(TaskSerializer(pull_requests.answer_comments(actor=request.user, task_ref=ref)).data)


class PullRequestCheck(APIView):
    """A failing check, for an agent."""

    extra_errors = (409, 502)

    @extend_schema(
        operation_id="tasks_pull_request_fix_check",
        parameters=[REF],
        request=CheckSerializer,
        responses=TaskSerializer,
    )
    def post(self, request: Request, ref: str) -> Response:
        """Open a fix round with the end of a failing check's log. Needs the role reviewer."""
        given = checked_body(CheckSerializer, request)
        return Response(TaskSerializer(pull_requests.fix_check(actor=request.user, task_ref=ref, **given)).data)


class PullRequestComment(APIView):
    """A word to the people on the forge."""

    extra_errors = (409, 502)

    @extend_schema(
        operation_id="tasks_pull_request_comment", parameters=[REF], request=CommentSerializer, responses={204: None}
    )
    def post(self, request: Request, ref: str) -> Response:
        """Write a comment under the pull request, with the connection's token. Needs the role maintainer."""
        pull_requests.comment(actor=request.user, task_ref=ref, **checked_body(CommentSerializer, request))
        return Response(status=204)


class TaskIssue(APIView):
    """The issue behind a task."""

    @extend_schema(operation_id="tasks_issue", parameters=[REF], responses=IssueSerializer)
    def get(self, request: Request, ref: str) -> Response:
        """Read which issue of the forge a task came from. 404 for one that came from none."""
        task = selectors.by_ref(request.user, ref)
        row = ImportedIssue.objects.filter(task=task).first()
        if row is None:
            raise NotFound(f"{task.key} came from no issue.", code="no_issue")
        return Response(IssueSerializer(row).data)


class ProjectIssues(APIView):
    """Issues of a project's forge."""

    extra_errors = (409, 502)

    @extend_schema(
        operation_id="projects_import_issues",
        parameters=[PROJECT],
        request=ImportSerializer,
        responses=ImportedSerializer(many=True),
    )
    def post(self, request: Request, ref: str) -> Response:
        """Make tasks of issues, each once, with a link back. Needs the role reviewer."""
        given = checked_body(ImportSerializer, request)
        found = import_issues(actor=request.user, project=visible_project(request, ref), **given)
        return Response(ImportedSerializer(found, many=True).data)


urlpatterns: list[URLPattern] = [
    path("projects/<str:ref>/issues/import", ProjectIssues.as_view(), name="api-project-issues"),
    path("tasks/<str:ref>/issue", TaskIssue.as_view(), name="api-task-issue"),
    path("tasks/<str:ref>/pull_request", TaskPullRequest.as_view(), name="api-task-pull-request"),
    path("tasks/<str:ref>/pull_request/refresh", PullRequestRefresh.as_view(), name="api-pull-request-refresh"),
    path(
        "tasks/<str:ref>/pull_request/answer_comments",
        PullRequestComments.as_view(),
        name="api-pull-request-comments",
    ),
    path("tasks/<str:ref>/pull_request/fix_check", PullRequestCheck.as_view(), name="api-pull-request-check"),
    path("tasks/<str:ref>/pull_request/comment", PullRequestComment.as_view(), name="api-pull-request-comment"),
]
