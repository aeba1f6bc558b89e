"""The pages of a project's budgets and of those that hold in each: what each counts, how far it is used, and forms."""

from __future__ import annotations

import uuid
from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from sessions_app import usage
from sessions_app.budget_use import use_everywhere, use_in_project
from sessions_app.models import Budget, BudgetAction, BudgetMetric, BudgetScope
from sessions_app.services import budget_settings
from studio.kernel.errors import Forbidden, Invalid, NotFound, StudioError
from studio.kernel.pages import status_of
from studio.kernel.permissions import Role, at_least
from workspaces.models import Project
from workspaces.selectors import NO_PROJECT, project_by, role_in

SCOPES = {
    BudgetScope.TASK: ("Each task", "all its turns, in all phases"),
    BudgetScope.RUN: ("Each run", "one phase of a task: planning, work, a review"),
    BudgetScope.TURN: ("Each turn", "one prompt and the agent's work on it"),
    BudgetScope.DAY: ("The project, each day", "days begin at midnight UTC"),
    BudgetScope.PROJECT: ("The project as a whole", "since it was registered"),
}
METRICS = {BudgetMetric.COST: "US dollars", BudgetMetric.TOKENS: "tokens"}
ACTIONS = {
    BudgetAction.WARN: ("Say so, and go on", "says so, and agents go on"),
    BudgetAction.ASK: ("Wait for a person", "lets the agent wait until a person says: go on"),
    BudgetAction.STOP: ("End the turn", "ends the agent's turn"),
}


@require_http_methods(["GET", "POST"])
def budgets(request: HttpRequest, key: str) -> HttpResponse:
    """All budgets that hold in the project; a POST adds one."""
    return _budgets(request, _visible(request, key))


@require_POST
def budget(request: HttpRequest, key: str, budget_id: uuid.UUID) -> HttpResponse:
    """Change or remove one budget of the project."""
    return _budget(request, _visible(request, key), budget_id)


@require_http_methods(["GET", "POST"])
def everywhere(request: HttpRequest) -> HttpResponse:
    """The budgets that hold in every project, for an administrator; a POST adds one."""
    _administrator(request)
    return _budgets(request, None)


@require_POST
def everywhere_one(request: HttpRequest, budget_id: uuid.UUID) -> HttpResponse:
    """Change or remove a budget that holds in every project."""
    _administrator(request)
    return _budget(request, None, budget_id)


def _budgets(request: HttpRequest, project: Project | None) -> HttpResponse:
    if request.method == "GET":
        return _page(request, project)
    posted = {name: request.POST.get(name, "").strip() for name in ("scope", "metric", "amount", "action")}
    try:
        budget_settings.add_budget(
            actor=request.user,
            project=project,
            scope=posted["scope"],
            metric=posted["metric"],
            amount=_amount(posted["amount"]),
            action=posted["action"],
        )
    except NotFound:
        raise
    except StudioError as error:
        return _page(request, project, wrong={"at": "new", "message": error.message}, posted=posted, error=error)
    messages.success(request, "The budget holds from now on.")
    return _back(project)


def _budget(request: HttpRequest, project: Project | None, budget_id: uuid.UUID) -> HttpResponse:
    try:
        if request.POST.get("do") == "remove":
            budget_settings.remove_budget(actor=request.user, project=project, budget_id=budget_id)
            messages.success(request, "The budget was removed.")
        else:
            fields: dict[str, Any] = {"amount": _amount(request.POST.get("amount", "").strip())}
            fields |= {"action": request.POST.get("action", ""), "enabled": request.POST.get("enabled") == "1"}
            budget_settings.change_budget(actor=request.user, project=project, budget_id=budget_id, **fields)
            messages.success(request, "Saved.")
    except NotFound:
        raise
    except StudioError as error:
        return _page(request, project, wrong={"at": str(budget_id), "message": error.message}, error=error)
    return _back(project)


def _back(project: Project | None) -> HttpResponse:
    return redirect("project-budgets", key=project.key) if project else redirect("every-budgets")


def _visible(request: HttpRequest, key: str) -> Project:
    project = project_by(key)
    if role_in(request.user, project) is None:
        raise NotFound(NO_PROJECT)
    return project


def _administrator(request: HttpRequest) -> None:
    """Raises Forbidden; members see these budgets on their projects' pages."""
    if not getattr(request.user, "is_superuser", False):
        raise Forbidden("Budgets that hold in every project are set by an administrator.")


def _page(
    request: HttpRequest,
    project: Project | None,
    *,
    wrong: dict[str, str] | None = None,
    posted: dict[str, str] | None = None,
    error: StudioError | None = None,
) -> HttpResponse:
    uses = use_in_project(project) if project else use_everywhere()
    own = project.pk if project else None
    context = {
        "project": project,
        "own": [(use, *_words(use.budget), _address(use.budget)) for use in uses if use.budget.project_id == own],
        "everywhere": [(use, *_words(use.budget)) for use in uses if use.budget.project_id != own],
        "may_configure": project is None or at_least(role_in(request.user, project), Role.OWNER),
        "unpriced": usage.of_project(project).unpriced if project else 0,
        "scopes": [(value.value, *words) for value, words in SCOPES.items()],
        "metrics": [(value.value, words) for value, words in METRICS.items()],
        "actions": [(value.value, words[0]) for value, words in ACTIONS.items()],
        "wrong": wrong or {},
        "posted": posted or {"scope": "task", "metric": "cost", "action": "ask"},
    }
    return render(request, "sessions/budgets.html", context, status=status_of(error) if error else 200)


def _address(budget: Budget) -> str:
    """Where a change of the budget is posted to."""
    if budget.project is None:
        return reverse("every-budget", args=[budget.pk])
    return reverse("project-budget", args=[budget.project.key, budget.pk])


def _words(budget: Budget) -> tuple[str, str, str]:
    """What the budget counts, what happens when it is used up, and its amount as it is typed."""
    counts, does = SCOPES[BudgetScope(budget.scope)][0], ACTIONS[BudgetAction(budget.action)][1]
    return counts, does, f"{budget.amount.normalize():f}"


def _amount(given: str) -> Decimal:
    """A person's amount: with or without a dollar sign and thousands' commas."""
    try:
        return Decimal(given.removeprefix("$").replace(",", "").replace("_", ""))
    except InvalidOperation:
        raise Invalid("Give the amount as a number, such as 5 or 2.50.", detail={"field": "amount"}) from None
