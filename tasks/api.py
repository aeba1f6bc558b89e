"""Tasks over REST: parse, authorise, call one service, render."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import transaction
from django.db.models import Model, QuerySet
from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from sessions_app.asks_api import AskSerializer
from sessions_app.selectors import asks_about, with_turns
from sessions_app.serializers import SessionSerializer
from studio.kernel.api_input import checked_body, checked_query
from studio.kernel.errors import NotFound
from tasks import selectors
from tasks.actions import ROLES
from tasks.models import Task
from tasks.serializers import (
    ActionSerializer,
    FindingSerializer,
    HistorySerializer,
    PlanSerializer,
    ReviewSerializer,
    RunSerializer,
    StartFromSerializer,
    TaskCreateSerializer,
    TaskEditSerializer,
    TaskQuery,
    TaskSerializer,
)
from tasks.services import lifecycle
from tasks.services.board import create_task, delete_task, edit_task, place_task
from tasks.services.starting import start_from
from workspaces.models import Project
from workspaces.selectors import project_by, role_in
from workspaces.serializers import DiffQuery, DiffSerializer
from workspaces.services import diff_for

Row = TypeVar("Row", bound=Model)

REF = OpenApiParameter("ref", str, OpenApiParameter.PATH, description="The task's key (DEMO-12) or id.")
PLACES = ("after", "before")


class TaskList(GenericAPIView[Task]):
    """The tasks of all projects that the account may see."""

    serializer_class = TaskSerializer
    extra_errors = (404,)  # the project that a new task names

    @extend_schema(operation_id="tasks_list", parameters=[TaskQuery], responses=TaskSerializer(many=True))
    def get(self, request: Request) -> Response:
        """List tasks, narrowed down; the newest first unless `ordering` says otherwise."""
        query = checked_query(TaskQuery, request)
        ordering = query.pop("ordering", "-created_at")
        if "project" in query:
            query["project"] = visible_project(request, query["project"])
        tasks = selectors.list_tasks(request.user, **query).order_by(ordering, "-number", "pk")
        page = self.paginate_queryset(tasks)
        return self.get_paginated_response(TaskSerializer(page, many=True).data)

    @extend_schema(operation_id="tasks_create", request=TaskCreateSerializer, responses={201: TaskSerializer})
    def post(self, request: Request) -> Response:
        """Create a task, and start it at once when `start` is true."""
        fields = checked_body(TaskCreateSerializer, request)
        project = visible_project(request, fields.pop("project"))
        task = create_task(actor=request.user, project=project, **fields)
        location = {"Location": request.build_absolute_uri(f"/api/v1/tasks/{task.key}")}
        return Response(TaskSerializer(selectors.by_ref(request.user, task)).data, status=201, headers=location)


class TaskDetail(APIView):
    """One task."""

    @extend_schema(operation_id="tasks_retrieve", parameters=[REF], responses=TaskSerializer)
    def get(self, request: Request, ref: str) -> Response:
        """Read a task."""
        return Response(TaskSerializer(selectors.by_ref(request.user, ref)).data)

    @extend_schema(operation_id="tasks_update", parameters=[REF], request=TaskEditSerializer, responses=TaskSerializer)
    def patch(self, request: Request, ref: str) -> Response:
        """Edit a task: title, description, priority, labels, place. Its status changes only through actions.

        With `version` the edit is made only to that version of the task, else the answer is 409.
        """
        fields = checked_body(TaskEditSerializer, request)
        place = {name: fields.pop(name) for name in PLACES if name in fields}
        with transaction.atomic():
            edit_task(actor=request.user, task=ref, **fields)
            if place:
                place_task(actor=request.user, task=ref, **place)
        return Response(TaskSerializer(selectors.by_ref(request.user, ref)).data)

    @extend_schema(operation_id="tasks_delete", parameters=[REF], responses={204: None})
    def delete(self, request: Request, ref: str) -> Response:
        """Delete a task with its plans, runs and reviews. What its workspace holds unmerged is kept as a patch."""
        delete_task(actor=request.user, task=ref)
        return Response(status=204)


class TaskAction(APIView):
    """What people do with tasks."""

    @extend_schema(
        operation_id="tasks_act",
        parameters=[REF, OpenApiParameter("action", str, OpenApiParameter.PATH, enum=list(ROLES))],
        request=ActionSerializer,
        responses={200: TaskSerializer},
    )
    def post(self, request: Request, ref: str, action: str) -> Response:
        """Do an action with a task and answer the task as it is then; 409 with `allowed` when it is not possible now."""
        words = checked_body(ActionSerializer, request)
        return Response(TaskSerializer(lifecycle.act(actor=request.user, task_ref=ref, action=action, **words)).data)


class TaskStart(APIView):
    """What a task begins at."""

    extra_errors = (502,)

    @extend_schema(
        operation_id="tasks_start_from", parameters=[REF], request=StartFromSerializer, responses=TaskSerializer
    )
    def post(self, request: Request, ref: str) -> Response:
        """Choose what a task that has not started begins at: a branch, a worktree, or kept work. Needs the role maintainer.

        Its checkout gets a branch of its own that begins there. The project's `starts` names branches and worktrees.
        """
        return Response(
            TaskSerializer(
                start_from(actor=request.user, task_ref=ref, **checked_body(StartFromSerializer, request))
            ).data
        )


class TaskPart(GenericAPIView[Row]):
    """A list that belongs to one task. Subclasses say how it is read and shown."""

    def rows(self, task: Task) -> QuerySet[Row]:
        """The rows with everything that their serializer shows."""
        raise NotImplementedError

    def read(self, request: Request, ref: str) -> Response:
        """A page of the rows."""
        page = self.paginate_queryset(self.rows(selectors.by_ref(request.user, ref)))
        serializer: type[BaseSerializer[Any]] = self.get_serializer_class()
        return self.get_paginated_response(serializer(page, many=True).data)


class TaskPlans(TaskPart[Any]):
    """The versions of a task's plan."""

    serializer_class = PlanSerializer

    def rows(self, task: Task) -> QuerySet[Any]:
        """Oldest first."""
        return task.plans.select_related("approved_by").order_by("version")

    @extend_schema(operation_id="tasks_plans", parameters=[REF], responses=PlanSerializer(many=True))
    def get(self, request: Request, ref: str) -> Response:
        """List the versions of a task's plan, oldest first."""
        return self.read(request, ref)


