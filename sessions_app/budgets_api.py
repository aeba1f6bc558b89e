"""Budgets over REST: those of a project, and those that hold in every project."""

from __future__ import annotations

import uuid
from typing import Any

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from sessions_app.budget_use import use_everywhere, use_in_project
from sessions_app.models import Budget, BudgetAction, BudgetMetric, BudgetScope
from sessions_app.services import budget_settings
from studio.kernel.api_input import StrictSerializer, checked_body
from studio.kernel.errors import Forbidden, NotFound
from workspaces.models import Project
from workspaces.selectors import NO_PROJECT, project_by, role_in

REF = OpenApiParameter("ref", str, OpenApiParameter.PATH, description="The project's key (DEMO) or id.")
ID = OpenApiParameter("budget_id", uuid.UUID, OpenApiParameter.PATH, description="The budget's id.")


class BudgetSerializer(serializers.Serializer[Any]):
    """A limit on what agents may use, and how far it is used where it counts the whole project."""

    id = serializers.UUIDField(source="budget.id")
    project = serializers.UUIDField(
        source="budget.project_id", allow_null=True, help_text="Null: it holds in every project."
    )
    scope = serializers.ChoiceField(
        source="budget.scope", choices=BudgetScope.choices, help_text="What it counts together; a day is one of UTC."
    )
    metric = serializers.ChoiceField(
        source="budget.metric",
        choices=BudgetMetric.choices,
        help_text="US dollars, as far as prices are known; or tokens in and out without cached ones.",
    )
    amount = serializers.FloatField(source="budget.amount")
    action = serializers.ChoiceField(
        source="budget.action",
        choices=BudgetAction.choices,
        help_text="warn: say so and go on. ask: let the turn wait for a person. stop: end the turn.",
    )
    enabled = serializers.BooleanField(source="budget.enabled")
    used = serializers.FloatField(allow_null=True, help_text="Null for budgets of a turn, a run or a task.")
    limit = serializers.FloatField(help_text="The amount with what people have granted on top.")
    reached = serializers.BooleanField(
        help_text="Whether it is used up: by the project, or by a turn, a run or a task that nobody has granted more."
    )
    created_at = serializers.DateTimeField(source="budget.created_at")


class BudgetBody(StrictSerializer[Any]):
    """A new budget."""

    scope = serializers.ChoiceField(choices=BudgetScope.choices)
    metric = serializers.ChoiceField(choices=BudgetMetric.choices)
    amount = serializers.DecimalField(max_digits=None, decimal_places=None, help_text="US dollars, or tokens.")
    action = serializers.ChoiceField(choices=BudgetAction.choices)
    enabled = serializers.BooleanField(default=True)


class BudgetChange(StrictSerializer[Any]):
    """What of a budget can be changed."""

    refused = {
        "scope": "What a budget counts stays: add another budget.",
        "metric": "What a budget counts stays: add another budget.",
    }

    amount = serializers.DecimalField(required=False, max_digits=None, decimal_places=None)
    action = serializers.ChoiceField(required=False, choices=BudgetAction.choices)
    enabled = serializers.BooleanField(required=False)


class ProjectBudgets(GenericAPIView[Any]):
    """The budgets that hold in a project."""

    serializer_class = BudgetSerializer

    @extend_schema(operation_id="projects_budgets", parameters=[REF], responses=BudgetSerializer(many=True))
    def get(self, request: Request, ref: str) -> Response:
        """List a project's budgets and, after them, those that hold in every project."""
        page = self.paginate_queryset(use_in_project(_visible(request, ref)))
        return self.get_paginated_response(BudgetSerializer(page, many=True).data)

    @extend_schema(
        operation_id="projects_budgets_add", parameters=[REF], request=BudgetBody, responses={201: BudgetSerializer}
    )
    def post(self, request: Request, ref: str) -> Response:
        """Add a budget. Needs the role owner. 409 `budget_exists` when there is one for the same."""
        project = _visible(request, ref)
        fields = checked_body(BudgetBody, request)
        budget = budget_settings.add_budget(actor=request.user, project=project, **fields)
        return Response(_shown(budget, project), status=201)


