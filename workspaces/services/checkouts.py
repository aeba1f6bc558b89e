"""Workspaces: made from a project's default branch, committed in, compared with their base."""

from __future__ import annotations

import os
import re
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction

from studio.kernel.clock import later, now
from studio.kernel.errors import NotFound, Upstream
from studio.kernel.ids import new_id
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces import diff as diffs
from workspaces.diff import Diff
from workspaces.locks import Busy, held
from workspaces.models import KeptWork, MergeAttempt, MergeKind, MergeState, Project, Workspace, WorkspaceState
from workspaces.remedies import in_words
from workspaces.services.ownership import leave_note, require_own
from workspaces.vcs import reading_of, vcs_named
from workspaces.vcs.base import ChangedFile, Changes, CheckoutStatus, Vcs, readable
from workspaces.vcs.merging import Person

log = structlog.get_logger(__name__)

LOCK_PATIENCE = 100.0  # seconds; a checkout of a very large repository may take that long
AGENT_EMAIL = "agent@opencode-studio.invalid"
TRIES = 20  # for a branch name that is free
ERROR_LIMIT = 2_000
FIRST_LOOK = 60.0  # seconds until the sweeper has a new workspace measured


@dataclass(frozen=True, slots=True)
class Start:
    """Where a workspace begins when that is not the tip of the project's default branch."""

    commit: str
    base: str  # what its change is held against
    words: str
    restores: KeptWork | None = None
    held: bool = False  # nothing but the workspace's own branch would keep the commit
    alone: bool = False  # no task waits for it: it stays until a person lets it go


def ensure_workspace(*, project: Project, label: str, workspace_id: uuid.UUID | None = None) -> Workspace:
    """The ready workspace `workspace_id`, made if need be: a worktree on a new branch from the project's default branch.

    Idempotent: the row is written first, and a call after a crash goes on where the last one stopped. Raises
    Upstream(workspace_failed), with the reason kept in the row, when it cannot be made.
    """
    wanted = workspace_id or new_id()
    row = Workspace.objects.select_related("project").filter(pk=wanted).first()
    if row is not None and row.state in (WorkspaceState.REMOVING, WorkspaceState.REMOVED):
        raise Upstream(f"The workspace {row.label} has been removed.", code="workspace_failed")
    try:
        require_repository(project)
        if row is not None and row.state == WorkspaceState.READY and _is_there(row):
            return row
        with held(f"workspace:{wanted}", patience=LOCK_PATIENCE):
            row = write_row(project, label, wanted)
            _make(row)
    except (Busy, Away):
        raise
    except (Upstream, OSError) as error:
        failure = error if isinstance(error, Upstream) else in_words(error)
        Workspace.objects.filter(pk=wanted, state=WorkspaceState.CREATING).update(
            state=WorkspaceState.FAILED, error=cut(clean(failure.message), ERROR_LIMIT)
        )
        raise Upstream(failure.message, code="workspace_failed", transient=failure.transient) from error
    row.refresh_from_db()
    return row


class Away(Upstream):
    """The project's repository is not where it was registered: a disk that is not mounted, a folder that was moved."""

    code = "repository_away"


def require_repository(project: Project) -> None:
    """Raise Away, with what to do, unless the project's folder is there with a repository in it."""
    path = Path(project.path)
    if missing := vcs_named(project.vcs).what_is_missing(path):
        raise Away(
            f"The repository of {project.name} {missing}: {readable(path)}. Nothing was lost in the studio. Bring it back and "
            "the work goes on by itself; if it was moved, name its new place on the project's storage page.",
            transient=True,
        )


def _is_there(row: Workspace) -> bool:
    return vcs_named(row.project.vcs).owns_checkout(Path(row.project.path), checkout_path(row))


