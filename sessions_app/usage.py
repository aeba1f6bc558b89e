"""Reading what agents used: sums of any stretch of steps, and the same by day, task, model or role."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db.models import Count, F, Q, QuerySet, Sum

from sessions_app.models import Usage
from studio.kernel.clock import now
from workspaces.models import Project
from workspaces.selectors import projects_visible_to

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

# How usage can be summed up, and the order of the sums: days newest first, the rest by what costs most.
GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "day": ("day", ("-day",)),
    "task": ("subject", ("-cost", "-all_tokens", "subject")),
    "model": ("model", ("-cost", "-all_tokens", "model")),
    "role": ("role", ("-cost", "-all_tokens", "role")),
}
USED_SOMETHING = Q(tokens_input__gt=0) | Q(tokens_output__gt=0) | Q(tokens_reasoning__gt=0) | Q(tokens_cached__gt=0)
UNPRICED = Q(cost=0) & USED_SOMETHING
SUMS: dict[str, Any] = {
    "unpriced": Count("pk", filter=UNPRICED),  # first: after it "cost" means the sum
    "cost": Sum("cost"),
    "input": Sum("tokens_input"),
    "output": Sum("tokens_output"),
    "reasoning": Sum("tokens_reasoning"),
    "cached": Sum("tokens_cached"),
    "steps": Count("pk"),
}


@dataclass(frozen=True, slots=True)
class Used:
    """What one step, or many together, used.

    `unpriced` counts the steps whose price nobody has told: what they cost is not known, it is not nothing.
    """

    cost: Decimal = Decimal(0)  # US dollars
    input: int = 0
    output: int = 0
    reasoning: int = 0
    cached: int = 0
    steps: int = 0
    unpriced: int = 0

    @property
    def tokens(self) -> int:
        """In and out, reasoning included, cached not: what budgets count."""
        return self.input + self.output + self.reasoning

    @property
    def priced(self) -> bool:
        """Whether a cost can be said at all: something was priced, or nothing was used."""
        return self.cost > 0 or not self.unpriced


def visible_usage(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Usage]:
    """The steps of the projects that `user` may see."""
    return Usage.objects.filter(project__in=projects_visible_to(user))


def total(rows: QuerySet[Usage]) -> Used:
    """What the steps used together."""
    sums = rows.order_by().aggregate(**SUMS)
    counts = {name: int(value or 0) for name, value in sums.items() if name != "cost"}
    return Used(cost=sums["cost"] or Decimal(0), **counts)


def of_turn(turn_id: uuid.UUID | str) -> Used:
    """What one turn has used, its sub-agents included."""
    return total(Usage.objects.filter(turn_id=turn_id))


def of_run(run: uuid.UUID | str) -> Used:
    """What the turns of one run have used."""
    return total(Usage.objects.filter(run=str(run)))


def of_task(subject: uuid.UUID | str) -> Used:
    """What the sessions of one task have used."""
    return total(Usage.objects.filter(subject=str(subject)))


def of_project(project: Project) -> Used:
    """What a project has used since it was registered."""
    return total(Usage.objects.filter(project=project))


def of_day(project: Project, day: date | None = None) -> Used:
    """What a project has used on a day (UTC), by default today."""
    return total(Usage.objects.filter(project=project, day=day or today()))


def today() -> date:
    """The present day in UTC: the same for everybody."""
    return day_of(now())


def day_of(at: datetime) -> date:
    """The day that a moment belongs to."""
    return at.astimezone(UTC).date()


def grouped(rows: QuerySet[Usage], by: str) -> QuerySet[Any, Any]:
    """One sum for each day, task, model or role: `of` names it, the rest are the fields of `Used`."""
    field, order = GROUPS[by]
    sums = rows.order_by().values(of=F(field)).annotate(**SUMS, all_tokens=Sum(F("tokens_input") + F("tokens_output")))
    return sums.order_by(*("-of" if name == "-day" else "of" if name == field else name for name in order))
