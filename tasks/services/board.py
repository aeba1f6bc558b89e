"""Creating, editing, placing and deleting tasks. What moves them between columns is in lifecycle."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F

from studio import outbox
from studio.kernel.errors import Conflict, Invalid
from studio.kernel.permissions import Role
from studio.kernel.text import clean
from tasks import selectors
from tasks.choices import RunState
from tasks.models import Task
from tasks.services import lifecycle
from tasks.services.moves import account, card_payload, lock, record
from tasks.services.runs import active_run
from workspaces.models import Project
from workspaces.selectors import require_role
from workspaces.services import let_go

if TYPE_CHECKING:
    from tasks.services.moves import Actor

TITLE_LIMIT = 200
DESCRIPTION_LIMIT = 200_000
PRIORITY_LIMIT = 100
LABELS_LIMIT = 20
LABEL_LIMIT = 40
CLOSEST = 1e-6  # positions nearer than this are spread out again

TaskRef = Task | uuid.UUID | str


def create_task(
    *,
    actor: Actor,
    project: Project,
    title: str,
    description: str = "",
    priority: int = 0,
    labels: Sequence[str] = (),
    start: bool = False,
) -> Task:
    """A new task at the end of "To do", started at once when `start` says so (then either both happen or neither).

    Raises Invalid for input that cannot be taken, Forbidden when the role in the project is too low.
    """
    values = _checked({"title": title, "description": description, "priority": priority, "labels": labels})
    if actor is not None:
        require_role(actor, project, Role.REVIEWER)
    with transaction.atomic():
        Project.objects.filter(pk=project.pk).update(next_number=F("next_number") + 1)
        number = Project.objects.values_list("next_number", flat=True).get(pk=project.pk) - 1
        task: Task = Task.objects.create(
            project=project,
            number=number,
            key=f"{project.key}-{number}",
            position=float(number),
            created_by=account(actor),
            **values,
        )
        record(task, "create", source="", actor=actor)
        _publish(task, "task.created", title=task.title)
        if start:
            task = lifecycle.act(actor=actor, task_ref=task, action="start")
    return task


def edit_task(*, actor: Actor, task: TaskRef, version: int | None = None, **fields: Any) -> Task:
    """Change title, description, priority or labels; what an agent was already told stays as it was.

    With `version` the change is made only to that version of the task, else Conflict. Unknown fields are Invalid.
    """
    found = _writable(actor, task, Role.REVIEWER)
    values = _checked(fields)
    with transaction.atomic():
        row = lock(found.pk)
        if version is not None and version != row.version:
            raise Conflict(
                f"{row.key} was changed meanwhile (version {row.version}); read it again.",
                code="version_conflict",
                detail={"version": row.version},
            )
        changed = [name for name, value in values.items() if getattr(row, name) != value]
        if not changed:
            return row
        for name in changed:
            setattr(row, name, values[name])
        row.version += 1
        row.save(update_fields=[*changed, "version", "updated_at"])
        _publish(row, "task.updated", title=row.title, changed=sorted(changed))
    return row


def place_task(*, actor: Actor, task: TaskRef, after: TaskRef | None = None, before: TaskRef | None = None) -> Task:
    """Put a task right after or right before another of its column; with neither at the column's end.

    The order of the board is the order in which queued runs begin. Raises Invalid when the other task is elsewhere.
    """
    found = _writable(actor, task, Role.REVIEWER)
    beside = after or before
    neighbour = selectors.by_ref(actor, beside) if beside else None
    with transaction.atomic():
        row = lock(found.pk)
        column = Task.objects.filter(project_id=row.project_id, status=row.status).exclude(pk=row.pk)
        if neighbour is not None and not column.filter(pk=neighbour.pk).exists():
            raise Invalid("The other task is not in the same column any more.", detail={"field": "after"})
        row.position = _position(column, neighbour, after=after is not None)
        row.version += 1
        row.save(update_fields=["position", "version", "updated_at"])
        _publish(row, "task.updated", position=row.position, changed=["position"])
    return row


def delete_task(*, actor: Actor, task: TaskRef) -> None:
    """Delete a task with its plans, runs and reviews; what its workspace holds unmerged is kept as a patch.

    Raises Conflict while an agent is at work on it or a merge is on its way.
    """
    found = _writable(actor, task, Role.MAINTAINER)
    with transaction.atomic():
        row = lock(found.pk)
        if active_run(row) is not None or selectors.at_work(row):
            raise Conflict(f"An agent is at work on {row.key}: stop it first.", allowed=["stop"])
        if row.run_state == RunState.RUNNING:
            raise Conflict(f"{row.key} is being merged; wait until that is done.", allowed=[])
        if row.workspace is not None:
            let_go(row.workspace)
        _publish(row, "task.deleted")
        row.delete()


def _writable(actor: Actor, task: TaskRef, role: Role) -> Task:
    found = selectors.by_ref(actor, task)
    if actor is not None:
        require_role(actor, found.project, role)
    return found


def _position(column: Any, neighbour: Task | None, *, after: bool) -> float:
    """A position next to `neighbour` in its column, whose rows are spread out first when there is no room."""
    order = list(column.order_by("position", "number").values_list("pk", "position"))
    if neighbour is None:
        return float(order[-1][1]) + 1 if order else 1.0
    index = [pk for pk, _ in order].index(neighbour.pk) + (1 if after else 0)
    if index == 0:
        return float(order[0][1]) - 1
    if index == len(order):
        return float(order[-1][1]) + 1
    low, high = order[index - 1][1], order[index][1]
    if high - low < CLOSEST:
        for number, (pk, _) in enumerate(order):
            column.filter(pk=pk).update(position=float(number))
        low, high = float(index - 1), float(index)
    return float((low + high) / 2)


def _publish(task: Task, kind: str, **more: object) -> None:
    outbox.publish(task.project_id, f"task:{task.pk}", kind, {**card_payload(task), **more})


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as they are stored. Raises Invalid, naming the field."""
    checks = {"title": _title, "description": _description, "priority": _priority, "labels": _labels}
    for name in fields:
        if name not in checks:
            raise Invalid(f"“{name}” cannot be set here.", detail={"field": name})
    return {name: checks[name](value) for name, value in fields.items()}


