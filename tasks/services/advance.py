"""From a settled turn to the task's next step: a plan, a change or a verdict becomes a transition, or the run fails.

Only a turn that completed moves a task. What the agent left is committed first, whatever became of the turn.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import structlog
from django.db import transaction

from sessions_app.models import Turn, TurnOutcome, TurnState
from studio import outbox
from studio.kernel.claim import claim, fenced
from studio.kernel.clock import now
from studio.kernel.errors import StudioError
from studio.kernel.faultpoints import reach
from studio.kernel.text import cut
from studio.queue import Names, enqueue
from tasks import selectors
from tasks.choices import ERRORS, CompletionWay, FindingState, Needs, Phase, RunPhaseState, RunState, Status, Verdict
from tasks.models import PhaseRun, Plan, Review, Task
from tasks.services import completion, conflicts, pull_requests, results, reverts
from tasks.services.follow_up import conclude_follow_up, tell_at_work
from tasks.services.merge_news import is_untold, newest_merge
from tasks.services.moves import QUEUED, STOPPED, Card, hold_sessions, lock, move, show
from tasks.services.runs import end_run, fail_locked, follow_turn, open_run, succeed_run
from tasks.services.steps import failing_as, wait, work_on
from tasks.verdicts import parse_verdict
from workspaces.models import MergeAttempt, MergeKind, MergeState
from workspaces.services import Away, commit_left, has_change, left_markers, require_repository

log = structlog.get_logger(__name__)

AWAY_SECONDS = 20.0  # until a repository that is not at its place is looked for again
LEASE_SECONDS = 300.0
SUMMARY_LIMIT = 2_000  # characters of a summary in a commit message
WORK = (Phase.IMPLEMENTATION, Phase.FIX)
# The decisions of people after which the review rounds are counted anew.
ROUNDS_BEGIN = ["approve_plan", "plan_ready", "request_changes", "resolve", "replan", "reopen"]


@dataclass(frozen=True, slots=True)
class Left:
    """What the agent left in the workspace."""

    head: str  # the commit that holds all of it; empty when nothing was committed for it
    changed: bool  # whether that differs from the base
    marked: tuple[str, ...] = ()  # files in which lines of a conflict are left


def advance_turn(turn_id: uuid.UUID | str) -> None:
    """Draw the conclusion from a settled turn. Idempotent; returns when it was drawn or another worker draws it."""
    turn = Turn.objects.filter(pk=turn_id, state=TurnState.SETTLED).first()
    run = PhaseRun.objects.select_related("task__workspace", "session__workspace").filter(turn_id=turn_id).first()
    if turn is None:
        return
    if run is None:
        conclude_follow_up(turn)
        return
    if follow_turn(turn):
        return
    if run.state not in (RunPhaseState.RUNNING, RunPhaseState.FINISHING):
        _wake_successor(run)
        tell_at_work(turn)
        return
    if run.next_try_at and run.next_try_at > now():
        return
    under_way = PhaseRun.objects.filter(pk=run.pk, state__in=[RunPhaseState.RUNNING, RunPhaseState.FINISHING])
    reach("advance.before_claim")
    epoch = claim(under_way, seconds=LEASE_SECONDS)
    if epoch is None:
        return
    reach("advance.after_claim")
    fenced(PhaseRun, run.pk, epoch).update(state=RunPhaseState.FINISHING)
    work_on(run, epoch, lambda: _advance(run, turn, epoch))


def _wake_successor(run: PhaseRun) -> None:
    """A run that waited until this turn had ended may begin."""
    for waiting in PhaseRun.objects.filter(task_id=run.task_id, state=RunPhaseState.PREPARING):
        PhaseRun.objects.filter(pk=waiting.pk).update(next_try_at=None)
        enqueue(Names.PREPARE_RUN, waiting.pk)


def _advance(run: PhaseRun, turn: Turn, epoch: int) -> None:
    try:
        require_repository(run.task.project)
    except Away as away:
        wait(run, epoch, AWAY_SECONDS, away.message)
        return
    left = _commit(run, turn)
    reach("advance.committed")
    with transaction.atomic():
        task = lock(run.task_id)
        if run.phase == Phase.REVIEW:
            hold_sessions(task)  # what is approved may be completed here
        mine = fenced(PhaseRun, run.pk, epoch).filter(state=RunPhaseState.FINISHING)
        if not mine.update(head_commit=left.head, failures=0):
            return
        fresh = PhaseRun.objects.get(pk=run.pk)
        if not fresh.summary:
            fresh.summary = cut(turn.result_text.strip(), results.TEXT_LIMIT)
            fresh.save(update_fields=["summary"])
        if left.head:
            payload = {"task": str(task.pk), "workspace": str(task.workspace_id), "head": left.head}
            outbox.publish(task.project_id, f"task:{task.pk}", "workspace.updated", payload)
        _conclude(task, fresh, turn, left)
        reach("advance.in_transaction")


def _conclude(task: Task, run: PhaseRun, turn: Turn, left: Left) -> None:
    if run.stop_requested_at or (turn.outcome == TurnOutcome.ABORTED and turn.abort_requested_at):
        end_run(task, run, RunPhaseState.STOPPED, STOPPED)
    elif turn.outcome != TurnOutcome.COMPLETED:
        fail_locked(task, run, turn.error_code or "internal_error", turn.error_message)
    elif run.phase == Phase.PLANNING:
        _planned(task, run, turn)
    elif run.phase == Phase.REVIEW:
        _reviewed(task, run, turn)
    elif left.marked:
        fail_locked(task, run, "conflict_markers", f"Files: {', '.join(left.marked)}")
    elif left.changed:
        _implemented(task, run)
    else:
        fail_locked(task, run, "empty_change")


def _commit(run: PhaseRun, turn: Turn) -> Left:
    """Commit what an implementer left. After a failed turn a commit that fails too does not hide why the turn failed."""
    if run.phase not in WORK or run.session is None:
        return Left("", changed=False)
    workspace, task = run.session.workspace, run.task
    summary = cut((run.summary or turn.result_text).strip(), SUMMARY_LIMIT)
    trailer = f"Task: {task.key} ({run.phase}, round {run.round})"
    message = "\n\n".join(part for part in (task.title, summary, trailer) if part)
    try:
        with failing_as("commit_failed"):
            head = commit_left(workspace, message=message, author_name=run.session.agent)
            return Left(head, has_change(workspace), tuple(left_markers(workspace, run.conflicts)))
    except Exception:
        if turn.outcome == TurnOutcome.COMPLETED:
            raise
        log.warning("commit_after_failed_turn", run=str(run.pk), exc_info=True)
        return Left("", changed=False)


def _planned(task: Task, run: PhaseRun, turn: Turn) -> None:
    """The plan is what was handed in, else the agent's last message; an empty one is none."""
    plan = Plan.objects.filter(run=run).first()
    text = turn.result_text.strip()
    if plan is None and not text:
        fail_locked(task, run, "plan_missing")
        return
    plan = plan or results.write_plan(task, run, cut(text, results.PLAN_LIMIT))
    succeed_run(run)
    if task.project.plan_approval:
        move(task.pk, "plan_ready", card=Card(RunState.WAITING, Needs.PLAN_APPROVAL), run=run)
        return
    plan.approved_at = now()
    plan.save(update_fields=["approved_at"])
    reason = f"Plan version {plan.version}; this project needs no approval."
    task = move(task.pk, "plan_accepted", card=QUEUED, run=run, reason=reason)
    open_run(task, Phase.IMPLEMENTATION)