def write_row(project: Project, label: str, workspace_id: uuid.UUID, start: Start | None = None) -> Workspace:
    """The workspace's row, which says where it will be before anything is there; the one there is, if there is one."""
    found = Workspace.objects.select_related("project").filter(pk=workspace_id).first()
    if found is not None:
        return found
    vcs, repository = vcs_named(project.vcs), Path(project.path)
    base = start.base if start else vcs.tip(repository, project.default_branch)
    if base is None:
        raise Upstream(
            f"{readable(project.path)} has no branch “{project.default_branch}” any more. "
            "Choose another default branch in the project's settings."
        )
    slug = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40] or "work"
    path = Path(settings.STUDIO_WORKSPACE_ROOT) / project.key / f"{slug}-{workspace_id.hex[:8]}"
    for number in range(1, TRIES + 1):
        branch = f"studio/{slug}" if number == 1 else f"studio/{slug}-{number}"
        if vcs.tip(repository, branch) is not None:
            continue
        try:
            with transaction.atomic():
                return Workspace.objects.create(
                    id=workspace_id,
                    project=project,
                    label=label[:120],
                    path=str(path),
                    branch=branch,
                    base_branch=project.default_branch,
                    base_commit=base,
                    head_commit=start.commit if start else base,
                    start_commit=start.commit if start else "",
                    started_from=start.words if start else "",
                    restores=start.restores if start else None,
                    finished_at=now() if start and start.alone else None,
                    keep=bool(start and start.alone),
                    look_due=later(FIRST_LOOK),
                )
        except IntegrityError:
            found = Workspace.objects.select_related("project").filter(pk=workspace_id).first()
            if found is not None:
                return found  # another worker was first
    raise Upstream(
        f"All branch names from studio/{slug} to studio/{slug}-{TRIES} are taken in {readable(project.path)}."
    )


def _may_be_made(vcs: Vcs, repository: Path, path: Path) -> bool:
    return vcs.owns_checkout(repository, path) or vcs.is_unfinished(repository, path)


def _make(row: Workspace) -> None:
    """Make the checkout of `row` and say so in the row. One that was ready once is never deleted to be made again."""
    vcs, repository, path = vcs_named(row.project.vcs), Path(row.project.path), checkout_path(row)
    if row.state == WorkspaceState.READY and path.exists() and not _may_be_made(vcs, repository, path):
        raise Upstream(f"{readable(path)} no longer belongs to its repository. Move it away, then try again.")
    require_own(row, path)
    leave_note(row, path)
    if row.state == WorkspaceState.FAILED:
        Workspace.objects.filter(pk=row.pk, state=WorkspaceState.FAILED).update(state=WorkspaceState.CREATING, error="")
    if row.restores is not None and row.restores.bundle and vcs.tip(repository, row.branch) is None:
        vcs.bring_back(repository, Path(row.restores.bundle))
    vcs.create_checkout(repository, path, row.branch, row.start_commit or row.base_commit)
    leave_note(row, path)
    Workspace.objects.filter(pk=row.pk, state__in=[WorkspaceState.CREATING, WorkspaceState.READY]).update(
        state=WorkspaceState.READY, error=""
    )


def checkout_path(workspace: Workspace) -> Path:
    """Where the workspace is. Raises Upstream for a path that is not a folder right below a project's workspace folder.

    Everything that writes or deletes asks here first: a symbolic link on the way would lead out of the data folder.
    """
    root = Path(settings.STUDIO_WORKSPACE_ROOT).resolve()
    path = Path(workspace.path)
    inside = path.is_relative_to(root) and len(path.relative_to(root).parts) == 2 and ".." not in path.parts
    if not inside or path.resolve() != path:
        raise Upstream(f"{readable(path)} is not a workspace of this studio.", code="workspace_failed")
    return path


