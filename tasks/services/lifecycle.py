"""The one entry for what people do with tasks: pages, API and admin call `act`, and nothing else moves a task for them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import transaction

from studio import outbox
from studio.kernel.clock import now
from studio.kernel.errors import Invalid, NotFound
from studio.kernel.permissions import at_least
from studio.kernel.text import clean
from tasks import selectors
from tasks.actions import AT_REST, ROLES, possible_for
from tasks.choices import Needs, Phase, RunState
from tasks.models import Plan, Task
from tasks.services import completion, conflicts, reverts
from tasks.services.moves import QUEUED, Card, account, hold_sessions, lock, move, not_allowed, record, tell
from tasks.services.runs import active_run, last_run, open_run, repeat_run, stop_run, stop_turns, supersede_run
from workspaces.selectors import require_role, role_in
from workspaces.services import check_target, let_go, release_workspace, withdraw_pull_request
from workspaces.setup import servers

if TYPE_CHECKING:
    from tasks.services.moves import Actor

FEEDBACK_LIMIT = 50_000
REASON_LIMIT = 2_000
PLAN_LIMIT = 200_000
MESSAGE_LIMIT = 20_000
TITLE_LIMIT = 250  # of a pull request, as its body
BODY_LIMIT = 60_000


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for an action, and what they said; cleaned and bounded."""

    actor: Actor
    feedback: str
    reason: str
    how: str
    plan: str
    target: str
    message: str
    meant: Sequence[str]
    wording: completion.Wording


def allowed_actions(task: Task, user: Actor = None) -> list[str]:
    """What can be done with `task` now, the most likely action first; with `user` only what their role includes."""
    actions = possible_for(task)
    if user is None:
        return actions
    role = role_in(user, task.project)
    return [action for action in actions if at_least(role, ROLES[action])]


def act(
    *,
    actor: Actor,
    task_ref: Task | uuid.UUID | str,
    action: str,
    feedback: str = "",
    reason: str = "",
    how: str = "",
    plan: str = "",
    target: str = "",
    message: str = "",
    title: str = "",
    body: str = "",
    draft: bool | None = None,
    markers_meant: Sequence[str] = (),
) -> Task:
    """Do `action` with a task (given as row, id or key) for `actor`; None is the studio itself. The task as it is then.

    Raises NotFound (no such task or action), Forbidden (the role is too low), Conflict with the allowed actions (not
    now), Invalid (something required is missing). Nothing happens partly.
    """
    if action not in HANDLERS:
        raise NotFound(f"There is no action called “{clean(action)[:40]}”.", code="unknown_action")
    request = Request(
        actor=actor,
        feedback=_bounded("feedback", feedback, FEEDBACK_LIMIT),
        reason=_bounded("reason", reason, REASON_LIMIT),
        how=how.strip(),
        plan=_bounded("plan", plan, PLAN_LIMIT),
        target=target.strip(),
        message=_bounded("message", message, MESSAGE_LIMIT),
        meant=markers_meant,
        wording=completion.Wording(_bounded("title", title, TITLE_LIMIT), _bounded("body", body, BODY_LIMIT), draft),
    )
    found = selectors.by_ref(actor, task_ref)
    if actor is not None:
        require_role(actor, found.project, ROLES[action])
    if action == "complete" and request.target:
        check_target(found.project, request.target)
    with transaction.atomic():
        task = lock(found.pk)
        if action in AT_REST:
            hold_sessions(task)
        if action not in possible_for(task):
            raise not_allowed(task, action)
        HANDLERS[action](task, request)
    return selectors.by_ref(None, found.pk)


def _start(task: Task, request: Request) -> None:
    task = move(task.pk, "start", card=QUEUED, actor=request.actor, reason=request.reason)
    open_run(task, Phase.PLANNING, feedback=request.feedback)


def _approve_plan(task: Task, request: Request) -> None:
    plan = task.plans.order_by("-version").first()
    if plan is None:
        raise not_allowed(task, "approve_plan")
    if request.plan and request.plan != plan.text:
        plan = Plan(task=task, version=plan.version + 1, text=request.plan)
    plan.approved_by = account(request.actor)
    plan.approved_at, plan.rejected_at = now(), None
    plan.save()
    _publish_plan(plan)
    task = move(task.pk, "approve_plan", card=QUEUED, actor=request.actor, reason=f"Plan version {plan.version}.")
    open_run(task, Phase.IMPLEMENTATION, feedback=request.feedback)


def _reject_plan(task: Task, request: Request) -> None:
    _require_feedback(request, "Say what is wrong with the plan: the agent plans again with your words.")
    plan = task.plans.order_by("-version").first()
    if plan is not None:
        plan.rejected_at, plan.feedback = now(), request.feedback
        plan.save(update_fields=["rejected_at", "feedback"])
        _publish_plan(plan)
    task = move(task.pk, "reject_plan", card=QUEUED, actor=request.actor, reason=request.feedback)
    open_run(task, Phase.PLANNING, feedback=request.feedback)