def _implemented(task: Task, run: PhaseRun) -> None:
    """The change goes to review. Findings that a fix round was given and did not mark itself count as fixed by it."""
    if run.phase == Phase.FIX and run.started_at is not None:
        given = selectors.open_findings(task).filter(created_at__lt=run.started_at, updated_at__lt=run.started_at)
        given.update(state=FindingState.FIXED, updated_at=now())
    succeed_run(run)
    task = move(task.pk, "implemented", card=QUEUED, run=run)
    open_run(task, Phase.REVIEW)


def _reviewed(task: Task, run: PhaseRun, turn: Turn) -> None:
    """Only a clear verdict moves the task, and an approval that an open error contradicts is none."""
    review = _verdict(task, run, turn)
    if review is None:
        fail_locked(task, run, "verdict_missing")
        return
    contradicted = results.blocking(task) if review.verdict == Verdict.APPROVED else []
    if contradicted:
        numbers = ", ".join(f"#{number}" for number in contradicted)
        note = f"The reviewer said “approved”, but an error is open ({numbers}): this counts as changes requested."
        summary = "\n\n".join(part for part in (review.summary, note) if part)
        review = results.write_verdict(task, review, Verdict.CHANGES_REQUESTED, summary)
    succeed_run(run)
    if review.verdict == Verdict.APPROVED:
        _approved(task, run, review)
    else:
        _changes_requested(task, run, review)


