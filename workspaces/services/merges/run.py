"""Carrying out what was asked for, such that a crash at any point can be finished or repeated.

queued -> the result is computed as a commit that no branch points at -> it is recorded (computed) -> the branch is moved
from the recorded old commit to the recorded new one -> merged. Whoever finds `computed` looks where the branch is: at the
new commit, then it was merged; at the old one, then it is moved now; elsewhere, then it is computed anew. A revert goes the
same way; a return of the checkout has no branch to move.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import structlog
from django.db import transaction
from django.db.models import F

from studio.kernel.claim import claim, fenced, renew
from studio.kernel.clock import now
from studio.kernel.errors import Upstream
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces.locks import Busy, held
from workspaces.models import MergeAttempt, MergeKind, MergeState
from workspaces.remedies import in_words
from workspaces.services.checkouts import ERROR_LIMIT, require_repository
from workspaces.services.merges.compute import REFUSED, Settlement, compute, restore
from workspaces.services.merges.request import ACTIVE
from workspaces.signals import merge_settled
from workspaces.vcs import vcs_named
from workspaces.vcs.base import Blocked, Raced, Vcs, readable

log = structlog.get_logger(__name__)

LEASE_SECONDS = 60.0
LOCK_PATIENCE = 5.0  # seconds to wait for another merge in the same repository; then the sweeper rings again
MAX_ATTEMPTS = 5
MAX_RACES = 5  # how often a target that keeps moving is followed in one attempt
ALREADY: dict[str, str] = {
    MergeKind.MERGE: "{branch} already had all of it.",
    MergeKind.REVERT: "{branch} has nothing of it any more.",
}


def run_merge(attempt_id: uuid.UUID | str) -> None:
    """Carry the attempt out, or finish what an earlier call began. Never merges twice; returns when another is at it."""
    attempt = MergeAttempt.objects.select_related("workspace__project").filter(pk=attempt_id).first()
    if attempt is None or attempt.state not in ACTIVE:
        return
    project = attempt.workspace.project
    try:
        require_repository(project)
        store = vcs_named(project.vcs).store(Path(project.path))
        # One at a time in a repository: a second merge must not see the first one's half-updated checkout.
        with held(f"repository:{store}", patience=LOCK_PATIENCE):
            _run_locked(attempt)
    except Busy:
        log.info("merge_waits", attempt=str(attempt.pk))
    except Upstream as error:
        _postpone(attempt, error)
    except OSError as error:
        _postpone(attempt, in_words(error))


def _run_locked(attempt: MergeAttempt) -> None:
    # The lock is free, so a lease that is found here belongs to a worker that died.
    MergeAttempt.objects.filter(pk=attempt.pk).update(lease_until=None)
    epoch = claim(MergeAttempt.objects.filter(pk=attempt.pk, state__in=ACTIVE), seconds=LEASE_SECONDS)
    if epoch is None:
        return
    attempt.refresh_from_db()
    if attempt.attempts >= MAX_ATTEMPTS:
        _settle(attempt, epoch, _given_up(attempt, f"It was begun {MAX_ATTEMPTS} times and never came to an end."))
        return
    resuming = attempt.state == MergeState.COMPUTED
    fenced(MergeAttempt, attempt.pk, epoch).update(attempts=F("attempts") + 1)
    for _ in range(MAX_RACES):
        try:
            settlement = _step(attempt, epoch, resuming=resuming)
        except Raced:
            continue
        if settlement is not None:
            _settle(attempt, epoch, settlement)
        return
    raise Upstream(f"{attempt.target_branch} keeps moving.", transient=True)


def _step(attempt: MergeAttempt, epoch: int, *, resuming: bool) -> Settlement | None:
    """Compute and move once; None when another worker took the attempt over. Raises Raced to be called again."""
    workspace = attempt.workspace
    vcs, repository = vcs_named(workspace.project.vcs), Path(workspace.project.path)
    if attempt.kind == MergeKind.RESTORE:
        return restore(attempt)
    tip = vcs.tip(repository, attempt.target_branch)
    if tip is None:
        return Settlement(MergeState.REFUSED, REFUSED, f"There is no branch “{attempt.target_branch}” any more.")
    if attempt.state == MergeState.COMPUTED and vcs.contains(repository, tip, attempt.result_commit):
        return Settlement(MergeState.MERGED)  # the branch was moved before the crash
    if attempt.state != MergeState.COMPUTED or tip != attempt.target_before:
        refusal = _compute(attempt, epoch, vcs, repository, tip)
        if refusal is not None:
            return refusal
        resuming = False
    if not renew(MergeAttempt, attempt.pk, epoch, seconds=LEASE_SECONDS):
        return None
    if attempt.result_commit == tip:
        return Settlement(MergeState.MERGED, note=ALREADY[attempt.kind].format(branch=attempt.target_branch))
    try:
        moved = vcs.advance_branch(
            repository,
            attempt.target_branch,
            tip,
            attempt.result_commit,
            reason=f"{attempt.how} of {workspace.branch}",
            resuming=resuming,
            hooks=workspace.project.trusted,
        )
    except Blocked as blocked:
        return Settlement(MergeState.REFUSED, REFUSED, blocked.message)
    notes = [f"The checkout {readable(path)} was brought along." for path in moved]
    if attempt.kind == MergeKind.MERGE:  # of a revert it would say how to undo the undoing
        notes.append(vcs.moved_note(repository, attempt.target_branch, attempt.result_commit))
    return Settlement(MergeState.MERGED, note=" ".join(filter(None, notes)))


def _compute(attempt: MergeAttempt, epoch: int, vcs: Vcs, repository: Path, tip: str) -> Settlement | None:
    """Compute the result onto `tip` and record it in the row; a settlement when there is nothing to record."""
    found = compute(attempt, vcs, repository, tip)
    if isinstance(found, Settlement):
        return found
    attempt.state, attempt.target_before, attempt.result_commit = MergeState.COMPUTED, tip, found.result
    # Recorded before the branch moves: after a crash in between the next worker finishes with this very commit.
    recorded = fenced(MergeAttempt, attempt.pk, epoch).filter(state__in=ACTIVE)
    if not recorded.update(
        state=MergeState.COMPUTED, target_before=tip, result_commit=found.result, source_commit=found.source
    ):
        raise Upstream("Another worker took this merge over.", transient=True)
    return None


def _settle(attempt: MergeAttempt, epoch: int | None, settlement: Settlement) -> None:
    """End the attempt and say so. Nothing happens when another worker holds it, or it has ended already."""
    rows = MergeAttempt.objects.filter(pk=attempt.pk) if epoch is None else fenced(MergeAttempt, attempt.pk, epoch)
    with transaction.atomic():
        if rows.filter(state__in=ACTIVE).update(
            state=settlement.state,
            error_code=settlement.error_code,
            error=cut(clean(settlement.error), ERROR_LIMIT),
            conflicts=list(settlement.conflicts),
            checkout_note=cut(clean(settlement.note), ERROR_LIMIT),
            **settlement.commits,
            settled_at=now(),
            lease_owner="",
            lease_until=None,
        ):
            merge_settled.send(sender=MergeAttempt, attempt_id=attempt.pk)
            enqueue(Names.LOOK_AT_WORKSPACE, attempt.workspace_id)


def _postpone(attempt: MergeAttempt, error: Upstream) -> None:
    """Leave the attempt to the sweeper; end it when it failed too often, or when trying again cannot help."""
    log.warning("merge_failed", attempt=str(attempt.pk), error=error.message)
    attempt.refresh_from_db()
    if error.transient and attempt.attempts < MAX_ATTEMPTS:
        MergeAttempt.objects.filter(pk=attempt.pk, state__in=ACTIVE).update(
            error=cut(clean(error.message), ERROR_LIMIT), lease_owner="", lease_until=None
        )
        return
    _settle(attempt, None, _given_up(attempt, error.message))


def _given_up(attempt: MergeAttempt, reason: str) -> Settlement:
    """Failed; unless the branch has the recorded result after all."""
    project = attempt.workspace.project
    vcs, repository = vcs_named(project.vcs), Path(project.path)
    try:
        tip = vcs.tip(repository, attempt.target_branch) if attempt.state == MergeState.COMPUTED else None
        if tip is not None and vcs.contains(repository, tip, attempt.result_commit):
            return Settlement(MergeState.MERGED)
    except Upstream as error:
        log.warning("merge_not_looked_up", attempt=str(attempt.pk), error=error.message)
    return Settlement(MergeState.FAILED, REFUSED, reason)