def _replan(task: Task, request: Request) -> None:
    _require_feedback(request, "Say what the new plan should do differently.")
    supersede_run(task)
    task = move(task.pk, "replan", card=QUEUED, actor=request.actor, reason=request.feedback)
    open_run(task, Phase.PLANNING, feedback=request.feedback)


def _skip_ai_review(task: Task, request: Request) -> None:
    if not request.reason:
        raise Invalid("Say why the AI review is skipped; it is kept in the history.", detail={"field": "reason"})
    supersede_run(task)
    card = Card(RunState.WAITING, Needs.REVIEW, f"The AI review was skipped: {request.reason}")
    move(task.pk, "skip_ai_review", card=card, actor=request.actor, reason=request.reason)


def _request_changes(task: Task, request: Request) -> None:
    if task.needs == Needs.CONFLICT:
        conflicts.resolve(task, "request_changes", actor=request.actor, feedback=request.feedback)
        return
    _require_feedback(request, "Say what should be changed: the agent reads your words.")
    task = move(task.pk, "request_changes", card=QUEUED, actor=request.actor, reason=request.feedback)
    open_run(task, Phase.FIX, feedback=request.feedback)


def _resolve(task: Task, request: Request) -> None:
    conflicts.resolve(task, "resolve", actor=request.actor, feedback=request.feedback)


def _abort(task: Task, request: Request) -> None:
    conflicts.abort(task, actor=request.actor, reason=request.reason)


def _revert(task: Task, request: Request) -> None:
    reverts.request(task, message=request.message, actor=request.actor, reason=request.reason)


def _complete(task: Task, request: Request) -> None:
    completion.request(
        task,
        how=request.how,
        target=request.target,
        message=request.message,
        meant=request.meant,
        actor=request.actor,
        reason=request.reason,
        wording=request.wording,
    )


def _stop(task: Task, request: Request) -> None:
    run = active_run(task)
    record(task, "stop", actor=request.actor, reason=request.reason, run=run)
    stop_turns(task)
    if run is None:
        tell(task, "actions")
    else:
        stop_run(task, run)


def _retry(task: Task, request: Request) -> None:
    record(task, "retry", actor=request.actor, reason=request.feedback or request.reason, run=last_run(task))
    repeat_run(task, feedback=request.feedback)


def _resume(task: Task, request: Request) -> None:
    record(task, "resume", actor=request.actor, reason=request.feedback or request.reason, run=last_run(task))
    repeat_run(task, feedback=request.feedback)


def _cancel(task: Task, request: Request) -> None:
    supersede_run(task)
    stop_turns(task)
    if task.workspace is not None:
        servers.let_go(task.workspace, f"{task.key} was cancelled.")
        withdraw_pull_request(task.workspace)
    move(task.pk, "cancel", card=Card(reason=request.reason), actor=request.actor, reason=request.reason)
    if task.workspace is not None:
        release_workspace(task.workspace)


def _reopen(task: Task, request: Request) -> None:
    stop_turns(task)
    if task.workspace is not None:
        let_go(task.workspace)  # what it holds unmerged is kept as a patch
    task = move(task.pk, "reopen", card=Card(), actor=request.actor, reason=request.reason)
    task.attempt += 1
    task.workspace, task.completed_how, task.completed_commit, task.reverted_commit = None, "", "", ""
    task.save(
        update_fields=["attempt", "workspace", "completed_how", "completed_commit", "reverted_commit", "updated_at"]
    )


HANDLERS: dict[str, Callable[[Task, Request], None]] = {
    "start": _start,
    "approve_plan": _approve_plan,
    "reject_plan": _reject_plan,
    "replan": _replan,
    "skip_ai_review": _skip_ai_review,
    "request_changes": _request_changes,
    "resolve": _resolve,
    "abort": _abort,
    "complete": _complete,
    "revert": _revert,
    "retry": _retry,
    "resume": _resume,
    "stop": _stop,
    "cancel": _cancel,
    "reopen": _reopen,
}


def _publish_plan(plan: Plan) -> None:
    payload = {"task": str(plan.task_id), "plan": str(plan.pk), "version": plan.version}
    outbox.publish(plan.task.project_id, f"task:{plan.task_id}", "plan.ready", payload)


def _require_feedback(request: Request, sentence: str) -> None:
    if not request.feedback:
        raise Invalid(sentence, detail={"field": "feedback"})


def _bounded(field: str, value: str, limit: int) -> str:
    text = clean(value).replace("\r\n", "\n").strip()
    if len(text) > limit:
        raise Invalid(
            f"The {field} has {len(text):,} characters; {limit:,} are possible.",
            detail={"field": field, "limit": limit},
        )
    return text
