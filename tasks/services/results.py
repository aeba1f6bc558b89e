"""What agents hand in while their run is active: plans, findings, verdicts and summaries become rows at once.

Each function names the run that the agent acts for. Whether it may is decided by the row, under the task's lock: the run
must be running, and the result must belong to its phase. All are safe to repeat.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max

from studio import outbox
from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from studio.kernel.text import clean, cut
from tasks import selectors
from tasks.choices import FindingState, Phase, RunPhaseState, Severity, Verdict
from tasks.models import Finding, PhaseRun, Plan, Review, Task
from tasks.services.moves import lock
from tasks.verdicts import FINDINGS_LIMIT, FoundFinding

PLAN_LIMIT = 200_000
TEXT_LIMIT = 20_000  # bodies, notes and summaries
TITLE_LIMIT = 300
FILE_LIMIT = 1000

# What each phase may say of a finding: who fixed it is not who verifies it.
MARKS: dict[str, list[str]] = {
    Phase.FIX: [FindingState.FIXED, FindingState.OPEN],
    Phase.REVIEW: [FindingState.VERIFIED, FindingState.OPEN],
}


def submit_plan(run_id: str, text: str) -> Plan:
    """Store the plan of a planning run; handed in again it replaces what this run handed in before."""
    with transaction.atomic():
        task, run = acting(run_id, "submit_plan", [Phase.PLANNING])
        return write_plan(task, run, text)


def report_finding(run_id: str, found: FoundFinding) -> Finding:
    """Store a finding of a review run; the same one again is the same finding."""
    if found.severity not in Severity.values:
        raise Invalid(f"severity is one of {', '.join(Severity.values)}.")
    if not found.title.strip():
        raise Invalid("A finding needs a title.")
    with transaction.atomic():
        task, run = acting(run_id, "report_finding", [Phase.REVIEW])
        return write_finding(task, review_of(task, run), found)


def mark_finding(run_id: str, number: int, state: str, note: str = "") -> Finding:
    """Say of a finding that it is fixed (fix run), verified (review run) or still open (both)."""
    with transaction.atomic():
        task, run = acting(run_id, "mark_finding", MARKS)
        if state not in MARKS[run.phase]:
            raise Invalid(f"In this phase a finding is marked {' or '.join(MARKS[run.phase])}.")
        finding = selectors.attempt_findings(task).filter(number=number).first()
        if finding is None or finding.state == FindingState.DISMISSED:
            raise NotFound(f"There is no finding #{number} to mark.")
        finding.state, finding.note = state, cut(clean(note).strip(), TEXT_LIMIT)
        finding.save(update_fields=["state", "note", "updated_at"])
        _publish_finding(task, finding)
    return finding


def submit_verdict(run_id: str, verdict: str, summary: str) -> tuple[Review, list[int]]:
    """Store the verdict of a review run, and the numbers of open errors that an approval would contradict."""
    if verdict not in Verdict.values:
        raise Invalid(f"verdict is one of {', '.join(Verdict.values)}.")
    with transaction.atomic():
        task, run = acting(run_id, "submit_verdict", [Phase.REVIEW])
        review = write_verdict(task, review_of(task, run), verdict, summary)
        return review, blocking(task) if verdict == Verdict.APPROVED else []


def phase_summary(run_id: str, text: str) -> None:
    """Store what the agent says it did in this run."""
    with transaction.atomic():
        _, run = acting(run_id, "phase_summary", Phase.values)
        PhaseRun.objects.filter(pk=run.pk).update(summary=cut(clean(text).strip(), TEXT_LIMIT))


def write_plan(task: Task, run: PhaseRun, text: str) -> Plan:
    """The run's plan with this text, for a locked task. Raises Invalid for an empty or a far too long one."""
    text = clean(text).replace("\r\n", "\n").strip()
    if not text:
        raise Invalid("The plan is empty.")
    if len(text) > PLAN_LIMIT:
        raise Invalid(f"The plan has {len(text):,} characters; {PLAN_LIMIT:,} are possible.")
    plan = Plan.objects.filter(run=run).first()
    if plan is None:
        last = task.plans.aggregate(last=Max("version"))["last"] or 0
        plan = Plan(task=task, run=run, version=last + 1)
    plan.text = text
    plan.save()
    payload = {"task": str(task.pk), "plan": str(plan.pk), "version": plan.version}
    outbox.publish(task.project_id, f"task:{task.pk}", "plan.ready", payload)
    return plan


