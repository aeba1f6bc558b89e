"""Bringing a workspace's change onto its target branch, such that a crash at any point can be finished or repeated.

queued -> the result is computed as a commit that no branch points at -> it is recorded (computed) -> the branch is moved
from the recorded old commit to the recorded new one -> merged. Whoever finds `computed` looks where the branch is: at the
new commit, then it was merged; at the old one, then it is moved now; elsewhere, then the merge is computed anew.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from django.db import IntegrityError, transaction
from django.db.models import F

from studio.kernel.claim import claim, fenced, renew
from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Invalid, Upstream
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces.locks import Busy, held
from workspaces.models import MergeAttempt, MergeState, Workspace, WorkspaceState
from workspaces.services.checkouts import AGENT_EMAIL, ERROR_LIMIT, commit_locked, opened
from workspaces.signals import merge_settled
from workspaces.vcs import vcs_named
from workspaces.vcs.base import Blocked, MergeRequest, Person, Raced, Vcs, readable

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

log = structlog.get_logger(__name__)

WAYS = ("merge", "squash", "rebase")
ACTIVE = (MergeState.QUEUED, MergeState.COMPUTED)
LEASE_SECONDS = 60.0
LOCK_PATIENCE = 5.0  # seconds to wait for another merge in the same repository; then the sweeper rings again
MAX_ATTEMPTS = 5
MAX_RACES = 5  # how often a target that keeps moving is followed in one attempt
CONFLICTS_KEPT = 200
REFUSED = "merge_refused"
CONFLICT = "merge_conflict"


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an attempt ends."""

    state: MergeState
    error_code: str = ""
    error: str = ""
    conflicts: tuple[str, ...] = ()
    note: str = ""


def request_merge(
    *, workspace: Workspace, how: str, message: str, actor: AbstractBaseUser | None = None
) -> MergeAttempt:
    """Have the workspace merged into the branch it came from, once the transaction has committed. `actor` is the author.

    Raises Invalid for an unknown way and Conflict when the workspace is not ready or a merge of it is already on its way.
    """
    if how not in WAYS:
        raise Invalid(f"“{cut(clean(how), 40)}” is not a way to merge; there are {', '.join(WAYS)}.")
    if workspace.state != WorkspaceState.READY:
        raise Conflict(f"The workspace {workspace.label} is {workspace.state}: there is nothing to merge.", allowed=[])
    name, email = _account(actor)
    try:
        with transaction.atomic():
            attempt = MergeAttempt.objects.create(
                workspace=workspace,
                how=how,
                target_branch=workspace.base_branch,
                message=clean(message),
                author_name=name,
                author_email=email,
            )
            enqueue(Names.MERGE, attempt.pk)
    except IntegrityError:
        raise Conflict(f"A merge of {workspace.label} is already on its way.", allowed=[]) from None
    return attempt


def _account(actor: AbstractBaseUser | None) -> tuple[str, str]:
    """What an account says about its person; the repository's own identity fills in what is missing at the merge."""
    if actor is None:
        return "OpenCode Studio", AGENT_EMAIL
    full = str(getattr(actor, "get_full_name", str)()).strip()
    return cut(clean(full or actor.get_username()), 200), cut(clean(getattr(actor, "email", "") or ""), 200)


def retry_merge(attempt: MergeAttempt) -> None:
    """Ring again for a merge that is on its way, and count its tries anew. Raises Conflict for one that has settled."""
    with transaction.atomic():
        active = MergeAttempt.objects.filter(pk=attempt.pk, state__in=ACTIVE)
        if not active.update(attempts=0, lease_owner="", lease_until=None):
            raise Conflict(
                f"This merge has settled: {attempt.state}. Complete the task again for a new one.", allowed=[]
            )
        enqueue(Names.MERGE, attempt.pk)


