"""Reading budgets: what each counts, how far it is used, and which of them a turn has reached. Changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django.db.models import F, Q, QuerySet, Sum

from sessions_app.models import (
    AgentSession,
    Budget,
    BudgetAction,
    BudgetHit,
    BudgetMetric,
    BudgetScope,
    Turn,
    TurnOutcome,
    TurnState,
    Usage,
)
from sessions_app.usage import today

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
# The same of what ended before the turn that is about to be sent.
BEFORE = {BudgetScope.TURN: "The turn before this one", BudgetScope.RUN: "The run before this one"}
TOKENS = F("tokens_input") + F("tokens_output") + F("tokens_reasoning")

Sums = dict[tuple[str, str], dict[str, Decimal]]  # (scope, whose) -> metric -> how much


@dataclass(frozen=True, slots=True)
class Reached:
    """A budget that is used up: `counted` names what it counts, `limit` is its amount with what people have granted.

    `before`: what used it up has ended; the turn that is looked at only comes after it.
    """

    budget: Budget
    counted: str
    used: Decimal
    limit: Decimal
    before: bool = False

    @property
    def sentence(self) -> str:
        """What has been used, in words, such as "This task has used $1.02 of $1.00"."""
        scope = BudgetScope(self.budget.scope)
        who = BEFORE[scope] if self.before else WHO[scope]
        when = " today" if scope == BudgetScope.DAY else ""
        if self.budget.metric == BudgetMetric.COST:
            return f"{who} has used {dollars(self.used)} of {dollars(self.limit)}{when}"
        return f"{who} has used {int(self.used):,} of {int(self.limit):,} tokens{when}"


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
    granted = granted_on(budgets, {counted_as(scope, whose) for one in keys.values() for scope, whose in one.items()})
    found: dict[uuid.UUID, list[Reached]] = {}
    for turn in turns:
        over = [
            one
            for budget in budgets
            if budget.project_id in (None, turn.session.project_id)
            and (one := _judge(budget, keys[turn.pk].get(budget.scope, ""), sums, granted))
        ]
        if over:
            found[turn.pk] = sorted(over, key=_strictest_first)
    return found


def barring(turn: Turn) -> list[Reached]:
    """What a turn that is to be sent has used up, the strictest first, and what the last turn of its task used up with its
    last step: nobody could be asked about that in time, so it is asked, or refused, before the next one begins.

    A last turn that failed or was stopped bars nothing: a person has decided since.
    """
    own = reached_by([turn]).get(turn.pk, [])
    last = _last_before(turn) if turn.started_at is None else None
    if last is None or last.outcome != TurnOutcome.COMPLETED or last.settled_at is None:
        return own
    known = {(one.budget.pk, one.counted) for one in own}
    earlier = [
        replace(one, before=True)
        for one in reached_by([last]).get(last.pk, [])
        if one.budget.scope in BEFORE
        and one.budget.action != BudgetAction.WARN
        and one.budget.created_at <= last.settled_at
        and (one.budget.pk, one.counted) not in known
    ]
    return sorted([*own, *earlier], key=_strictest_first)


def _last_before(turn: Turn) -> Turn | None:
    """The turn that ended last in the same task; without a task, in the same session."""
    subject = turn.session.subject
    same = Q(session__subject=subject) if subject else Q(session=turn.session_id)
    ended = Turn.objects.filter(same, state=TurnState.SETTLED).exclude(pk=turn.pk)
    return ended.select_related("session").defer("prompt", "system", "result_text").order_by("-settled_at").first()


def _strictest_first(one: Reached) -> int:
    return -STRICTNESS[BudgetAction(one.budget.action)]


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
        for row in sums_of(scope, whose):
            amounts = {BudgetMetric.COST.value: row["cost"], BudgetMetric.TOKENS.value: Decimal(row["tokens"])}
            sums[scope, str(row["whose"])] = amounts
    return sums


def sums_of(scope: str, whose: Iterable[str]) -> QuerySet[Any, Any]:
    """Rows of `whose`, `cost` and `tokens`: what each of them has used."""
    field = COUNTED_BY[BudgetScope(scope)]
    # A project's steps may be a million; its sessions carry the same sums and are few.
    model: type[AgentSession] | type[Usage] = AgentSession if scope == BudgetScope.PROJECT else Usage
    wanted: dict[str, Any] = {f"{field}__in": list(whose)}
    if scope == BudgetScope.DAY:
        wanted["day"] = today()
    rows: QuerySet[Any] = model._default_manager.filter(**wanted)
    sums: QuerySet[Any, Any] = rows.order_by().values(whose=F(field)).annotate(cost=Sum("cost"), tokens=Sum(TOKENS))
    return sums


def used_for(budget: Budget, counted: str) -> Decimal:
    """What of the budget's metric has been used by what a hit counts."""
    whose, _, _ = counted.partition(":")
    return sum((Decimal(row[budget.metric] or 0) for row in sums_of(budget.scope, [whose])), Decimal(0))


def granted_on(budgets: Sequence[Budget], counted: Iterable[str]) -> dict[tuple[uuid.UUID, str], Decimal]:
    """What people have granted on top of budgets."""
    hits = BudgetHit.objects.filter(budget__in=budgets, counted__in=list(counted), allowance__gt=0)
    return {(budget, name): allowance for budget, name, allowance in hits.values_list("budget", "counted", "allowance")}
