"""Looking at a workspace from time to time: what it takes, what in it is not merged, and whether it was damaged."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import structlog
from django.db import transaction
from django.db.models import Q

from studio.kernel.clock import later, now
from studio.kernel.errors import StudioError, Upstream
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces.disk import Size, measure
from workspaces.models import PullRequest, Workspace, WorkspaceState
from workspaces.remedies import in_words
from workspaces.services.checkouts import ERROR_LIMIT, Away, checkout_path, require_repository
from workspaces.services.merged import Standing, standing_of
from workspaces.services.news import tell
from workspaces.vcs import vcs_named
from workspaces.vcs.base import readable

log = structlog.get_logger(__name__)

LOOKS_AT_ONCE = 3  # in one sweep
AGAIN_SECONDS = 900.0  # between two looks at the same workspace
ASKED_SECONDS = 300.0  # until a look that was asked for and did not happen is asked for again
MEASURE_SECONDS = 20.0


def ring_for_looks() -> int:
    """Have the workspaces that are due looked at, a few at a time; how many."""
    due = Workspace.objects.filter(Q(look_due__isnull=True) | Q(look_due__lte=now()), state=WorkspaceState.READY)
    ids = list(due.order_by("look_due").values_list("pk", flat=True)[:LOOKS_AT_ONCE])
    Workspace.objects.filter(pk__in=ids).update(look_due=later(ASKED_SECONDS))
    for workspace_id in ids:
        enqueue(Names.LOOK_AT_WORKSPACE, workspace_id)
    return len(ids)


def look_at(workspace_id: uuid.UUID | str) -> None:
    """Measure a ready workspace and write down what was found; what was wrong and is no longer is forgotten. Idempotent."""
    row = Workspace.objects.select_related("project").filter(pk=workspace_id, state=WorkspaceState.READY).first()
    if row is None:
        return
    trouble = damage_of(row)
    size = Size(0, partial=False) if trouble else measure(checkout_path(row), seconds=MEASURE_SECONDS)
    found: dict[str, object] = {"trouble": trouble, "size_partial": size.partial}
    if not trouble:
        found |= {"size_bytes": size.bytes, **_unmerged(row)}
    changed = row.looked_at is None or any(getattr(row, name) != value for name, value in found.items())
    with transaction.atomic():
        rows = Workspace.objects.filter(pk=row.pk, state=WorkspaceState.READY)
        if rows.update(**found, looked_at=now(), look_due=later(AGAIN_SECONDS)) and changed:
            tell(row)


def _unmerged(row: Workspace) -> dict[str, object]:
    """What in the workspace is merged and what is not, as fields of its row; unknown where it cannot be told."""
    standing, uncommitted = None, None
    try:
        status = vcs_named(row.project.vcs).status(checkout_path(row), row.base_branch)
        standing = standing_of(row, status.head)
        uncommitted = len({*status.staged, *status.unstaged, *status.untracked, *status.conflicted})
    except (StudioError, OSError) as error:
        log.info("workspace_not_looked_at", workspace=str(row.pk), error=str(error))
    merged = standing or Standing(0)
    return {
        "ahead": standing.beyond if standing else None,
        "uncommitted": uncommitted,
        "merged_how": merged.how or "",
        "merged_as": merged.commit,
    }


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a workspace holds that a merged pull request of it does not have."""

    commits: int = 0
    files: int = 0  # in no commit


def left_out(pull: PullRequest) -> LeftOut:
    """What of the workspace is neither in its merged pull request nor on the target. Raises Upstream when that cannot be told.

    A squash or a rebase leaves other commits on the target, so what counts is the branch's last commit that was merged. It
    counts at once, although the target's branch here has it only after the next pull.
    """
    row = pull.workspace
    vcs, repository = vcs_named(row.project.vcs), Path(row.project.path)
    files: set[str] = set()
    try:
        path = checkout_path(row)
        if path.exists():
            if trouble := damage_of(row):
                raise Upstream(trouble)
            status = vcs.status(path, row.base_branch)
            files = {*status.staged, *status.unstaged, *status.untracked, *status.conflicted}
            files.difference_update(vcs.nested_repositories(path))  # which no commit could have
            head = status.head
        else:
            require_repository(row.project)
            head = vcs.tip(repository, row.branch) or row.head_commit
        if not knows(row, head):
            raise Upstream(f"The commits of {row.label} are gone from the repository.")
        merged = [row.base_commit, vcs.tip(repository, row.base_branch), pull.head_commit, pull.merge_commit]
        return LeftOut(vcs.count_beyond(repository, head, [commit for commit in merged if commit]), len(files))
    except OSError as error:
        raise in_words(error) from error


def knows(row: Workspace, commit: str) -> bool:
    """Whether the repository has the commit; one that is away has none."""
    try:
        return bool(commit) and vcs_named(row.project.vcs).contains(Path(row.project.path), commit, commit)
    except (Upstream, OSError):
        return False


def damage_of(row: Workspace) -> str:
    """How a ready workspace was damaged from outside, as a sentence; empty when it is whole. Cheap: nothing is read in full."""
    try:
        require_repository(row.project)
        return _damage(row)
    except Away as away:
        return away.message
    except (Upstream, OSError) as error:
        failure = error if isinstance(error, Upstream) else in_words(error)
        return cut(clean(failure.message), ERROR_LIMIT)


def _damage(row: Workspace) -> str:
    vcs, repository, path = vcs_named(row.project.vcs), Path(row.project.path), checkout_path(row)
    tip = vcs.tip(repository, row.branch)
    if not path.exists():
        left = f"Its branch {row.branch} has everything that was committed." if tip else "Its branch is gone too."
        return f"The folder of the checkout is gone ({readable(path)}). {left} Repair makes it again."
    if not vcs.owns_checkout(repository, path):
        return f"{readable(path)} has lost its link to the repository, or belongs to another one. Its files are there; Repair mends the link."
    if tip is None:
        return f"The branch {row.branch} was deleted. The files of the checkout are there; Repair puts the branch back."
    if _fell_back(row, tip):
        return (
            f"The branch {row.branch} was moved back to {tip[:10]}, so that the work up to {row.head_commit[:10]} is on no "
            "branch. The commits are still there; Repair puts it back to them."
        )
    return ""


def _fell_back(row: Workspace, tip: str) -> bool:
    """Whether the branch was put where others' work is, off what the studio had committed. An agent's own rebase is not that."""
    vcs, repository = vcs_named(row.project.vcs), Path(row.project.path)
    if row.head_commit in ("", row.base_commit, tip) or vcs.contains(repository, tip, row.head_commit):
        return False
    target = vcs.tip(repository, row.base_branch)
    return tip == row.base_commit or (target is not None and vcs.contains(repository, target, tip))
