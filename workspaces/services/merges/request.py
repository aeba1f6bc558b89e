"""Asking for a merge, for its reverse, or for the checkout as it was: a row and a bell. No git runs here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction

from studio.kernel.errors import Conflict, Invalid
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces.models import MergeAttempt, MergeKind, MergeState, Project, Workspace, WorkspaceState
from workspaces.services.checkouts import AGENT_EMAIL
from workspaces.vcs import vcs_named

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

WAYS = ("merge", "squash", "rebase")
ACTIVE = (MergeState.QUEUED, MergeState.COMPUTED)
BRANCH_LIMIT = 250
MESSAGE_LIMIT = 20_000
MARKED_LIMIT = 1_000  # files with lines of a conflict that can be meant
NAME_LIMIT = 1_000  # characters of a file's name that are kept
OWN_BRANCHES = "studio/"


def check_target(project: Project, branch: str) -> None:
    """Raise Invalid, with the field, unless `branch` is a local branch that a task can be merged into."""
    if (
        branch != clean(branch).strip()
        or not 0 < len(branch) <= BRANCH_LIMIT
        or branch.startswith(OWN_BRANCHES)
        or vcs_named(project.vcs).tip(Path(project.path), branch) is None
    ):
        raise Invalid(
            f"{project.name} has no branch called “{cut(clean(branch), 100)}” to merge into.",
            detail={"field": "target"},
        )


def request_merge(
    *,
    workspace: Workspace,
    how: str,
    message: str,
    target: str = "",
    meant: Sequence[str] = (),
    actor: AbstractBaseUser | None = None,
) -> MergeAttempt:
    """Have the workspace merged into `target`, once the transaction has committed. `actor` is the author.

    Without `target` it is the branch that the workspace came from. `meant` are the files, as a preview names them, in which
    lines of a conflict are meant to stand. Raises Invalid for an unknown way and Conflict when the
    workspace is not ready or a merge of it is already on its way.
    """
    if how not in WAYS:
        raise Invalid(f"“{cut(clean(how), 40)}” is not a way to merge; there are {', '.join(WAYS)}.")
    if len(message) > MESSAGE_LIMIT:
        raise Invalid(
            f"The message has {len(message):,} characters; {MESSAGE_LIMIT:,} are possible.",
            detail={"field": "message"},
        )
    if workspace.state != WorkspaceState.READY:
        raise Conflict(workspace.absence, allowed=[])
    return _open(
        workspace,
        f"A merge of {workspace.label} is already on its way.",
        actor,
        how=how,
        target_branch=target or workspace.base_branch,
        message=clean(message),
        meant=meant_names(meant),
    )


def meant_names(files: Sequence[str]) -> list[str]:
    """The files of which somebody says that lines of a conflict are meant in them; cleaned and bounded."""
    return [cut(clean(file), NAME_LIMIT) for file in files[:MARKED_LIMIT]]


def request_revert(*, merge: MergeAttempt, message: str, actor: AbstractBaseUser | None = None) -> MergeAttempt:
    """Have a merge taken back, once the transaction has committed. Raises Conflict for one that was not carried out."""
    if merge.kind != MergeKind.MERGE or merge.state != MergeState.MERGED or not merge.target_before:
        raise Conflict("Only a merge that the studio made can be taken back.", allowed=[])
    return _open(
        merge.workspace,
        f"Another merge of {merge.workspace.label} is on its way.",
        actor,
        kind=MergeKind.REVERT,
        reverts=merge,
        how="revert",
        target_branch=merge.target_branch,
        message=clean(message),
    )


def request_restore(*, workspace: Workspace, commit: str, actor: AbstractBaseUser | None = None) -> MergeAttempt:
    """Have the workspace's checkout put back to `commit`, once the transaction has committed; nothing of it is lost."""
    return _open(
        workspace,
        f"A merge of {workspace.label} is on its way.",
        actor,
        kind=MergeKind.RESTORE,
        how="restore",
        target_branch=workspace.base_branch,
        source_commit=commit,
        message="",
    )


def _open(workspace: Workspace, taken: str, actor: AbstractBaseUser | None, **fields: Any) -> MergeAttempt:
    """The row and the bell for it. Raises Conflict, with the sentence `taken`, while another attempt is active."""
    name, email = _account(actor)
    try:
        with transaction.atomic():
            attempt = MergeAttempt.objects.create(workspace=workspace, author_name=name, author_email=email, **fields)
            enqueue(Names.MERGE, attempt.pk)
    except IntegrityError:
        raise Conflict(taken, allowed=[]) from None
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