class ProjectBudget(APIView):
    """One budget of a project."""

    @extend_schema(
        operation_id="projects_budgets_change",
        parameters=[REF, ID],
        request=BudgetChange,
        responses=BudgetSerializer,
    )
    def patch(self, request: Request, ref: str, budget_id: uuid.UUID) -> Response:
        """Change a budget; turns that it holds no longer go on. Needs the role owner."""
        project, fields = _visible(request, ref), checked_body(BudgetChange, request)
        budget = budget_settings.change_budget(actor=request.user, project=project, budget_id=budget_id, **fields)
        return Response(_shown(budget, project))

    @extend_schema(operation_id="projects_budgets_remove", parameters=[REF, ID], responses={204: None})
    def delete(self, request: Request, ref: str, budget_id: uuid.UUID) -> Response:
        """Take a budget away; turns that wait because of it go on. Needs the role owner."""
        budget_settings.remove_budget(actor=request.user, project=_visible(request, ref), budget_id=budget_id)
        return Response(status=204)


class EveryBudget(GenericAPIView[Any]):
    """The budgets that hold in every project."""

    serializer_class = BudgetSerializer

    @extend_schema(operation_id="budgets_list", responses=BudgetSerializer(many=True))
    def get(self, request: Request) -> Response:
        """List the budgets that hold in every project. Needs an administrator; members see them with their project's."""
        if not request.user.is_superuser:
            raise Forbidden("Budgets that hold in every project are listed for administrators.")
        page = self.paginate_queryset(use_everywhere())
        return self.get_paginated_response(BudgetSerializer(page, many=True).data)

    @extend_schema(operation_id="budgets_add", request=BudgetBody, responses={201: BudgetSerializer})
    def post(self, request: Request) -> Response:
        """Add a budget to every project. Needs an administrator. 409 `budget_exists` when there is one for the same."""
        fields = checked_body(BudgetBody, request)
        budget = budget_settings.add_budget(actor=request.user, project=None, **fields)
        return Response(_shown(budget), status=201)


class EveryBudgetOne(APIView):
    """One budget that holds in every project."""

    @extend_schema(operation_id="budgets_change", parameters=[ID], request=BudgetChange, responses=BudgetSerializer)
    def patch(self, request: Request, budget_id: uuid.UUID) -> Response:
        """Change a budget that holds in every project. Needs an administrator."""
        fields = checked_body(BudgetChange, request)
        return Response(
            _shown(budget_settings.change_budget(actor=request.user, project=None, budget_id=budget_id, **fields))
        )

    @extend_schema(operation_id="budgets_remove", parameters=[ID], responses={204: None})
    def delete(self, request: Request, budget_id: uuid.UUID) -> Response:
        """Take a budget away from every project. Needs an administrator."""
        budget_settings.remove_budget(actor=request.user, project=None, budget_id=budget_id)
        return Response(status=204)


def _visible(request: Request, ref: str) -> Project:
    project = project_by(ref)
    if role_in(request.user, project) is None:
        raise NotFound(NO_PROJECT)
    return project


def _shown(budget: Budget, project: Project | None = None) -> dict[str, Any]:
    uses = use_in_project(project) if project else use_everywhere()
    return dict(BudgetSerializer(next(one for one in uses if one.budget.pk == budget.pk)).data)


urlpatterns: list[URLPattern] = [
    path("budgets", EveryBudget.as_view(), name="api-budgets"),
    path("budgets/<uuid:budget_id>", EveryBudgetOne.as_view(), name="api-budget"),
    path("projects/<str:ref>/budgets", ProjectBudgets.as_view(), name="api-project-budgets"),
    path("projects/<str:ref>/budgets/<uuid:budget_id>", ProjectBudget.as_view(), name="api-project-budget"),
]
