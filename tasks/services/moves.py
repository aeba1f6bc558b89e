"""Every change of a task's column, and of what its card shows, in one place."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Max, Min
from django_fsm import ConcurrentTransition, TransitionNotAllowed, can_proceed

from sessions_app.services.turns import lock_sessions_in
from studio import outbox
from studio.kernel.clock import now
from studio.kernel.errors import Conflict, NotFound
from studio.kernel.text import clean, cut
from tasks import selectors
from tasks.actions import AT_REST, possible_for
from tasks.choices import Needs, RunState, Status
from tasks.models import PhaseRun, Task, TaskHistory
from workspaces.setup.servers import want_at_review

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User

    # Who does something; None is the studio itself.
    Actor = AbstractBaseUser | AnonymousUser | None

STUDIO = "studio"
REASON_LIMIT = 2000  # characters of a card's reason
PAYLOAD_REASON = 200  # of it in a feed event, which stays below 1 kB

# Two transitions are one action with two outcomes; the history names the action.
ACTION_NAMES = {"plan_accepted": "plan_ready", "ai_give_up": "ai_request_changes"}


@dataclass(frozen=True, slots=True)
class Card:
    """What a card shows beside its column."""

    run_state: str = RunState.IDLE
    needs: str = Needs.NOTHING
    reason: str = ""
    error_code: str = ""


QUEUED = Card(RunState.QUEUED)
RUNNING = Card(RunState.RUNNING)
STOPPED = Card(RunState.STOPPED, Needs.RESUME)


def lock(task_id: uuid.UUID | str) -> Task:
    """The task as it is now, held until the end of the caller's transaction. Whoever changes anything of a task or of
    its runs takes this lock first. Raises NotFound."""
    task: Task | None = (
        Task.objects.select_for_update(of=("self",)).select_related("project").filter(pk=task_id).first()
    )
    if task is None:
        raise NotFound("This task does not exist any more.")
    return task


def hold_sessions(task: Task) -> None:
    """Let no message open a turn in the checkout of a locked task before the caller's transaction has ended.

    Whoever looks for turns there, to stop them all or to take the checkout as it lies there, takes this before looking, and
    before anything is published: a turn that ends holds its session first and the feed's row then.
    """
    if task.workspace_id is not None:
        lock_sessions_in(task.workspace_id)


def move(
    task_id: uuid.UUID | str,
    transition: str,
    *,
    card: Card,
    actor: Actor = None,
    reason: str = "",
    run: PhaseRun | None = None,
) -> Task:
    """Move a task to another column: transition, history row and feed event in one transaction; the moved task.

    `actor` None is the studio itself. Raises Conflict, with the actions that the state does allow, when the transition is
    not possible now.
    """
    with transaction.atomic():
        task = lock(task_id)
        method = getattr(task, transition)
        if not can_proceed(method):
            raise not_allowed(task, ACTION_NAMES.get(transition, transition))
        source = task.status
        try:
            method()
            task.position = _place(task)
            _set_card(task, card)
            task.save()
        except (TransitionNotAllowed, ConcurrentTransition) as error:
            raise not_allowed(task, ACTION_NAMES.get(transition, transition)) from error
        action = ACTION_NAMES.get(transition, transition)
        record(task, action, source=source, actor=actor, reason=reason, run=run)
        if task.status == Status.REVIEW and task.workspace is not None:
            want_at_review(task.workspace)
        outbox.publish(
            task.project_id,
            f"task:{task.pk}",
            "task.moved",
            {**card_payload(task), "from": source, "to": task.status, "action": action, "position": task.position},
        )
    return task


def show(task: Task, card: Card, *, run: PhaseRun | None = None) -> None:
    """Change what the card of a locked task shows, and tell the feed. Belongs into the transaction that makes it true."""
    _set_card(task, card)
    task.save(update_fields=["run_state", "needs", "reason", "error_code", "version", "updated_at"])
    payload = card_payload(task)
    if run is not None:
        payload |= {"run": str(run.pk), "phase": run.phase, "round": run.round, "state": run.state}
    outbox.publish(task.project_id, f"task:{task.pk}", "run.state", payload)


def record(
    task: Task,
    action: str,
    *,
    source: str | None = None,
    actor: Actor = None,
    reason: str = "",
    run: PhaseRun | None = None,
) -> None:
    """Write a history row: a move when `source` differs from the task's column, else a decision that kept it there."""
    TaskHistory.objects.create(
        task=task,
        action=action,
        from_status=task.status if source is None else source,
        to_status=task.status,
        actor=account(actor),
        actor_name=actor.get_username() if actor is not None else STUDIO,
        reason=clean(reason),
        run=run,
        at=now(),
    )


def account(actor: Actor) -> User | None:
    """The account behind `actor`; None for the studio itself."""
    return actor if isinstance(actor, get_user_model()) else None


def not_allowed(task: Task, action: str) -> Conflict:
    """The refusal of `action` in the task's present state."""
    allowed = possible_for(task)
    column = Status(task.status).label
    if task.status in (Status.REVIEW, Status.DONE) and task.run_state == RunState.RUNNING:
        doing = "merged or proposed" if task.status == Status.REVIEW else "taken back"
        return Conflict(f"{task.key} is being {doing}; wait until that is done.", allowed=allowed)
    if action in AT_REST and selectors.at_work(task):
        return at_work_refusal(task)
    return Conflict(
        f"“{action}” is not possible while {task.key} is in {column} ({RunState(task.run_state).label}).",
        allowed=allowed,
    )


def at_work_refusal(task: Task) -> Conflict:
    """The refusal of what takes the checkout as it lies there while an agent works in it."""
    return Conflict(
        f"An agent is still at work in the checkout of {task.key}: stop it, or wait until it has ended.",
        allowed=possible_for(task),
        code="agent_at_work",
    )


def tell(task: Task, *changed: str) -> None:
    """Tell the feed that what the task's page says has changed in `changed`, which are no columns of the task."""
    payload = {**card_payload(task), "changed": sorted(changed)}
    outbox.publish(task.project_id, f"task:{task.pk}", "task.updated", payload)


def card_payload(task: Task) -> dict[str, object]:
    """What a feed event says of a card."""
    return {
        "task": str(task.pk),
        "key": task.key,
        "status": task.status,
        "run_state": task.run_state,
        "needs": task.needs,
        "reason": cut(task.reason, PAYLOAD_REASON),
        "version": task.version,
    }


def _set_card(task: Task, card: Card) -> None:
    task.run_state, task.needs, task.error_code = card.run_state, card.needs, card.error_code
    task.reason = cut(clean(card.reason), REASON_LIMIT)
    task.version += 1


def _place(task: Task) -> float:
    """Where a task arrives in its new column: at the end, and what is finished at the top."""
    column = Task.objects.filter(project_id=task.project_id, status=task.status).exclude(pk=task.pk)
    if task.status in (Status.DONE, Status.CANCELLED):
        first = column.aggregate(first=Min("position"))["first"]
        return 0.0 if first is None else float(first) - 1
    last = column.aggregate(last=Max("position"))["last"]
    return 1.0 if last is None else float(last) + 1
