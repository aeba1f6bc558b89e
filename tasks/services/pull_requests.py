"""Tasks and their pull requests: what the card says, when the task is done, and how comments and checks reach an agent."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from studio import outbox
from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Invalid, NotFound, StudioError
from studio.kernel.permissions import Role
from studio.kernel.text import clean, cut
from tasks import selectors
from tasks.actions import possible_for
from tasks.choices import ERRORS, CompletionWay, Needs, ReviewSource, RunState, Severity, Status, Verdict
from tasks.models import PhaseRun, Review, Task
from tasks.prompts import MATERIAL_LIMIT
from tasks.services import completion, lifecycle, merge_news, results
from tasks.services.moves import Card, lock, not_allowed, show
from tasks.services.runs import active_run
from tasks.verdicts import FINDINGS_LIMIT, FoundFinding
from workspaces.forge.base import Check
from workspaces.forge.connections import forge_for, require_connection
from workspaces.models import (
    ChecksState,
    ForgeConnection,
    PullRequest,
    PullRequestState,
    ReviewComment,
)
from workspaces.selectors import require_role
from workspaces.services import LeftOut, left_out, refresh_pull_request
from workspaces.services.merges.markers import MARKED

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

ACTIVE = (PullRequestState.INTENDED, PullRequestState.OPEN)
TITLE_LIMIT = 200  # characters of a finding's title that is made of a comment
COMMENT_LIMIT = 20_000
FAILED = ("pull_request_failed", "pull_request_marked", "pull_request_closed")
EARLY = "merged_early"  # what came after is for a person to decide about
CHECKED = {
    ChecksState.NONE: "",
    ChecksState.PENDING: "Its checks are running.",
    ChecksState.PASSED: "Its checks passed.",
    ChecksState.FAILED: "A check failed.",
}


def pull_request_of(task: Task) -> PullRequest | None:
    """The newest pull request of the task's present attempt."""
    if task.workspace_id is None:
        return None
    rows = PullRequest.objects.filter(workspace_id=task.workspace_id).select_related("workspace__project")
    return rows.order_by("-created_at").first()


def is_active(task: Task) -> bool:
    """Whether a pull request of the task is open or about to be."""
    return PullRequest.objects.filter(workspace=task.workspace, state__in=ACTIVE).exists()


def unnoticed() -> list[uuid.UUID]:
    """Pull requests whose news a lost doorbell kept from their tasks: merged or settled ones, and tasks that still wait."""
    open_tasks = Task.objects.filter(status=Status.REVIEW, workspace__isnull=False)
    waiting = open_tasks.filter(run_state=RunState.RUNNING) | open_tasks.filter(needs=Needs.PULL_REQUEST)
    newer = PullRequest.objects.filter(workspace=OuterRef("workspace"), created_at__gt=OuterRef("created_at"))
    newest = PullRequest.objects.filter(~Exists(newer))
    ready = newest.filter(workspace__in=waiting.values("workspace"), push_requested_at__isnull=True)
    found = ready.filter(~Q(state=PullRequestState.OPEN) | Q(workspace__tasks__run_state=RunState.RUNNING))
    undecided = open_tasks.exclude(error_code=EARLY).values("workspace")
    merged = newest.filter(state=PullRequestState.MERGED, workspace__in=undecided)
    return list({*found.values_list("pk", flat=True), *merged.values_list("pk", flat=True)})


def advance_pull_request(pull_request_id: uuid.UUID | str) -> None:
    """Draw the conclusion from what became of a pull request: done when all was merged, else the card says it. Idempotent."""
    row = PullRequest.objects.select_related("workspace__project").filter(pk=pull_request_id).first()
    found = Task.objects.filter(workspace_id=row.workspace_id).first() if row else None
    if row is None or found is None:
        return
    merged = row.state == PullRequestState.MERGED and found.status == Status.REVIEW
    rest = _rest_of(row) if merged else None
    with transaction.atomic():
        task = lock(found.pk)
        newest = pull_request_of(task)
        if newest is None or str(newest.pk) != str(pull_request_id):
            return
        _publish(task, newest)
        if task.status != Status.REVIEW or merge_news.decides(task):
            return
        if rest == LeftOut():
            said = f"Pull request #{newest.number} was merged."
            completion.finish(task, CompletionWay.PULL_REQUEST, commit=newest.merge_commit, note=said, reason=said)
            return
        card = _card(task, newest) if rest is None else _card_of_rest(task, newest, rest)
        if card is not None and card != Card(task.run_state, task.needs, task.reason, task.error_code):
            show(task, card)


