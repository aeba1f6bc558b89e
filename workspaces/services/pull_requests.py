"""Opening a workspace's pull request, bringing it up to date, and reading what became of it on the forge.

The row is written before anything is sent. The job pushes the branch, looks for a pull request that an earlier call may
have opened from it, and creates one only when there is none; so a crash at any point is finished by the next call. Nothing
waits in a job: what fails for a passing reason, and what is to be read again, is due at a time in the row.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import structlog
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Least

from studio.kernel.claim import claim, fenced, renew
from studio.kernel.clock import later, now
from studio.kernel.errors import Conflict, Invalid, StudioError, Upstream
from studio.kernel.faultpoints import reach
from studio.kernel.secretbox import unseal
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces.forge.addresses import push_header
from workspaces.forge.base import Check, Comment, Forge, ForgeError, NewPull, Pull, Refused
from workspaces.forge.connections import connection_of, forge_for, remotes_of, require_connection
from workspaces.locks import Busy, held
from workspaces.models import (
    ChecksState,
    ForgeConnection,
    PullRequest,
    PullRequestState,
    ReviewComment,
    Workspace,
    WorkspaceState,
)
from workspaces.services.checkouts import AGENT_EMAIL, ERROR_LIMIT, commit_locked, opened
from workspaces.services.inspection import knows
from workspaces.services.merges import markers
from workspaces.services.merges.request import meant_names
from workspaces.signals import pull_request_changed
from workspaces.vcs import vcs_named
from workspaces.vcs.base import Raced
from workspaces.vcs.merging import Person

log = structlog.get_logger(__name__)

ACTIVE = (PullRequestState.INTENDED, PullRequestState.OPEN)
WITHDRAWN = "withdrawn"
LEASE_SECONDS = 300.0  # a push of a large branch may take that long
LOCK_PATIENCE = 20.0
MAX_ATTEMPTS = 6
MOST_ATTEMPTS = 20  # counted: a forge may be away for months
BACKOFF = 5.0  # seconds, doubled with each failure
SOONEST, LATEST = 30.0, 900.0  # seconds between two readings of an open pull request
SWEPT = 50  # pull requests that one sweep rings for
TITLE_LIMIT = 250
BODY_LIMIT = 60_000
SUMMARY_KEPT = 2_000


def request_pull_request(
    *, workspace: Workspace, title: str, body: str, draft: bool | None = None, meant: Sequence[str] = ()
) -> PullRequest:
    """Have the workspace's branch pushed and a pull request opened for it, once the transaction has committed.

    One that is open already is brought up to date instead: its branch is pushed again. `meant` are the files in which lines
    of a conflict are meant to stand; that holds for as long as the pull request is open. Raises Conflict without a forge or a
    ready workspace, Invalid without a title.
    """
    if workspace.state != WorkspaceState.READY:
        raise Conflict(workspace.absence, allowed=[])
    connection = require_connection(workspace.project)
    title = cut(" ".join(clean(title).split()), TITLE_LIMIT)
    if not title:
        raise Invalid("A pull request needs a title.", detail={"field": "title"})
    values = {
        "repository": connection.repository,
        "title": title,
        "body": cut(clean(body).replace("\r\n", "\n"), BODY_LIMIT),
        "draft": connection.draft if draft is None else draft,
        "head_branch": workspace.branch,
        "base_branch": connection.base_branch or workspace.base_branch,
    }
    due: dict[str, object] = {
        "push_requested_at": now(),
        "next_sync_at": now(),
        "attempts": 0,
        "error": "",
        "error_code": "",
    }
    with transaction.atomic():
        active = PullRequest.objects.select_for_update().filter(workspace=workspace, state__in=ACTIVE).first()
        due["meant"] = meant_names([*meant, *(active.meant if active is not None else ())])
        if active is None:
            active = _new(workspace, {**values, **due})
        elif active.number is None:
            PullRequest.objects.filter(pk=active.pk).update(**values, **due)
        else:
            PullRequest.objects.filter(pk=active.pk).update(**due)
        enqueue(Names.SYNC_PULL_REQUEST, active.pk)
    return active


def _new(workspace: Workspace, values: dict[str, object]) -> PullRequest:
    try:
        with transaction.atomic():
            return PullRequest.objects.create(workspace=workspace, **values)
    except IntegrityError:
        raise Conflict(f"A pull request for {workspace.label} is being opened already.", allowed=[]) from None


def refresh_pull_request(pull_request: PullRequest) -> None:
    """Have it read again now, even before a rate limit's end that the forge named. Raises Conflict when it is settled."""
    with transaction.atomic():
        active = PullRequest.objects.filter(pk=pull_request.pk, state__in=ACTIVE)
        if not active.update(next_sync_at=now(), quiet=0, attempts=0):
            raise Conflict("This pull request is settled; there is nothing to read any more.", allowed=[])
        enqueue(Names.SYNC_PULL_REQUEST, pull_request.pk)