def _verdict(task: Task, run: PhaseRun, turn: Turn) -> Review | None:
    """The review with the verdict that was handed in, else with one that the last message states unmistakably."""
    review = results.review_of(task, run)
    if review.verdict:
        return review
    found = parse_verdict(turn.result_text)
    if found is None:
        return None
    for finding in found.findings:
        results.write_finding(task, review, finding)
    return results.write_verdict(task, review, found.verdict, found.summary)


def _approved(task: Task, run: PhaseRun, review: Review) -> None:
    """The reviewer saw the list of what was said to be fixed, and approved."""
    selectors.attempt_findings(task).filter(state=FindingState.FIXED).update(
        state=FindingState.VERIFIED, updated_at=now()
    )
    work = selectors.last_work(task)
    unchanged = work is not None and work.phase == Phase.FIX and work.head_commit == work.base_commit
    note = "The last fix round changed no file." if unchanged else ""
    card = Card(RunState.WAITING, Needs.REVIEW, note)
    task = move(task.pk, "ai_approve", card=card, run=run, reason=review.summary)
    try:
        with transaction.atomic():
            if pull_requests.is_active(task):
                completion.request(task, how=CompletionWay.PULL_REQUEST, reason="The pull request gets what is new.")
            elif task.project.auto_complete:
                completion.request(task)
    except StudioError as error:  # the approval stands; a person goes on from here
        why = f"Approved, but not completed by itself. {error.message} {note}".strip()
        show(task, Card(RunState.WAITING, Needs.REVIEW, why))


def _changes_requested(task: Task, run: PhaseRun, review: Review) -> None:
    """A fix round, or a person when the rounds are used up."""
    rounds = _rounds_used(task) + 1
    if rounds >= task.project.max_review_rounds:
        said = f" It said: {review.summary}" if review.summary else ""
        reason = f"The AI review asked for changes {rounds} times, the limit of this project.{said}"
        move(task.pk, "ai_give_up", card=Card(RunState.WAITING, Needs.DECISION, reason), run=run, reason=reason)
        return
    task = move(task.pk, "ai_request_changes", card=QUEUED, run=run, reason=review.summary)
    open_run(task, Phase.FIX, feedback=review.summary)


def _rounds_used(task: Task) -> int:
    """How often the AI review has sent the task back since a person last decided about it."""
    history = task.history.all()
    begun = history.filter(action__in=ROUNDS_BEGIN).order_by("-at", "-id").first()
    sent_back = history.filter(action="ai_request_changes", to_status=Status.IN_PROGRESS)
    return (sent_back.filter(pk__gt=begun.pk) if begun is not None else sent_back).count()


def advance_merge(attempt_id: uuid.UUID | str) -> None:
    """Draw the conclusion from a settled merge: done, or back to the person with the reason. Idempotent."""
    attempt = MergeAttempt.objects.filter(pk=attempt_id).first()
    if attempt is None or attempt.state in (MergeState.QUEUED, MergeState.COMPUTED):
        return
    task_id = Task.objects.filter(workspace_id=attempt.workspace_id).values_list("pk", flat=True).first()
    if task_id is None:
        return
    with transaction.atomic():
        task = lock(task_id)
        if newest_merge(task) != attempt or not is_untold(task, attempt):
            return
        if attempt.kind == MergeKind.REVERT:
            reverts.conclude(task, attempt)
        elif attempt.kind == MergeKind.RESTORE:
            conflicts.conclude_abort(task, attempt)
        elif attempt.state == MergeState.MERGED:
            actor = completion.requester(task)
            completion.finish(task, attempt.how, commit=attempt.result_commit, note=attempt.checkout_note, actor=actor)
        else:
            show(task, _refusal(attempt))


def _refusal(attempt: MergeAttempt) -> Card:
    if attempt.state == MergeState.CONFLICTED:
        files = ", ".join(attempt.conflicts)
        reason = f"{ERRORS['merge_conflict'].sentence} Files: {files}"
        return Card(RunState.WAITING, Needs.CONFLICT, reason, "merge_conflict")
    code = attempt.error_code if attempt.error_code in ERRORS else "merge_refused"
    return Card(RunState.WAITING, Needs.REVIEW, f"{ERRORS[code].sentence} {attempt.error}".strip(), code)