def review_of(task: Task, run: PhaseRun) -> Review:
    """The review that a review run writes; opened on first use."""
    review, _ = Review.objects.get_or_create(
        run=run,
        defaults={"task": task, "attempt": run.attempt, "round": run.round, "head_commit": run.base_commit},
    )
    return review


def write_finding(task: Task, review: Review, found: FoundFinding) -> Finding:
    """A finding of `review` for a locked task; one with the same place and title is the same."""
    title, file = _named(found)
    same = review.findings.filter(title=title, file=file, line=found.line).first()
    return add_finding(task, review, found) if same is None else _fill(task, same, found)


def add_finding(task: Task, review: Review, found: FoundFinding) -> Finding:
    """One more finding of `review` for a locked task, also when it begins like another one at the same place."""
    if review.findings.count() >= FINDINGS_LIMIT:
        raise Invalid(f"This review has {FINDINGS_LIMIT} findings already; say the rest in the summary of the verdict.")
    number = (task.findings.aggregate(last=Max("number"))["last"] or 0) + 1
    title, file = _named(found)
    return _fill(task, Finding(task=task, review=review, number=number, title=title, file=file, line=found.line), found)


def _named(found: FoundFinding) -> tuple[str, str]:
    return cut(" ".join(clean(found.title).split()), TITLE_LIMIT), cut(clean(found.file).strip(), FILE_LIMIT)


def _fill(task: Task, finding: Finding, found: FoundFinding) -> Finding:
    finding.severity, finding.body = found.severity, cut(clean(found.body).strip(), TEXT_LIMIT)
    finding.save()
    _publish_finding(task, finding)
    return finding


def write_verdict(task: Task, review: Review, verdict: str, summary: str) -> Review:
    """The verdict of `review`, for a locked task."""
    review.verdict, review.summary = verdict, cut(clean(summary).strip(), TEXT_LIMIT)
    review.decided_at = now()
    review.save(update_fields=["verdict", "summary", "decided_at"])
    payload = {"task": str(task.pk), "review": str(review.pk), "round": review.round, "verdict": verdict}
    outbox.publish(task.project_id, f"task:{task.pk}", "review.updated", payload)
    return review


def blocking(task: Task) -> list[int]:
    """The numbers of the open errors: with one of them nothing is approved."""
    return list(selectors.open_findings(task, severity=Severity.ERROR).values_list("number", flat=True))


def acting(run_id: str, tool: str, phases: Collection[str]) -> tuple[Task, PhaseRun]:
    """The locked task and the run for which an agent acts now."""
    try:
        task_id = PhaseRun.objects.filter(pk=uuid.UUID(run_id)).values_list("task_id", flat=True).first()
    except (ValueError, ValidationError):
        task_id = None
    if task_id is None:
        raise Forbidden("This run does not exist any more; nothing can be handed in.")
    task = lock(task_id)
    run = PhaseRun.objects.get(pk=run_id)
    if run.state != RunPhaseState.RUNNING or run.stop_requested_at is not None:
        raise Conflict("This run is over; nothing can be handed in any more.")
    if run.phase not in phases:
        raise Forbidden(f"{tool} does not belong to the phase “{run.phase}” of this run.")
    return task, run


def _publish_finding(task: Task, finding: Finding) -> None:
    payload = {
        "task": str(task.pk),
        "finding": str(finding.pk),
        "number": finding.number,
        "severity": finding.severity,
        "state": finding.state,
    }
    outbox.publish(task.project_id, f"task:{task.pk}", "finding.updated", payload)
