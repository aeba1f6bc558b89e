"""What agents used, over REST: sums by day, task, model or role."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.urls import URLPattern, path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from sessions_app.models import Usage
from sessions_app.selectors import sessions_visible_to
from sessions_app.serializers import TokensSerializer
from sessions_app.usage import GROUPS, grouped, visible_usage
from studio.kernel.api_input import checked_query
from studio.kernel.errors import NotFound
from tasks import selectors
from tasks.api import visible_project
from tasks.models import Task
from tasks.usage import tasks_by_id


class UsageQuery(serializers.Serializer[Any]):
    """Whose usage is summed up, and how."""

    project = serializers.CharField(required=False, max_length=64, help_text="A project's id or key.")
    task = serializers.CharField(required=False, max_length=64, help_text="A task's id or key.")
    session = serializers.UUIDField(required=False, help_text="A session's id.")
    since = serializers.DateField(required=False, help_text="The first day (UTC).")
    until = serializers.DateField(required=False, help_text="The last day (UTC).")
    group = serializers.ChoiceField(choices=list(GROUPS), default="day")


class UsageSerializer(serializers.Serializer[Any]):
    """What was used together by one day, task, model or role."""

    group = serializers.CharField(help_text="The day, the model, the role, or the task's id; empty for what has none.")
    task = serializers.CharField(allow_null=True, help_text="The task's key, when the sums are by task.")
    cost = serializers.FloatField(help_text="US dollars, as far as prices are known.")
    tokens = TokensSerializer()
    steps = serializers.IntegerField(help_text="Answers of a model.")
    unpriced_steps = serializers.IntegerField(help_text="Those without a known price: they are not in the cost.")


class UsageList(GenericAPIView[Any]):
    """What agents used in the projects that the account may see."""

    serializer_class = UsageSerializer
    extra_errors = (404,)

    @extend_schema(operation_id="usage_list", parameters=[UsageQuery], responses=UsageSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Sum up tokens and costs, sub-agents included: by day (the newest first), or by task, model or role (the most
        expensive first)."""
        query = checked_query(UsageQuery, request)
        page = self.paginate_queryset(grouped(_chosen(request, query), query["group"])) or []
        tasks = tasks_by_id(row["of"] for row in page) if query["group"] == "task" else {}
        return self.get_paginated_response([_shown(row, tasks) for row in page])


def _chosen(request: Request, query: dict[str, Any]) -> QuerySet[Usage]:
    """The steps that the query means. Raises NotFound for a project, task or session that the account may not know of."""
    rows = visible_usage(request.user)
    if "project" in query:
        rows = rows.filter(project=visible_project(request, query["project"]))
    if "task" in query:
        rows = rows.filter(subject=str(selectors.by_ref(request.user, query["task"]).pk))
    if "session" in query:
        if not sessions_visible_to(request.user).filter(pk=query["session"]).exists():
            raise NotFound("There is no such session.")
        rows = rows.filter(session_id=query["session"])
    if "since" in query:
        rows = rows.filter(day__gte=query["since"])
    if "until" in query:
        rows = rows.filter(day__lte=query["until"])
    return rows


def _shown(row: dict[str, Any], tasks: dict[str, Task]) -> dict[str, Any]:
    task = tasks.get(str(row["of"]))
    return {
        "group": str(row["of"]),
        "task": task.key if task else None,
        "cost": float(row["cost"] or 0),
        "tokens": {name: row[name] or 0 for name in ("input", "output", "reasoning", "cached")},
        "steps": row["steps"],
        "unpriced_steps": row["unpriced"],
    }


urlpatterns: list[URLPattern] = [path("usage", UsageList.as_view(), name="api-usage")]