def withdraw_pull_request(workspace: Workspace) -> None:
    """Do not open what is not open yet: its task went elsewhere. Belongs into the transaction that sends it there.

    A worker that is at it loses the row, so it opens nothing any more either.
    """
    intended = PullRequest.objects.filter(workspace=workspace, state=PullRequestState.INTENDED, number=None)
    intended.update(
        state=PullRequestState.FAILED,
        error_code=WITHDRAWN,
        error="It was given up before it was opened.",
        settled_at=now(),
        next_sync_at=None,
        lease_epoch=F("lease_epoch") + 1,
        lease_owner="",
        lease_until=None,
    )


def due_pull_requests() -> Sequence[uuid.UUID]:
    """Those that are to be opened, pushed or read now, the longest overdue first; bounded."""
    free = Q(lease_until__isnull=True) | Q(lease_until__lte=now())
    rows = PullRequest.objects.filter(free, state__in=ACTIVE, next_sync_at__lte=now()).order_by("next_sync_at")
    return list(rows.values_list("pk", flat=True)[:SWEPT])


def sync_pull_request(pull_request_id: uuid.UUID | str) -> None:
    """Open, push or read a pull request that is due. Idempotent; returns when another worker is at it."""
    row = PullRequest.objects.select_related("workspace__project").filter(pk=pull_request_id).first()
    if row is None or row.state not in ACTIVE or row.next_sync_at is None or row.next_sync_at > now():
        return
    epoch = claim(PullRequest.objects.filter(pk=row.pk, state__in=ACTIVE), seconds=LEASE_SECONDS)
    if epoch is None:
        return
    row.refresh_from_db(fields=["push_requested_at", "meant", "state", "head_commit", "attempts", "number"])
    # Counted before it begins: work that kills its worker is bounded like work that fails.
    fenced(PullRequest, row.pk, epoch).update(attempts=Least(F("attempts") + 1, MOST_ATTEMPTS))
    try:
        if row.push_requested_at is not None and row.attempts >= MAX_ATTEMPTS:
            raise ForgeError(f"It was begun {MAX_ATTEMPTS} times and never came to an end.")
        _carry_on(row, epoch)
    except Busy:
        fenced(PullRequest, row.pk, epoch).update(
            next_sync_at=later(BACKOFF), attempts=row.attempts, lease_owner="", lease_until=None
        )
    except StudioError as error:
        _postpone(row, epoch, error)
    except OSError as error:
        _postpone(row, epoch, Upstream(f"{error.strerror}: {error.filename}", transient=True))


def _carry_on(row: PullRequest, epoch: int) -> None:
    connection = connection_of(row.workspace.project)
    if connection is None or connection.repository != row.repository:
        raise ForgeError(f"{row.workspace.project.name} is no longer connected to {row.repository}.", code="no_forge")
    forge = forge_for(connection)
    settled = _settled(row, forge) if row.push_requested_at is not None else None
    certain = row.head_commit  # was there when it was last seen open
    if row.push_requested_at is not None and settled is None:
        commit = _push(row, connection)
        reach("pull_request.pushed")
        if not fenced(PullRequest, row.pk, epoch).update(head_commit=commit):
            return
        row.head_commit = commit
        if row.number is None:
            if not _open(row, epoch, forge, connection):
                return
            certain = commit  # it was opened with that
        renew(PullRequest, row.pk, epoch, seconds=LEASE_SECONDS)
    _read(row, epoch, forge, certain, settled)


def _settled(row: PullRequest, forge: Forge) -> Pull | None:
    """The pull request when the forge has settled it: nothing is pushed then, for it would not be in what was merged."""
    pull = forge.pull(row.number) if row.number is not None else None
    return pull if pull is not None and pull.state != PullRequestState.OPEN else None


