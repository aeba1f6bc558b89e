"""Reading budgets: what each counts, how far it is used, and which of them a turn has reached. Changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import F, Q, QuerySet, Sum

from sessions_app.models import AgentSession, Budget, BudgetAction, BudgetHit, BudgetMetric, BudgetScope, Turn, Usage
from sessions_app.usage import today
from workspaces.models import Project

# Of several budgets that are reached at once the strictest acts.
STRICTNESS = {BudgetAction.STOP: 2, BudgetAction.ASK: 1, BudgetAction.WARN: 0}
WHO = {
    BudgetScope.TURN: "This turn",
    BudgetScope.RUN: "This run",
    BudgetScope.TASK: "This task",
    BudgetScope.PROJECT: "This project",
    BudgetScope.DAY: "This project",
}
# The column by which each scope's steps are found.
COUNTED_BY = {
    BudgetScope.TURN: "turn_id",
    BudgetScope.RUN: "run",
    BudgetScope.TASK: "subject",
    BudgetScope.PROJECT: "project_id",
    BudgetScope.DAY: "project_id",
}
TOKENS = F("tokens_input") + F("tokens_output") + F("tokens_reasoning")

Sums = dict[tuple[str, str], dict[str, Decimal]]  # (scope, whose) -> metric -> how much


@dataclass(frozen=True, slots=True)
class Reached:
    """A budget that is used up: `counted` names what it counts, `limit` is its amount with what people have granted."""

    budget: Budget
    counted: str
    used: Decimal
    limit: Decimal

    @property
    def sentence(self) -> str:
        """What has been used, in words."""
        return said(self.budget.scope, self.budget.metric, self.used, self.limit)


def said(scope: str, metric: str, used: Decimal, limit: Decimal) -> str:
    """Such as "This task has used $1.02 of $1.00"."""
    when = " today" if scope == BudgetScope.DAY else ""
    if metric == BudgetMetric.COST:
        return f"{WHO[BudgetScope(scope)]} has used {dollars(used)} of {dollars(limit)}{when}"
    return f"{WHO[BudgetScope(scope)]} has used {int(used):,} of {int(limit):,} tokens{when}"


def dollars(amount: Decimal) -> str:
    """Cents, and more digits only where cents would say nothing."""
    return f"${amount:.2f}" if amount >= Decimal("0.1") or not amount else f"${amount:.4f}"


def budgets_for(projects: Iterable[uuid.UUID]) -> list[Budget]:
    """The enabled budgets of these projects, and those that hold everywhere."""
    mine = Q(project__in=set(projects)) | Q(project=None)
    return list(Budget.objects.filter(mine, enabled=True).order_by("created_at"))


def reached_by(turns: Sequence[Turn]) -> dict[uuid.UUID, list[Reached]]:
    """What each of the turns (with their sessions) has used up, the strictest first; turns that are within all are left out.

    The number of queries depends on the scopes that have a budget, never on the number of turns.
    """
    budgets = budgets_for(turn.session.project_id for turn in turns)
    if not budgets:
        return {}
    sums = used_so_far(turns, {budget.scope for budget in budgets})
    keys = {turn.pk: keys_of(turn) for turn in turns}
    granted = _granted(budgets, {counted_as(scope, whose) for one in keys.values() for scope, whose in one.items()})
    found: dict[uuid.UUID, list[Reached]] = {}
    for turn in turns:
        over = [
            one
            for budget in budgets
            if budget.project_id in (None, turn.session.project_id)
            and (one := _judge(budget, keys[turn.pk].get(budget.scope, ""), sums, granted))
        ]
        if over:
            found[turn.pk] = sorted(over, key=lambda one: -STRICTNESS[BudgetAction(one.budget.action)])
    return found


def _judge(budget: Budget, whose: str, sums: Sums, granted: Mapping[tuple[uuid.UUID, str], Decimal]) -> Reached | None:
    if not whose:
        return None
    used = sums.get((budget.scope, whose), {}).get(budget.metric, Decimal(0))
    counted = counted_as(budget.scope, whose)
    limit = budget.amount + granted.get((budget.pk, counted), Decimal(0))
    return Reached(budget, counted, used, limit) if used >= limit else None


def keys_of(turn: Turn) -> dict[str, str]:
    """What a turn counts towards, by scope; a turn without a task or a run has none of that."""
    session = turn.session
    found = {
        BudgetScope.TURN: str(turn.pk),
        BudgetScope.RUN: turn.tool_subject,
        BudgetScope.TASK: session.subject,
        BudgetScope.PROJECT: str(session.project_id),
        BudgetScope.DAY: str(session.project_id),
    }
    return {scope.value: whose for scope, whose in found.items() if whose}


def counted_as(scope: str, whose: str) -> str:
    """The name under which a budget remembers that it was reached: each day has its own."""
    return f"{whose}:{today().isoformat()}" if scope == BudgetScope.DAY else whose


def used_so_far(turns: Sequence[Turn], scopes: Iterable[str]) -> Sums:
    """What the turns' tasks, runs, projects and so on have used: one query a scope."""
    wanted = {scope: {keys_of(turn).get(scope, "") for turn in turns} - {""} for scope in set(scopes)}
    sums: Sums = {}
    for scope, whose in wanted.items():
        for row in _sums(scope, whose):
            amounts = {BudgetMetric.COST.value: row["cost"], BudgetMetric.TOKENS.value: Decimal(row["tokens"])}
            sums[scope, str(row["whose"])] = amounts
    return sums