@contextmanager
def opened(workspace: Workspace, *, to_commit: bool = False) -> Iterator[tuple[Vcs, Path]]:
    """The checkout of a ready workspace, for one command after the other. Raises Upstream when it is not ours or is gone.

    So it does when its branch is gone, except `to_commit`: `commit_locked` puts the branch back. Damage that is met here is
    looked at by a job, so that pages offer the repair.
    """
    vcs, repository, path = vcs_named(workspace.project.vcs), Path(workspace.project.path), checkout_path(workspace)
    gone = ""
    if not vcs.owns_checkout(repository, path):
        gone = f"The checkout of {workspace.label} is gone, or no longer belongs to its repository."
    elif not to_commit and vcs.tip(repository, workspace.branch) is None:
        gone = f"The branch {workspace.branch} of {workspace.label} is gone. Its commits are still there."
    if gone:
        enqueue(Names.LOOK_AT_WORKSPACE, workspace.pk)
        sentence = f"{gone} Repair it on the task's page or the project's storage page."
        raise Upstream(sentence, code="workspace_failed")
    yield vcs, path


def commit_left(workspace: Workspace, *, message: str, author_name: str) -> str:
    """Commit what the workspace holds uncommitted; the commit that now holds all of it. Idempotent.

    The author is “NAME via OpenCode Studio”; hooks do not run and nothing is signed.
    """
    author = Person(f"{author_name} via OpenCode Studio", AGENT_EMAIL)
    with (
        held(f"workspace:{workspace.pk}", patience=LOCK_PATIENCE),
        opened(workspace, to_commit=True) as (vcs, path),
    ):
        return commit_locked(workspace, vcs, path, message, author)


def commit_locked(workspace: Workspace, vcs: Vcs, path: Path, message: str, author: Person) -> str:
    """`commit_left` for a caller that holds the workspace's lock. The row follows, its base too when the target was merged in.

    A branch that somebody deleted is put back first: committing without it would begin a history without the work before.
    """
    repository = Path(workspace.project.path)
    if vcs.tip(repository, workspace.branch) is None:
        mended = vcs.repair(repository, path, workspace.branch, workspace.head_commit)
        log.warning("branch_put_back", workspace=str(workspace.pk), done=mended)
    head = vcs.commit_all(path, workspace.branch, message, author)
    base = vcs.fork_point(path, workspace.base_commit, workspace.base_branch, head)
    if base == head:
        base = workspace.base_commit  # all of it is on the target already: what it was is still worth showing
    if (head, base) != (workspace.head_commit, workspace.base_commit):
        Workspace.objects.filter(pk=workspace.pk).update(head_commit=head, base_commit=base)
        workspace.head_commit, workspace.base_commit = head, base
    return head


def has_change(workspace: Workspace) -> bool:
    """Whether the workspace differs from its base at all, committed or not."""
    with opened(workspace) as (vcs, path):
        base = vcs.fork_point(path, workspace.base_commit, workspace.base_branch)
        return bool(vcs.changes(path, base, patches=False).files)


def diff_for(
    workspace: Workspace, *, base: str | None = None, head: str | None = None, file: str | None = None, offset: int = 0
) -> Diff:
    """The workspace against its base: committed, staged, unstaged and untracked, each file once; with `head` a range.

    `file` is a file's id or path: that one alone, with all its lines. Of a workspace that was removed it is the change that
    was merged, or what was committed last as long as git keeps it. Raises NotFound for an unknown file.
    """
    changes = _changes(workspace, base, head)
    if not file:
        return diffs.build(changes, offset=offset)
    found = diffs.find_file(changes, file)
    if found is None:
        raise NotFound(f"“{cut(clean(file), 200)}” is not part of this change.", code="file_unchanged")
    only = _changes(workspace, changes.base, changes.head or None, only=found.path)
    return diffs.build(only, whole=True)


def changed_files(workspace: Workspace) -> list[ChangedFile]:
    """The files that `diff_for` shows, without their lines."""
    return _changes(workspace, None, None, patches=False).files


