"""Opening runs and ending them. A run's state and what its task's card shows change in the same transaction."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import structlog
from django.db import IntegrityError, transaction
from django.db.models import F, Max

from sessions_app.models import Turn, TurnState
from sessions_app.services.abort import request_abort
from sessions_app.services.settle import STOPPED_BY_PERSON
from studio.kernel.clock import now
from studio.kernel.errors import Conflict
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from tasks import selectors
from tasks.choices import ACTIVE_RUN_STATES, ERRORS, Needs, Phase, RunPhaseState, RunState, Status
from tasks.models import PhaseRun, Task
from tasks.services.moves import QUEUED, STOPPED, Card, hold_sessions, lock, show

log = structlog.get_logger(__name__)

MESSAGE_LIMIT = 4000  # characters of a run's error message

# Which phases an agent works on in a column; the first is what a run without a predecessor would be.
PHASES: dict[str, list[str]] = {
    Status.PLANNING: [Phase.PLANNING],
    Status.IN_PROGRESS: [Phase.IMPLEMENTATION, Phase.FIX],
    Status.AI_REVIEW: [Phase.REVIEW],
}


def active_run(task: Task) -> PhaseRun | None:
    """The run that is queued or under way; a constraint allows one."""
    return task.runs.filter(state__in=ACTIVE_RUN_STATES).first()


def last_run(task: Task) -> PhaseRun | None:
    """The newest run of the task's present attempt and column."""
    runs = task.runs.filter(attempt=task.attempt, phase__in=PHASES.get(task.status, []))
    return runs.order_by("-created_at").first()


def next_round(task: Task, phase: str) -> int:
    """The number of the next round of `phase` in the present attempt."""
    last = task.runs.filter(attempt=task.attempt, phase=phase).aggregate(last=Max("round"))["last"]
    return (last or 0) + 1


def open_run(
    task: Task,
    phase: str,
    *,
    feedback: str = "",
    material: str = "",
    round_number: int | None = None,
    retry: int = 0,
    update_from: str = "",
    conflicts: Sequence[str] = (),
) -> PhaseRun:
    """Queue a run of `phase` for a locked task and ask for the scheduler. Raises Conflict when another run is active.

    `update_from`: a branch that is merged into the checkout before the agent begins, conflicts and all.
    """
    try:
        with transaction.atomic():
            run = PhaseRun.objects.create(
                task=task,
                phase=phase,
                round=round_number or next_round(task, phase),
                attempt=task.attempt,
                retry=retry,
                feedback=feedback,
                update_from=update_from,
                conflicts=list(conflicts),
                material=material,
            )
    except IntegrityError as error:
        raise Conflict(f"An agent is already at work on {task.key}.", allowed=["stop"], code="run_active") from error
    show(task, QUEUED, run=run)
    enqueue(Names.SCHEDULE_RUNS)
    return run


def repeat_run(task: Task, *, feedback: str = "") -> PhaseRun:
    """A fresh run for what the last one left undone: the same phase and round, its feedback and what is added to it."""
    last = last_run(task)
    if last is None:
        return open_run(task, PHASES[task.status][0], feedback=feedback)
    return open_run(
        task,
        last.phase,
        feedback="\n\n".join(part for part in (last.feedback, feedback) if part),
        material=last.material,
        round_number=last.round,
        retry=last.retry + 1,
        update_from=last.update_from,
        conflicts=last.conflicts,
    )


def stop_turns(task: Task) -> int:
    """Ask for the end of every turn in the checkout of a locked task, those included that messages opened; how many."""
    hold_sessions(task)
    turns = selectors.unsettled_turns(task).values_list("pk", flat=True)
    return sum(request_abort(turn_id=turn_id, reason=STOPPED_BY_PERSON) for turn_id in turns)


def stop_run(task: Task, run: PhaseRun) -> None:
    """End the active run of a locked task for a person.

    What has not begun ends at once. A running turn is asked to end; `advance` marks the run stopped when it has, so that
    what the agent left is committed first.
    """
    if run.state in (RunPhaseState.QUEUED, RunPhaseState.PREPARING):
        end_run(task, run, RunPhaseState.STOPPED, STOPPED)
        return
    PhaseRun.objects.filter(pk=run.pk).update(stop_requested_at=now())
    _abort_turn(task, run)  # before the feed's row is held: whoever opens an ask takes the turn first and the feed then
    show(task, Card(RunState.RUNNING, reason="Stopping."), run=run)


def supersede_run(task: Task) -> None:
    """End the active run of a locked task at once because the task goes elsewhere; its turn is asked to end.

    The next run of the task waits until that turn has settled (see prepare), so two agents never share a workspace.
    """
    run = active_run(task)
    if run is None:
        return
    _abort_turn(task, run)
    _close(run, RunPhaseState.STOPPED)
    enqueue(Names.SCHEDULE_RUNS)


