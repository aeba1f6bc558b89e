"""What a project's agents used, prepared for its page: today, by day, by model and by task, with bars."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from sessions_app.models import Usage
from sessions_app.usage import Used, grouped, today, total
from tasks.models import Task
from workspaces.models import Project

DAYS = 30
MODELS = 12
TASKS = 12


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table; `part` is its bar, of the longest one in hundredths."""

    label: str
    used: Used
    part: int
    key: str = ""  # of a task that still exists
    day: date | None = None


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Everything that the page of a project's usage reads."""

    whole: Used
    today: Used
    month: Used  # the last DAYS days
    days: list[Row]
    models: list[Row]
    tasks: list[Row]


def usage_page(project: Project) -> UsagePage:
    """The usage of a project; a handful of queries, however much was used."""
    rows = Usage.objects.filter(project=project)
    last = today()
    month = rows.filter(day__gt=last - timedelta(days=DAYS), day__lte=last)
    by_task = list(grouped(month, "task")[:TASKS])
    tasks = tasks_by_id(row["of"] for row in by_task)
    return UsagePage(
        whole=total(rows),
        today=total(rows.filter(day=last)),
        month=total(month),
        days=_days(list(grouped(month, "day")), last),
        models=_bars([(row["of"] or "not known", "", _used(row)) for row in grouped(month, "model")[:MODELS]]),
        tasks=_bars([(*_task_words(tasks.get(row["of"])), _used(row)) for row in by_task]),
    )


def tasks_by_id(subjects: Iterable[Any]) -> dict[str, Task]:
    """The tasks that sessions were for, by their ids as text; what is no task, or gone, is left out."""
    ids = []
    for subject in subjects:
        try:
            ids.append(uuid.UUID(str(subject)))
        except ValueError:
            continue
    return {str(task.pk): task for task in Task.objects.filter(pk__in=ids).only("key", "title", "status")}


def _days(rows: list[dict[str, Any]], last: date) -> list[Row]:
    """Each day from the first one that used something to the present one, newest first."""
    used = {row["of"]: _used(row) for row in rows}
    if not used:
        return []
    days = [last - timedelta(days=ago) for ago in range((last - min(used)).days + 1)]
    bars = _bars([(day.isoformat(), "", used.get(day, Used())) for day in days])
    return [Row(bar.label, bar.used, bar.part, day=day) for bar, day in zip(bars, days, strict=True)]


def _bars(lines: list[tuple[str, str, Used]]) -> list[Row]:
    """The lines with bars by cost, or by tokens where nothing has a price."""
    priced = any(used.cost for _, _, used in lines)
    sizes = [used.cost if priced else Decimal(used.tokens) for _, _, used in lines]
    longest = max(sizes, default=Decimal(0)) or Decimal(1)
    return [
        Row(label, used, part=int(100 * size / longest), key=key)
        for (label, key, used), size in zip(lines, sizes, strict=True)
    ]


def _task_words(task: Task | None) -> tuple[str, str]:
    return (task.title, task.key) if task is not None else ("Something that is no task any more", "")


def _used(row: dict[str, Any]) -> Used:
    names = ("input", "output", "reasoning", "cached", "steps", "unpriced")
    return Used(cost=row["cost"] or Decimal(0), **{name: row[name] or 0 for name in names})