def _publish(task: Task, row: PullRequest) -> None:
    payload = {"task": str(task.pk), "number": row.number, "state": row.state, "checks": row.checks_state}
    outbox.publish(task.project_id, f"task:{task.pk}", "pull_request.updated", payload)


def _rest_of(row: PullRequest) -> LeftOut | str:
    """What its checkout holds beyond a merged pull request, or why that cannot be told."""
    try:
        return left_out(row)
    except StudioError as error:
        return error.message


def _card_of_rest(task: Task, row: PullRequest, rest: LeftOut | str) -> Card | None:
    """What the card of a task in review says when its pull request was merged and the task is not done; None leaves it.

    Why a merge was refused stays, and so does why somebody has to decide.
    """
    if task.error_code not in ("", *FAILED):
        return None
    deciding = task.needs == Needs.DECISION
    if isinstance(rest, str):
        said = f"Pull request #{row.number} was merged. Whether all of the task is in it cannot be told yet. {rest}"
        return None if deciding else Card(RunState.WAITING, Needs.REVIEW, said)
    kinds = ((rest.commits, "commit"), (rest.files, "uncommitted file"))
    counted = " and ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in kinds if count)
    said = f"{ERRORS[EARLY].sentence} #{row.number} lacks {counted} of the task's checkout."
    if deciding:
        return Card(RunState.WAITING, Needs.DECISION, f"{said} {task.reason}", EARLY)
    return Card(RunState.WAITING, Needs.REVIEW, said, EARLY)


def _card(task: Task, row: PullRequest) -> Card | None:
    """What the card of a task in review says of its pull request; None leaves it as it is."""
    asked = task.run_state == RunState.RUNNING or task.error_code in FAILED
    if not asked and task.needs != Needs.PULL_REQUEST:
        return None
    if row.state == PullRequestState.CLOSED:
        reason = ERRORS["pull_request_closed"].sentence
        return Card(RunState.WAITING, Needs.REVIEW, f"{reason} (#{row.number})", "pull_request_closed")
    if row.state == PullRequestState.OPEN and not (asked and row.error):
        return Card(RunState.WAITING, Needs.PULL_REQUEST, words_of(row)) if row.push_requested_at is None else None
    if not row.error:
        return None
    again = f" It is tried again at {row.next_sync_at:%H:%M} UTC." if row.push_requested_at and row.next_sync_at else ""
    # A task that waits for a forge is not locked up: everything else can be done with it meanwhile.
    code = "pull_request_marked" if row.error_code == MARKED else "pull_request_failed"
    return Card(RunState.WAITING, Needs.REVIEW, f"{ERRORS[code].sentence} {row.error}{again}", code)


def words_of(row: PullRequest) -> str:
    """An open pull request in a line or two."""
    count = row.comments.count()
    comments = f"{count} review comment{'' if count == 1 else 's'}." if count else ""
    draft = "a draft" if row.draft else "open"
    said = (f"Pull request #{row.number} is {draft}.", CHECKED[ChecksState(row.checks_state)], comments, row.note)
    return " ".join(part for part in said if part)


def refresh(*, actor: Person, task_ref: Task | uuid.UUID | str) -> PullRequest:
    """Have the task's pull request read again now. Raises Conflict when it is settled."""
    task, row = _visible(actor, task_ref, Role.REVIEWER)
    refresh_pull_request(row)
    return pull_request_of(task) or row