def run_merge(attempt_id: uuid.UUID | str) -> None:
    """Carry the attempt out, or finish what an earlier call began. Never merges twice; returns when another is at it."""
    attempt = MergeAttempt.objects.select_related("workspace__project").filter(pk=attempt_id).first()
    if attempt is None or attempt.state not in ACTIVE:
        return
    project = attempt.workspace.project
    try:
        store = vcs_named(project.vcs).store(Path(project.path))
        # One at a time in a repository: a second merge must not see the first one's half-updated checkout.
        with held(f"repository:{store}", patience=LOCK_PATIENCE):
            _run_locked(attempt)
    except Busy:
        log.info("merge_waits", attempt=str(attempt.pk))
    except Upstream as error:
        _postpone(attempt, error)
    except OSError as error:
        _postpone(attempt, Upstream(f"{error.strerror}: {error.filename}", transient=True))


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
        return Settlement(MergeState.MERGED, note=f"{attempt.target_branch} already had all of it.")
    try:
        moved = vcs.advance_branch(
            repository,
            attempt.target_branch,
            tip,
            attempt.result_commit,
            reason=f"{attempt.how} of {workspace.branch}",
            resuming=resuming,
        )
    except Blocked as blocked:
        return Settlement(MergeState.REFUSED, REFUSED, blocked.message)
    note = "".join(f"The checkout {readable(path)} was brought along. " for path in moved).strip()
    return Settlement(MergeState.MERGED, note=note)


def _compute(attempt: MergeAttempt, epoch: int, vcs: Vcs, repository: Path, tip: str) -> Settlement | None:
    """Compute the merge onto `tip` and record it in the row; a settlement when there is nothing to record."""
    workspace = attempt.workspace
    if workspace.state != WorkspaceState.READY:
        return Settlement(MergeState.REFUSED, REFUSED, f"The workspace {workspace.label} is {workspace.state}.")
    author = _author(attempt, vcs.identity(repository))
    with held(f"workspace:{workspace.pk}", patience=LOCK_PATIENCE), opened(workspace) as (_, path):
        # What is shown as the change is what is merged: nothing may be left uncommitted.
        source = commit_locked(workspace, vcs, path, attempt.message, author)
    if source == workspace.base_commit:
        text = f"There is nothing to merge: {workspace.label} does not differ from {attempt.target_branch}."
        return Settlement(MergeState.REFUSED, REFUSED, text)
    request = MergeRequest(
        how=attempt.how,
        target=tip,
        source=source,
        message=attempt.message,
        author=author,
        committer=author,
        at=attempt.created_at,
    )
    result = vcs.compute_merge(repository, request)
    if result.conflicts:
        files = tuple(cut(readable(file), 1_000) for file in result.conflicts)
        text = f"{len(files)} files conflict with {attempt.target_branch}; nothing was moved."
        return Settlement(MergeState.CONFLICTED, CONFLICT, text, files[:CONFLICTS_KEPT])
    if result.refusal:
        return Settlement(MergeState.REFUSED, REFUSED, result.refusal)
    attempt.state, attempt.target_before, attempt.result_commit = MergeState.COMPUTED, tip, result.commit
    # Recorded before the branch moves: after a crash in between the next worker finishes with this very commit.
    recorded = fenced(MergeAttempt, attempt.pk, epoch).filter(state__in=ACTIVE)
    if not recorded.update(
        state=MergeState.COMPUTED, target_before=tip, result_commit=result.commit, source_commit=source
    ):
        raise Upstream("Another worker took this merge over.", transient=True)
    return None


def _author(attempt: MergeAttempt, configured: Person | None) -> Person:
    """Who merges: the account where it has an e-mail address, else whom the repository's configuration names."""
    if attempt.author_email:
        return Person(attempt.author_name, attempt.author_email)
    return configured or Person(attempt.author_name, AGENT_EMAIL)


def _settle(attempt: MergeAttempt, epoch: int | None, settlement: Settlement) -> None:
    """End the attempt and say so. Nothing happens when another worker holds it, or it has ended already."""
    rows = MergeAttempt.objects.filter(pk=attempt.pk) if epoch is None else fenced(MergeAttempt, attempt.pk, epoch)
    with transaction.atomic():
        if rows.filter(state__in=ACTIVE).update(
            state=settlement.state,
            error_code=settlement.error_code,
            error=cut(clean(settlement.error), ERROR_LIMIT),
            conflicts=list(settlement.conflicts),
            checkout_note=settlement.note,
            settled_at=now(),
            lease_owner="",
            lease_until=None,
        ):
            merge_settled.send(sender=MergeAttempt, attempt_id=attempt.pk)


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
