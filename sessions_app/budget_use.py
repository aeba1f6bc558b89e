"""How far budgets are used, for those who read them: pages and the API. Changes nothing."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.db.models import Q

from sessions_app.budget_state import budgets_for, counted_as, granted_on, sums_of
from sessions_app.models import AgentSession, Budget, BudgetHit, BudgetScope, Turn
from workspaces.models import Project

WHOLE = (BudgetScope.PROJECT, BudgetScope.DAY)  # what a project has one of
HITS_READ = 200  # the newest that are looked at
HITS_SHOWN = 3  # of one budget


@dataclass(frozen=True, slots=True)
class Hit:
    """What has used a budget up that counts single turns, runs or tasks: `session` is (one of) its sessions."""

    session: AgentSession
    used: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """A budget and how far it is used; for budgets of a turn, a run or a task there is no single use (None), but the
    newest of them that have used it up."""

    budget: Budget
    used: Decimal | None
    limit: Decimal
    hits: list[Hit] = field(default_factory=list)

    @property
    def percent(self) -> int:
        """How much of it is used, at most 100."""
        return min(100, int(100 * (self.used or 0) / self.limit))

    @property
    def reached(self) -> bool:
        """Whether it is used up, by anything that nobody has granted more."""
        return bool(self.hits) or (self.used is not None and self.used >= self.limit)


def use_in_project(project: Project) -> list[BudgetUse]:
    """The project's budgets and those that hold everywhere, with the present use of those that count the whole project."""
    rows = (
        Budget.objects.filter(Q(project=project) | Q(project=None))
        .select_related("project")
        .order_by("scope", "metric", "amount")
    )
    own_first = sorted(rows, key=lambda one: (one.project_id is None, list(BudgetScope).index(BudgetScope(one.scope))))
    hits = _hits(project, [one for one in own_first if one.scope not in WHOLE])
    return _uses(own_first, {scope.value: str(project.pk) for scope in WHOLE}, hits)


def use_everywhere() -> list[BudgetUse]:
    """The budgets that hold in every project; each project uses its own."""
    rows = Budget.objects.filter(project=None).order_by("scope", "metric", "amount")
    return [BudgetUse(one, None, one.amount) for one in rows]


def use_of_task(project: Project, subject: str) -> list[BudgetUse]:
    """The enabled budgets that count the task as a whole, with their use."""
    return _uses(
        [one for one in budgets_for([project.pk]) if one.scope == BudgetScope.TASK], {BudgetScope.TASK.value: subject}
    )


def _uses(
    budgets: list[Budget], whose: Mapping[str, str], hits: Mapping[uuid.UUID, list[Hit]] | None = None
) -> list[BudgetUse]:
    scopes = {budget.scope for budget in budgets} & set(whose)
    sums = {scope: next(iter(sums_of(scope, [whose[scope]])), None) for scope in scopes}
    granted = granted_on(budgets, [counted_as(scope, one) for scope, one in whose.items()])
    uses = []
    for budget in budgets:
        used: Decimal | None = None
        limit = budget.amount
        if budget.scope in scopes:
            row = sums[budget.scope]
            used = Decimal((row or {}).get(budget.metric) or 0)
            limit += granted.get((budget.pk, counted_as(budget.scope, whose[budget.scope])), Decimal(0))
        uses.append(BudgetUse(budget, used, limit, (hits or {}).get(budget.pk, [])))
    return uses


def _hits(project: Project, budgets: Sequence[Budget]) -> dict[uuid.UUID, list[Hit]]:
    """The newest turns, runs and tasks of the project that have used each of the budgets up; three queries at most."""
    limits = {budget.pk: budget for budget in budgets}
    rows = BudgetHit.objects.filter(budget__in=limits).order_by("-at")[:HITS_READ]
    open_ones = [hit for hit in rows if hit.used >= limits[hit.budget_id].amount + hit.allowance]
    names = {hit.counted for hit in open_ones}
    if not names:
        return {}
    sessions: dict[str, AgentSession] = {}
    for turn in Turn.objects.filter(
        Q(pk__in=_ids(names)) | Q(tool_subject__in=names), session__project=project
    ).select_related("session"):
        sessions[str(turn.pk)] = sessions[turn.tool_subject] = turn.session
    for session in AgentSession.objects.filter(project=project, subject__in=names).order_by("created_at"):
        sessions[session.subject] = session
    found: dict[uuid.UUID, list[Hit]] = defaultdict(list)
    for hit in open_ones:
        if hit.counted in sessions and len(found[hit.budget_id]) < HITS_SHOWN:
            found[hit.budget_id].append(Hit(sessions[hit.counted], hit.used, hit.at))
    return found


def _ids(names: set[str]) -> list[uuid.UUID]:
    """Those of the names that are ids."""
    ids = []
    for name in names:
        try:
            ids.append(uuid.UUID(name))
        except ValueError:
            continue
    return ids