class TaskRuns(TaskPart[Any]):
    """The runs of a task's phases."""

    serializer_class = RunSerializer

    def rows(self, task: Task) -> QuerySet[Any]:
        """Oldest first."""
        return selectors.runs(task)

    @extend_schema(operation_id="tasks_runs", parameters=[REF], responses=RunSerializer(many=True))
    def get(self, request: Request, ref: str) -> Response:
        """List the runs of a task's phases, oldest first."""
        return self.read(request, ref)


class TaskReviews(TaskPart[Any]):
    """A task's AI reviews."""

    serializer_class = ReviewSerializer

    def rows(self, task: Task) -> QuerySet[Any]:
        """Oldest first."""
        return selectors.reviews(task).order_by("created_at")

    @extend_schema(operation_id="tasks_reviews", parameters=[REF], responses=ReviewSerializer(many=True))
    def get(self, request: Request, ref: str) -> Response:
        """List a task's AI reviews with their findings, oldest first."""
        return self.read(request, ref)


class TaskFindings(TaskPart[Any]):
    """What the reviews found."""

    serializer_class = FindingSerializer

    def rows(self, task: Task) -> QuerySet[Any]:
        """By number."""
        return task.findings.order_by("number")

    @extend_schema(operation_id="tasks_findings", parameters=[REF], responses=FindingSerializer(many=True))
    def get(self, request: Request, ref: str) -> Response:
        """List what the reviews of a task found, by number."""
        return self.read(request, ref)


class TaskSessions(TaskPart[Any]):
    """The sessions that worked on a task."""

    serializer_class = SessionSerializer

    def rows(self, task: Task) -> QuerySet[Any]:
        """Oldest first."""
        return with_turns(selectors.sessions(task))

    @extend_schema(operation_id="tasks_sessions", parameters=[REF], responses=SessionSerializer(many=True))
    def get(self, request: Request, ref: str) -> Response:
        """List the agent sessions of a task, oldest first."""
        return self.read(request, ref)


class TaskAsks(TaskPart[Any]):
    """What agents asked in a task."""

    serializer_class = AskSerializer

    def rows(self, task: Task) -> QuerySet[Any]:
        """Oldest first."""
        return asks_about(str(task.pk))

    @extend_schema(operation_id="tasks_asks", parameters=[REF], responses=AskSerializer(many=True))
    def get(self, request: Request, ref: str) -> Response:
        """List what the agents of a task asked, and what was answered, oldest first."""
        return self.read(request, ref)


class TaskHistoryList(TaskPart[Any]):
    """What happened to a task."""

    serializer_class = HistorySerializer

    def rows(self, task: Task) -> QuerySet[Any]:
        """Oldest first."""
        return task.history.order_by("at", "id")

    @extend_schema(operation_id="tasks_history", parameters=[REF], responses=HistorySerializer(many=True))
    def get(self, request: Request, ref: str) -> Response:
        """List the changes of a task's column and the decisions about it, oldest first."""
        return self.read(request, ref)


class TaskDiff(APIView):
    """What the agents changed."""

    extra_errors = (502,)

    @extend_schema(operation_id="tasks_diff", parameters=[REF, DiffQuery], responses=DiffSerializer)
    def get(self, request: Request, ref: str) -> Response:
        """Read the change of a task's workspace against its base: committed, staged, unstaged and untracked, once."""
        task, query = selectors.by_ref(request.user, ref), checked_query(DiffQuery, request)
        if task.workspace is None:
            raise NotFound(f"{task.key} has no workspace yet, so there is no change to show.", code="no_workspace")
        return Response(DiffSerializer(diff_for(task.workspace, **query)).data)


def visible_project(request: Request, ref: str) -> Project:
    """The project with the id or key `ref`. Raises NotFound when the account may not know that it exists."""
    project = project_by(ref)
    if role_in(request.user, project) is None:
        raise NotFound("There is no such project.")
    return project


urlpatterns: list[URLPattern] = [
    path("tasks", TaskList.as_view(), name="api-tasks"),
    path("tasks/<str:ref>", TaskDetail.as_view(), name="api-task"),
    path("tasks/<str:ref>/plans", TaskPlans.as_view(), name="api-task-plans"),
    path("tasks/<str:ref>/runs", TaskRuns.as_view(), name="api-task-runs"),
    path("tasks/<str:ref>/reviews", TaskReviews.as_view(), name="api-task-reviews"),
    path("tasks/<str:ref>/findings", TaskFindings.as_view(), name="api-task-findings"),
    path("tasks/<str:ref>/sessions", TaskSessions.as_view(), name="api-task-sessions"),
    path("tasks/<str:ref>/asks", TaskAsks.as_view(), name="api-task-asks"),
    path("tasks/<str:ref>/history", TaskHistoryList.as_view(), name="api-task-history"),
    path("tasks/<str:ref>/diff", TaskDiff.as_view(), name="api-task-diff"),
    path("tasks/<str:ref>/start-from", TaskStart.as_view(), name="api-task-start-from"),
    path("tasks/<str:ref>/<str:action>", TaskAction.as_view(), name="api-task-action"),
]