def _sums(scope: str, whose: Iterable[str]) -> QuerySet[Any, Any]:
    field = COUNTED_BY[BudgetScope(scope)]
    # A project's steps may be a million; its sessions carry the same sums and are few.
    model: type[AgentSession] | type[Usage] = AgentSession if scope == BudgetScope.PROJECT else Usage
    wanted: dict[str, Any] = {f"{field}__in": list(whose)}
    if scope == BudgetScope.DAY:
        wanted["day"] = today()
    rows: QuerySet[Any] = model._default_manager.filter(**wanted)
    sums: QuerySet[Any, Any] = rows.order_by().values(whose=F(field)).annotate(cost=Sum("cost"), tokens=Sum(TOKENS))
    return sums


def _granted(budgets: Sequence[Budget], counted: Iterable[str]) -> dict[tuple[uuid.UUID, str], Decimal]:
    """What people have granted on top of budgets."""
    hits = BudgetHit.objects.filter(budget__in=budgets, counted__in=list(counted), allowance__gt=0)
    return {(budget, name): allowance for budget, name, allowance in hits.values_list("budget", "counted", "allowance")}


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """A budget and how far it is used; for budgets of a turn, a run or a task there is no single use (None)."""

    budget: Budget
    used: Decimal | None
    limit: Decimal

    @property
    def percent(self) -> int:
        """How much of it is used, at most 100."""
        return min(100, int(100 * (self.used or 0) / self.limit))


def use_in_project(project: Project) -> list[BudgetUse]:
    """The project's budgets and those that hold everywhere, with the present use of those that count the whole project."""
    rows = Budget.objects.filter(Q(project=project) | Q(project=None)).order_by("scope", "metric", "amount")
    whole = (BudgetScope.PROJECT, BudgetScope.DAY)
    own_first = sorted(rows, key=lambda one: (one.project_id is None, list(BudgetScope).index(BudgetScope(one.scope))))
    return _uses(own_first, {scope.value: str(project.pk) for scope in whole})


def use_everywhere() -> list[BudgetUse]:
    """The budgets that hold in every project; each project uses its own."""
    rows = Budget.objects.filter(project=None).order_by("scope", "metric", "amount")
    return [BudgetUse(one, None, one.amount) for one in rows]


def use_of_task(project: Project, subject: str) -> list[BudgetUse]:
    """The enabled budgets that count the task as a whole, with their use."""
    return _uses(
        [one for one in budgets_for([project.pk]) if one.scope == BudgetScope.TASK], {BudgetScope.TASK.value: subject}
    )


def _uses(budgets: list[Budget], whose: Mapping[str, str]) -> list[BudgetUse]:
    scopes = {budget.scope for budget in budgets} & set(whose)
    sums = {scope: next(iter(_sums(scope, [whose[scope]])), None) for scope in scopes}
    granted = _granted(budgets, [counted_as(scope, one) for scope, one in whose.items()])
    uses = []
    for budget in budgets:
        used: Decimal | None = None
        limit = budget.amount
        if budget.scope in scopes:
            row = sums[budget.scope]
            used = Decimal((row or {}).get(budget.metric) or 0)
            limit += granted.get((budget.pk, counted_as(budget.scope, whose[budget.scope])), Decimal(0))
        uses.append(BudgetUse(budget, used, limit))
    return uses