def _title(value: Any) -> str:
    title = " ".join(clean(value).split())
    if not title:
        raise Invalid("Give the task a title.", detail={"field": "title"})
    if len(title) > TITLE_LIMIT:
        raise Invalid(
            f"The title has {len(title)} characters; {TITLE_LIMIT} are possible. Put the rest into the description.",
            detail={"field": "title", "limit": TITLE_LIMIT},
        )
    return title


def _description(value: Any) -> str:
    text = clean(value).replace("\r\n", "\n").strip()
    if len(text) > DESCRIPTION_LIMIT:
        raise Invalid(
            f"The description has {len(text):,} characters; {DESCRIPTION_LIMIT:,} are possible. "
            "Put long material into the repository and name the file here.",
            detail={"field": "description", "limit": DESCRIPTION_LIMIT},
        )
    return text


def _priority(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > PRIORITY_LIMIT:
        raise Invalid(
            f"The priority is a whole number from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}.", detail={"field": "priority"}
        )
    return value


def _labels(value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise Invalid("Labels are a list of words.", detail={"field": "labels"})
    labels = list(dict.fromkeys(" ".join(clean(label).split()) for label in value))
    if len(labels) > LABELS_LIMIT or any(not 0 < len(label) <= LABEL_LIMIT for label in labels):
        raise Invalid(
            f"At most {LABELS_LIMIT} labels of 1 to {LABEL_LIMIT} characters are possible.", detail={"field": "labels"}
        )
    return labels
