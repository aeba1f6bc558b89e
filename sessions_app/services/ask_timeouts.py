"""What happens to asks that nobody answers in time, as the project's policy says. Any number of sweepers is safe."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction

from sessions_app.models import Ask, AskKind, AskPolicy, AskReply, AskState, AskTimeout
from sessions_app.services import budgets
from sessions_app.services.abort import request_abort
from sessions_app.services.ask_rows import by_policy, close_row, due_from, publish
from sessions_app.services.asks import undelivered
from sessions_app.services.turns import lock_session
from studio.kernel.clock import now
from studio.kernel.errors import Invalid
from studio.kernel.permissions import Role
from studio.queue import Names, enqueue
from workspaces.models import Project
from workspaces.selectors import require_role

EXPIRED = "ask_expired"
IN_VAIN = "Nobody answered in time. Go on without it, or find another way."
LONGEST_MINUTES = 60 * 24 * 30
AT_ONCE = 500  # asks of one pass


def sweep_asks() -> int:
    """Act on asks whose time is over, and ring for answers that are due; how many."""
    acted = 0
    waiting = Ask.objects.filter(state=AskState.PENDING).select_related("session")
    for ask in waiting.filter(due_at__isnull=True)[:AT_ONCE]:
        Ask.objects.filter(pk=ask.pk, due_at__isnull=True).update(due_at=due_from(ask.session.project_id, now()))
    for ask in waiting.filter(due_at__lte=now()).order_by("due_at")[:AT_ONCE]:
        acted += _act(ask)
    answers = Ask.objects.filter(undelivered()).exclude(next_try_at__gt=now())
    for ask_id in answers.values_list("pk", flat=True)[:AT_ONCE]:
        enqueue(Names.DELIVER_ANSWER, ask_id)
        acted += 1
    return acted


def _act(ask: Ask) -> bool:
    """Remind, reject or stop; False when somebody else was faster."""
    rule = AskPolicy.objects.filter(project_id=ask.session.project_id).first()
    action = rule.action if rule else AskTimeout.REMIND
    with transaction.atomic():
        lock_session(ask.session_id)
        if action == AskTimeout.REMIND:
            return _remind(ask)
        fields = by_policy(AskReply.REJECT, IN_VAIN) if action == AskTimeout.REJECT else {}
        fields.pop("state", None)
        if not close_row(ask, AskState.EXPIRED, "expired", {"action": action}, **fields):
            return False
        if action == AskTimeout.STOP and ask.turn_id is not None:
            request_abort(turn_id=ask.turn_id, reason=EXPIRED, message=f"{ask.title}.")
        elif ask.kind == AskKind.BUDGET:
            budgets.answered(ask)
        else:
            enqueue(Names.DELIVER_ANSWER, ask.pk)
    return True


def _remind(ask: Ask) -> bool:
    at = now()
    same = Ask.objects.filter(pk=ask.pk, state=AskState.PENDING, due_at=ask.due_at)
    if not same.update(reminded_at=at, due_at=due_from(ask.session.project_id, at)):
        return False
    publish(ask, "ask.reminded")
    return True


def policy_of(project: Project) -> AskPolicy:
    """The project's time-out policy, or the one that holds without a row (not saved)."""
    return AskPolicy.objects.filter(project=project).first() or AskPolicy(project=project)


def set_policy(*, actor: Any, project: Project, timeout_minutes: int, action: str) -> AskPolicy:
    """Say how long the project's asks wait and what happens then; what waits now is held to it too. Takes an owner."""
    if actor is not None:
        require_role(actor, project, Role.OWNER)
    if not 1 <= timeout_minutes <= LONGEST_MINUTES:
        raise Invalid(f"An ask waits between 1 and {LONGEST_MINUTES:,} minutes.", detail={"field": "timeout_minutes"})
    if action not in AskTimeout.values:
        raise Invalid("Choose remind, reject or stop.", detail={"field": "action"})
    values = {"timeout_minutes": timeout_minutes, "action": action}
    with transaction.atomic():
        row, _ = AskPolicy.objects.update_or_create(project=project, defaults=values)
        for ask in Ask.objects.filter(session__project=project, state=AskState.PENDING):
            since = ask.reminded_at or ask.created_at
            Ask.objects.filter(pk=ask.pk, state=AskState.PENDING).update(
                due_at=since + timedelta(minutes=timeout_minutes)
            )
    return row