def _push(row: PullRequest, connection: ForgeConnection) -> str:
    """Commit what is left and push the branch; the commit that the remote has now."""
    workspace = row.workspace
    address = remotes_of(workspace.project).get(connection.remote)
    if address is None:
        raise ForgeError(f"The repository has no remote called “{connection.remote}”.", code="no_remote")
    with held(f"workspace:{workspace.pk}", patience=LOCK_PATIENCE), opened(workspace, to_commit=True) as (vcs, path):
        author = Person("OpenCode Studio", AGENT_EMAIL)
        commit = commit_locked(workspace, vcs, path, f"{row.title}\n\nTask: {workspace.label}", author)
    if commit == workspace.base_commit:
        raise ForgeError(
            f"There is nothing to pull: {workspace.label} does not differ from its base.", code="no_change"
        )
    vcs, repository = vcs_named(workspace.project.vcs), Path(workspace.project.path)
    left = markers.marked_files(workspace, vcs, repository, markers.fork_of(workspace, vcs, commit), commit)
    if left := [file for file in left if file not in row.meant]:
        raise ForgeError(markers.refusal(left), code=markers.MARKED)
    header = push_header(connection.base_url, address, unseal(connection.sealed_token))
    # The address that was looked at is the one that gets the token, not what its name may mean to a push.
    where = (repository, address if header else connection.remote, commit, row.head_branch)
    try:
        vcs.push(*where, expected=row.head_commit, header=header)
    except Raced:
        try:
            vcs.push(*where, expected=None, header=header)
        except Raced as error:
            raise ForgeError(
                f"The branch {row.head_branch} of {connection.remote} has commits that this task's checkout does not have. "
                "Bring them into the checkout, or delete that branch there.",
                code="branch_moved",
            ) from error
    return commit


def _open(row: PullRequest, epoch: int, forge: Forge, connection: ForgeConnection) -> bool:
    """Find or create the pull request and write its number down; False when the row is no longer this worker's."""
    found = _find(row, forge)
    if found is None:
        reach("pull_request.before_create")
        if not renew(PullRequest, row.pk, epoch, seconds=LEASE_SECONDS):
            return False
        try:
            found = forge.create(NewPull(row.head_branch, row.base_branch, row.title, row.body, row.draft))
        except Refused:
            # It may have been opened by somebody else, or by a call whose answer was lost.
            found = _find(row, forge)
            if found is None:
                raise
        reach("pull_request.created")
    if not found.number:
        raise ForgeError(f"{connection.base_url} did not say which pull request it opened.", code="forge_answer")
    notes = []
    if found.state == "open" and renew(PullRequest, row.pk, epoch, seconds=LEASE_SECONDS):
        notes = forge.decorate(found.number, connection.reviewers, connection.labels)
    row.number = found.number
    values = {"number": found.number, "url": found.url, "note": cut("\n".join(notes), ERROR_LIMIT)}
    if not fenced(PullRequest, row.pk, epoch).update(**values):
        _say_opened(row, found)
        return False
    return True


def _say_opened(row: PullRequest, found: Pull) -> None:
    """Say so in the row when it was withdrawn while the forge was opening it: there it stays until a person closes it."""
    words = f"It was given up in the moment in which it was opened as #{found.number}."
    if found.state == "open":
        words += " It is still open on the forge: close it there."
    with transaction.atomic():
        withdrawn = PullRequest.objects.filter(pk=row.pk, error_code=WITHDRAWN, number=None)
        if withdrawn.update(number=found.number, url=found.url, error=words):
            pull_request_changed.send(sender=PullRequest, pull_request=row)


def _find(row: PullRequest, forge: Forge) -> Pull | None:
    """What an earlier call may have opened. An earlier one of the workspace that was merged without this commit is not it."""
    found = forge.find(row.head_branch, row.head_commit)
    merged = row.workspace.pull_requests.filter(repository=row.repository, state=PullRequestState.MERGED)
    if found is None or merged.filter(number=found.number).exclude(head_commit=row.head_commit).exists():
        return None
    return found