def answer_comments(*, actor: Person, task_ref: Task | uuid.UUID | str) -> Task:
    """Make findings of the review comments that are none yet, and send the task to an agent with them.

    Each comment becomes a finding once. Raises Conflict when there is no new one, or when the task cannot go back now.
    """
    task, row = _visible(actor, task_ref, Role.REVIEWER)
    with transaction.atomic():
        task = lock(task.pk)
        _require_possible(task)
        comments = list(row.comments.filter(finding__isnull=True)[:FINDINGS_LIMIT])
        if not comments:
            raise Conflict(
                "Every review comment is a finding already; there is nothing new to send.", code="no_comments"
            )
        review = Review.objects.create(
            task=task,
            source=ReviewSource.PULL_REQUEST,
            attempt=task.attempt,
            round=task.reviews.filter(attempt=task.attempt, source=ReviewSource.PULL_REQUEST).count() + 1,
            verdict=Verdict.CHANGES_REQUESTED,
            summary=f"Comments on pull request #{row.number}.",
            head_commit=row.head_commit,
            decided_at=now(),
        )
        numbers = [_import(task, review, comment) for comment in comments]
        listed = ", ".join(f"#{number}" for number in numbers)
        feedback = f"People commented on pull request #{row.number}. What they wrote is in the findings {listed}."
        return lifecycle.act(actor=actor, task_ref=task, action="request_changes", feedback=feedback)


def _import(task: Task, review: Review, comment: ReviewComment) -> int:
    first = next((line.strip() for line in comment.body.splitlines() if line.strip()), "A comment")
    title = cut(f"{comment.author or 'Somebody'}: {first}", TITLE_LIMIT)
    found = FoundFinding(Severity.WARNING, title, comment.body, comment.path, comment.line)
    # Each comment is one finding: two that begin alike, such as suggestions for one line, say different things.
    finding = results.add_finding(task, review, found)
    ReviewComment.objects.filter(pk=comment.pk).update(finding=finding.pk)
    return finding.number


def fix_check(*, actor: Person, task_ref: Task | uuid.UUID | str, check_id: str) -> Task:
    """Send the end of a failing check's log to an agent, as material of a fix round. Asks the forge for the log first.

    Raises NotFound for an unknown check, Conflict for one that did not fail or when the task cannot go back now.
    """
    task, row = _visible(actor, task_ref, Role.REVIEWER)
    _require_possible(task)
    check = next((Check(**one) for one in row.checks if one.get("id") == check_id), None)
    if check is None:
        raise NotFound("The pull request has no such check any more; refresh it.")
    if check.state != "failed":
        raise Conflict(f"The check {check.name} did not fail.", code="check_not_failed")
    log = forge_for(_connection(task, row)).log(check)
    material = clean(log).strip()[-MATERIAL_LIMIT:]
    feedback = f"The check “{check.name}” failed on pull request #{row.number}. Find out why and correct the change."
    if not material:
        feedback += f" The forge gives no log of it; its page is {check.url or 'unknown'}."
    with transaction.atomic():
        sent = lifecycle.act(actor=actor, task_ref=task, action="request_changes", feedback=feedback)
        run = active_run(sent)
        if run is not None:
            PhaseRun.objects.filter(pk=run.pk).update(material=material)
    return sent


def comment(*, actor: Person, task_ref: Task | uuid.UUID | str, body: str) -> None:
    """Write a comment under the task's pull request, in the name of the connection's token. Not to be repeated."""
    task, row = _visible(actor, task_ref, Role.MAINTAINER)
    text = clean(body).replace("\r\n", "\n").strip()
    if not text or len(text) > COMMENT_LIMIT:
        raise Invalid(f"A comment has 1 to {COMMENT_LIMIT:,} characters.", detail={"field": "body"})
    if row.number is None:
        raise Conflict("The pull request is not open yet.", allowed=[])
    forge_for(_connection(task, row)).comment(row.number, text)


def _visible(actor: Person, task_ref: Task | uuid.UUID | str, role: Role) -> tuple[Task, PullRequest]:
    task = selectors.by_ref(actor, task_ref)
    require_role(actor, task.project, role)
    row = pull_request_of(task)
    if row is None:
        raise NotFound(f"{task.key} has no pull request.", code="no_pull_request")
    return task, row


def _connection(task: Task, row: PullRequest) -> ForgeConnection:
    connection = require_connection(task.project)
    if connection.repository != row.repository:
        raise Conflict(f"The project is no longer connected to {row.repository}.", code="no_forge")
    return connection


def _require_possible(task: Task) -> None:
    if "request_changes" not in possible_for(task):
        raise not_allowed(task, "request_changes")