def write_patch(workspace: Workspace, file: IO[bytes], *, limit: int) -> str | None:
    """Write what `diff_for` shows as one patch; the commit that it can be applied to, None when it is over `limit` bytes.

    Raises NotFound when there is nothing to compare.
    """
    if workspace.state in (WorkspaceState.CREATING, WorkspaceState.FAILED):
        raise NotFound(f"The workspace {workspace.label} is {workspace.state}.", code="workspace_not_ready")
    with _compared(workspace, None) as (_, path, base, head):
        fits = reading_of(workspace.project.vcs).write_patch(path, base, head, file, limit)
    return base if fits else None


def _changes(
    workspace: Workspace, base: str | None, head: str | None, *, only: str = "", patches: bool = True
) -> Changes:
    vcs, repository = vcs_named(workspace.project.vcs), Path(workspace.project.path)
    if head is not None:
        return vcs.changes(repository, base or workspace.base_commit, head, only=only, patches=patches)
    with _compared(workspace, base) as (vcs, path, start, end):
        if start == end:
            return Changes(start, end, [], [])
        return vcs.changes(path, start, end, only=only, patches=patches)


@contextmanager
def _compared(workspace: Workspace, base: str | None) -> Iterator[tuple[Vcs, Path, str, str]]:
    """What is held against what: (system, where, base, head), the head empty for a checkout as it is.

    Raises NotFound when the repository no longer has what a removed workspace held.
    """
    if workspace.state == WorkspaceState.READY:
        with opened(workspace) as (vcs, path):
            start = base or vcs.fork_point(path, workspace.base_commit, workspace.base_branch)
            # When all of it is on the target already, what it was is still worth showing.
            yield vcs, path, workspace.base_commit if start == workspace.head_commit else start, ""
        return
    vcs, repository = vcs_named(workspace.project.vcs), Path(workspace.project.path)
    if workspace.state not in (WorkspaceState.REMOVING, WorkspaceState.REMOVED):
        yield vcs, repository, workspace.head_commit, workspace.head_commit
        return
    start, end = merged_range(workspace) or (workspace.base_commit, workspace.head_commit)
    try:
        yield vcs, repository, base or start, end
    except Upstream as error:
        kept = f" What it held is kept in {workspace.kept_patch}." if workspace.kept_patch else ""
        raise NotFound(f"The workspace {workspace.label} has been removed.{kept}", code="workspace_removed") from error


def merged_range(workspace: Workspace) -> tuple[str, str] | None:
    """What the workspace's merge changed on its target, as (before, after); None when it was not merged."""
    merges = MergeAttempt.objects.filter(workspace=workspace, kind=MergeKind.MERGE, state=MergeState.MERGED)
    merges = merges.exclude(result_commit="")
    merge = merges.order_by("-settled_at").first()
    return (merge.target_before, merge.result_commit) if merge is not None else None


def status_for(workspace: Workspace) -> CheckoutStatus:
    """Where the workspace stands against its target branch. Raises NotFound when it is not there."""
    if workspace.state != WorkspaceState.READY:
        raise NotFound(f"The workspace {workspace.label} is {workspace.state}.", code="workspace_not_ready")
    with opened(workspace) as (vcs, path):
        return vcs.status(path, workspace.base_branch)


def read_text(workspace: Workspace, name: str, *, limit: int) -> str:
    """At most `limit` bytes of a text file in the workspace's root, cleaned; empty when there is no such plain file.

    A symbolic link is not followed: it may lead out of the workspace.
    """
    try:
        descriptor = os.open(checkout_path(workspace) / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return clean(os.read(descriptor, limit).decode("utf-8", "ignore")) if plain else ""
    finally:
        os.close(descriptor)


def find_text(workspace: Workspace, names: Sequence[str], *, limit: int) -> str:
    """The first of the named files (paths inside the workspace) that is a plain text, as `read_text` reads it."""
    root = checkout_path(workspace)
    for name in names:
        folder = (root / name).parent
        # A folder of the repository may be a symbolic link that leads elsewhere.
        if folder.is_dir() and folder.resolve() == folder and (found := read_text(workspace, name, limit=limit)):
            return found
    return ""
