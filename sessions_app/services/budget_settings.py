"""Setting the budgets of a project, and those that hold in every project."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction

from sessions_app.models import Budget, BudgetAction, BudgetHit, BudgetMetric, BudgetScope
from studio.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from studio.kernel.permissions import Role
from studio.queue import Names, enqueue
from workspaces.models import Project
from workspaces.selectors import require_role

SMALLEST = Decimal("0.0001")  # what the column distinguishes
# The smallest and the largest amount by metric: what the column holds, and what can mean anything.
AMOUNTS = {
    BudgetMetric.COST: (SMALLEST, Decimal(1_000_000)),
    BudgetMetric.TOKENS: (Decimal(1), Decimal(9_999_999_999)),
}
CHANGEABLE = ("amount", "action", "enabled")


def add_budget(
    *, actor: Any, project: Project | None, scope: str, metric: str, amount: Decimal, action: str, enabled: bool = True
) -> Budget:
    """A new budget of the project, for its owner; without a project it holds in each of them, for a superuser.

    Raises Conflict (`budget_exists`) when there is one for the same.
    """
    _may(actor, project)
    if scope not in BudgetScope.values:
        raise Invalid(f"A budget counts one of: {', '.join(BudgetScope.values)}.", detail={"field": "scope"})
    if metric not in BudgetMetric.values:
        raise Invalid(f"A budget counts one of: {', '.join(BudgetMetric.values)}.", detail={"field": "metric"})
    budget = Budget(project=project, scope=scope, metric=metric, enabled=enabled)
    budget.amount, budget.action = checked_amount(metric, amount), _checked_action(action)
    _save(budget)
    return budget


def change_budget(*, actor: Any, project: Project | None, budget_id: uuid.UUID | str, **fields: Any) -> Budget:
    """Change the amount, what happens, or whether it holds at all. With another amount it begins to count what people have
    granted, and whom it has warned, anew.

    Raises NotFound for a budget that is not the project's own.
    """
    _may(actor, project)
    budget = own_budget(project, budget_id)
    if unknown := set(fields) - set(CHANGEABLE):
        raise Invalid("Of a budget only the amount, the action and enabled change.", detail={"field": unknown.pop()})
    if "amount" in fields:
        fields["amount"] = checked_amount(budget.metric, fields["amount"])
    if "action" in fields:
        fields["action"] = _checked_action(fields["action"])
    anew = "amount" in fields and fields["amount"] != budget.amount
    for name, value in fields.items():
        setattr(budget, name, value)
    with transaction.atomic():
        if anew:
            BudgetHit.objects.filter(budget=budget).delete()
        _save(budget)
    return budget


def remove_budget(*, actor: Any, project: Project | None, budget_id: uuid.UUID | str) -> None:
    """Take a budget away; turns that wait because of it go on. Raises NotFound for one that is not the project's own."""
    _may(actor, project)
    with transaction.atomic():
        own_budget(project, budget_id).delete()
        enqueue(Names.RECONSIDER_BUDGETS)


def own_budget(project: Project | None, budget_id: uuid.UUID | str) -> Budget:
    """The budget, if it is the project's own (without a project: if it holds everywhere). Raises NotFound."""
    found = Budget.objects.filter(pk=budget_id, project=project).first()
    if found is None:
        raise NotFound("There is no such budget here.")
    return found


def checked_amount(metric: str, amount: Decimal) -> Decimal:
    """The amount as it is stored; raises Invalid for one that means nothing."""
    least, most = AMOUNTS[BudgetMetric(metric)]
    if not amount.is_finite() or not least <= amount <= most:
        unit = "US dollars" if metric == BudgetMetric.COST else "tokens"
        raise Invalid(f"Give an amount from {least:f} to {most:,f} {unit}.", detail={"field": "amount"})
    if metric == BudgetMetric.TOKENS and amount != amount.to_integral_value():
        raise Invalid("Tokens are counted in whole numbers.", detail={"field": "amount"})
    stored = amount.quantize(SMALLEST)
    if stored != amount:
        raise Invalid("Give at most four digits after the point.", detail={"field": "amount"})
    return stored


def _checked_action(action: str) -> str:
    if action not in BudgetAction.values:
        raise Invalid("Choose warn, ask or stop.", detail={"field": "action"})
    return action


def _save(budget: Budget) -> None:
    try:
        with transaction.atomic():
            budget.save()
            enqueue(Names.RECONSIDER_BUDGETS)
    except IntegrityError as error:
        raise Conflict(
            "There is a budget for this already: change that one.", code="budget_exists", allowed=[]
        ) from error


def _may(actor: Any, project: Project | None) -> None:
    """Raises NotFound or Forbidden; an actor of None is the studio itself."""
    if actor is None:
        return
    if project is not None:
        require_role(actor, project, Role.OWNER)
    elif not actor.is_superuser:
        raise Forbidden("Budgets that hold in every project are set by an administrator.")