def _abort_turn(task: Task, run: PhaseRun) -> None:
    """Ask for the end of the turn that works for the run: its own, or one that a message in the inbox opened after it."""
    hold_sessions(task)
    turns = Turn.objects.filter(session_id=run.session_id, session__isnull=False).exclude(state=TurnState.SETTLED)
    for turn_id in turns.values_list("pk", flat=True):
        request_abort(turn_id=turn_id, reason=STOPPED_BY_PERSON)


def follow_turn(turn: Turn) -> bool:
    """Let the run of a settled turn follow the turn that the inbox opened after it; whether there is one. Idempotent."""
    successor = Turn.objects.filter(continues=turn).first()
    if successor is None:
        return False
    PhaseRun.objects.filter(turn=turn, state__in=ACTIVE_RUN_STATES).update(turn=successor)
    if successor.state == TurnState.SETTLED:
        enqueue(Names.ADVANCE_TURN, successor.pk)
    return True


def end_run(task: Task, run: PhaseRun, state: RunPhaseState, card: Card, *, code: str = "", message: str = "") -> None:
    """Give the active run of a locked task its final state and show it on the card; the next one in the queue may begin."""
    _close(run, state, code=code, message=message)
    show(task, card, run=run)
    enqueue(Names.SCHEDULE_RUNS)


def succeed_run(run: PhaseRun) -> None:
    """The run did what it was for. The move that follows in the same transaction shows it on the card."""
    _close(run, RunPhaseState.SUCCEEDED)
    enqueue(Names.SCHEDULE_RUNS)


def requeue_run(run_id: uuid.UUID | str, *, epoch: int | None = None) -> bool:
    """Put a run that is being prepared back into the queue, and ring for one that waits; False when there is neither.

    Whoever still prepares it is fenced off. A run that has a turn is not touched: its agent may be at work.
    """
    with transaction.atomic():
        found = PhaseRun.objects.filter(pk=run_id).only("task_id").first()
        if found is None:
            return False
        task = lock(found.task_id)
        run = PhaseRun.objects.get(pk=run_id)
        if run.state not in (RunPhaseState.QUEUED, RunPhaseState.PREPARING):
            return False
        if epoch is not None and run.lease_epoch != epoch:
            return False
        run.state = RunPhaseState.QUEUED
        PhaseRun.objects.filter(pk=run.pk).update(
            state=run.state,
            note="",
            failures=0,
            next_try_at=None,
            lease_owner="",
            lease_until=None,
            lease_epoch=F("lease_epoch") + 1,
        )
        show(task, QUEUED, run=run)
        enqueue(Names.SCHEDULE_RUNS)
    return True


def fail_run(run_id: uuid.UUID | str, code: str, message: str = "", *, epoch: int | None = None) -> bool:
    """The run failed: its task stays where it is and shows why. False when the run was over, or `epoch` lost its lease."""
    with transaction.atomic():
        held = PhaseRun.objects.filter(pk=run_id).only("task_id").first()
        if held is None:
            return False
        task = lock(held.task_id)
        run = PhaseRun.objects.get(pk=run_id)
        if run.state not in ACTIVE_RUN_STATES or (epoch is not None and run.lease_epoch != epoch):
            return False
        fail_locked(task, run, code, message)
    return True


def fail_locked(task: Task, run: PhaseRun, code: str, message: str = "") -> None:
    """The same for a locked task and a run that is known to be active."""
    if code not in ERRORS:
        code, message = "internal_error", f"{code}: {message}" if message else code
    reason = " ".join(part for part in (ERRORS[code].sentence, clean(message).strip()) if part)
    card = Card(RunState.FAILED, Needs.FAILURE, reason, code)
    end_run(task, run, RunPhaseState.FAILED, card, code=code, message=message)
    log.info("run_failed", run=str(run.pk), code=code, message=message)


def _close(run: PhaseRun, state: RunPhaseState, *, code: str = "", message: str = "") -> None:
    """Write the final state. The epoch grows, so a worker that still holds the run changes nothing any more."""
    run.state, run.error_code, run.ended_at = state, code, now()
    run.error_message = cut(clean(message), MESSAGE_LIMIT)
    PhaseRun.objects.filter(pk=run.pk).update(
        state=run.state,
        error_code=run.error_code,
        error_message=run.error_message,
        ended_at=run.ended_at,
        note="",
        next_try_at=None,
        lease_owner="",
        lease_until=None,
        lease_epoch=F("lease_epoch") + 1,
    )