def _read(row: PullRequest, epoch: int, forge: Forge, certain: str, settled: Pull | None) -> None:
    """Read the pull request, unless it was read as `settled`, its checks and its comments; write down what is new.

    What the forge says was merged is written down as that, never what was pushed last: it may have been merged before the
    push. Where that is a commit that somebody made there, it is not known here; then `certain` is what was merged of ours.
    """
    number = row.number or 0
    pull = settled or forge.pull(number)
    if pull.number != number:
        raise ForgeError(f"{row.repository} answered with something else than #{number}.", code="forge_answer")
    checks = forge.checks(pull.head_commit or row.head_commit)
    comments = forge.comments(number)
    merged = pull.state == PullRequestState.MERGED
    head = (pull.head_commit if knows(row.workspace, pull.head_commit) else certain) if merged else row.head_commit
    with transaction.atomic():
        held_row = fenced(PullRequest, row.pk, epoch).filter(state__in=ACTIVE).select_for_update().first()
        if held_row is None:
            return
        news = _write_comments(held_row, comments)
        news = _write(held_row, pull, checks) or news
        held_row.head_commit = head
        # A push that was asked for meanwhile stays asked for.
        if held_row.push_requested_at == row.push_requested_at:
            held_row.push_requested_at = None
        held_row.quiet = 0 if news else min(held_row.quiet + 1, 100)
        pushed_again = held_row.push_requested_at is not None
        held_row.next_sync_at = now() if pushed_again else next_reading(held_row)
        held_row.synced_at, held_row.attempts, held_row.error, held_row.error_code = now(), 0, "", ""
        held_row.lease_owner, held_row.lease_until = "", None
        held_row.save()
        if news or row.push_requested_at is not None:
            pull_request_changed.send(sender=PullRequest, pull_request=held_row)


def _write(row: PullRequest, pull: Pull, checks: list[Check]) -> bool:
    """Put what the forge says into the row; whether anything is new."""
    kept = [asdict(check) | {"summary": cut(check.summary, SUMMARY_KEPT)} for check in checks]
    states = {check.state for check in checks}
    before = (row.state, row.draft, row.title, row.checks, row.merge_commit)
    row.state = PullRequestState(pull.state)
    row.draft, row.merge_commit = pull.draft, pull.merge_commit
    row.url, row.title = pull.url or row.url, pull.title or row.title
    row.checks = kept
    row.checks_state = (
        ChecksState.FAILED if "failed" in states
        else ChecksState.PENDING if "pending" in states
        else ChecksState.PASSED if states else ChecksState.NONE
    )  # fmt: skip
    if row.state not in ACTIVE:
        row.settled_at = now()
    return before != (row.state, row.draft, row.title, row.checks, row.merge_commit)


def _write_comments(row: PullRequest, comments: list[Comment]) -> bool:
    known = {comment.upstream_id: comment for comment in row.comments.all()}
    news = False
    for found in comments:
        values = {
            "author": found.author, "path": found.path, "line": found.line, "body": found.body, "url": found.url,
        }  # fmt: skip
        comment = known.get(found.id)
        if comment is None:
            ReviewComment.objects.get_or_create(pull_request=row, upstream_id=found.id, defaults=values)
            news = True
        elif any(getattr(comment, name) != value for name, value in values.items()):
            ReviewComment.objects.filter(pk=comment.pk).update(**values)
            news = True
    return news


def next_reading(row: PullRequest) -> datetime | None:
    """When an open pull request is read again: soon after something happened, then less and less often."""
    if row.state not in ACTIVE:
        return None
    longest = 2 * SOONEST if row.checks_state == ChecksState.PENDING else LATEST
    return later(min(SOONEST * 1.3**row.quiet, longest) * random.uniform(0.9, 1.1))  # noqa: S311 -- jitter


def _postpone(row: PullRequest, epoch: int, error: StudioError) -> None:
    """Try again later; or say that it could not be opened or pushed. One that is open is read again for ever, seldom."""
    transient = isinstance(error, Upstream) and error.transient
    named = error.retry_at if isinstance(error, ForgeError) else None
    wait = named or later(min(BACKOFF * 2**row.attempts, LATEST) * random.uniform(0.9, 1.1))  # noqa: S311 -- jitter
    log.warning("pull_request_failed", pull_request=str(row.pk), code=error.code, error=error.message)
    with transaction.atomic():
        found = fenced(PullRequest, row.pk, epoch).filter(state__in=ACTIVE).select_for_update().first()
        if found is None:
            return
        before = (found.error_code, found.error)
        found.error_code, found.error = cut(error.code, 40), cut(clean(error.message), ERROR_LIMIT)
        found.next_sync_at = wait if transient else later(LATEST)
        found.lease_owner, found.lease_until = "", None
        gives_up = found.push_requested_at is not None and (not transient or found.attempts >= MAX_ATTEMPTS)
        if gives_up:
            found.push_requested_at = None
            if found.state == PullRequestState.INTENDED and found.number is None:
                found.state, found.settled_at, found.next_sync_at = PullRequestState.FAILED, now(), None
        found.save()
        if gives_up or before != (found.error_code, found.error):
            pull_request_changed.send(sender=PullRequest, pull_request=found)
