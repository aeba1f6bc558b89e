"""Workspaces that do not begin at the target branch: at a person's branch or worktree, or at what was kept of another one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import transaction

from studio.kernel.errors import Conflict, Invalid, NotFound, Upstream
from studio.kernel.ids import new_id
from studio.kernel.permissions import Role
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces.models import KeptWork, Project, Workspace, WorkspaceState
from workspaces.selectors import require_role
from workspaces.services.checkouts import AGENT_EMAIL, Start, ensure_workspace, require_repository, write_row
from workspaces.services.kept import was_deleted
from workspaces.services.news import tell
from workspaces.services.projects import resolve_path
from workspaces.services.removal import request_removal
from workspaces.setup.effective import effective_for
from workspaces.setup.patterns import means
from workspaces.vcs import vcs_named
from workspaces.vcs.base import readable
from workspaces.vcs.merging import Person
from workspaces.vcs.taking import Taken, Worktree

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Account = AbstractBaseUser | AnonymousUser

SUGGESTED = 200
NAMED = 3
WORDS_LIMIT = 300

log = structlog.get_logger(__name__)


def start_at_branch(project: Project, branch: str) -> Start:
    """Begin where a local branch is; the branch itself stays where it is. Raises Invalid when it cannot be used."""
    require_repository(project)
    vcs, repository = vcs_named(project.vcs), Path(project.path)
    named = branch.strip()
    tip = vcs.tip(repository, named) if named and named == clean(named) and not named.startswith("-") else None
    if tip is None:
        raise Invalid(
            f"{project.name} has no local branch called “{cut(clean(named), 100)}”. "
            "One that is only on a remote is fetched first: git switch BRANCH.",
            detail={"field": "branch"},
        )
    target = vcs.tip(repository, project.default_branch)
    base = vcs.common(repository, tip, target) if target else None
    if base is None:
        raise Invalid(
            f"“{named}” and {project.default_branch} have no commit in common, so it could never be merged.",
            detail={"field": "branch"},
        )
    return Start(commit=tip, base=base, words=f"the branch {named}")


def start_at_worktree(project: Project, path: str) -> Start:
    """Begin at what a person has in a worktree of this repository, as it is now; the worktree is not touched.

    What is not committed there (staged, unstaged and untracked, not what is ignored) becomes one commit on top of the last,
    without new files that the setup's patterns for copies and links mean: they are secrets, or too large to be committed.
    Raises Invalid when it cannot be taken; then nothing was changed.
    """
    require_repository(project)
    vcs, repository = vcs_named(project.vcs), Path(project.path)
    found = next((one for one in _worktrees(project) if str(one.path) == path), None)
    if found is None or vcs.store(found.path) != vcs.store(repository):
        raise Invalid(
            f"“{cut(clean(path), 200)}” is no worktree of {project.name}, or lies where repositories may not be "
            "(STUDIO_REPOSITORY_ROOTS). git worktree list (jj workspace list) names them.",
            detail={"field": "worktree"},
        )
    place = readable(found.path)
    author = vcs.identity(repository) or Person("OpenCode Studio", AGENT_EMAIL)
    message = f"What {found.path.name} held and nobody had committed"
    taken = vcs.take_over(found.path, message, author, partial(_placed_by_setup, project))
    target = vcs.tip(repository, project.default_branch)
    base = vcs.common(repository, taken.commit, target) if target else None
    if base is None:
        raise Invalid(
            f"{place} and {project.default_branch} have no commit in common, so it could never be merged.",
            detail={"field": "worktree"},
        )
    return Start(commit=taken.commit, base=base, words=cut(_taken_words(found, taken), WORDS_LIMIT), held=True)


def _placed_by_setup(project: Project, head: str) -> Callable[[str], bool]:
    """Whether a path is one that setup copies or links, as it holds now or where the branch of `head` began."""
    vcs, repository = vcs_named(project.vcs), Path(project.path)
    target = vcs.tip(repository, project.default_branch)
    begun = vcs.common(repository, head, target) if target else None
    patterns: set[str] = set()
    for commit in dict.fromkeys((target, begun)):
        holds = effective_for(project, commit)
        if holds.error:
            raise Invalid(
                f"{holds.error} So what must stay out of a commit is not known. Nothing was changed; correct the file on "
                f"{project.default_branch}, then try again.",
                code="setup_invalid",
                detail={"field": "worktree"},
            )
        patterns.update(holds.setup.copy, holds.setup.link)
    return partial(means, patterns)


def _taken_words(found: Worktree, taken: Taken) -> str:
    """What was taken over, as a part of a sentence."""
    files = "1 file that was" if taken.files == 1 else f"{taken.files or 'no'} files that were"
    words = f"the worktree {readable(found.path)}{f' on {found.branch}' if found.branch else ''}, with {files} not committed"
    for names, what in (
        (taken.placed, "not taken, because setup copies or links it"),
        (taken.overlooked, "not taken, because git is told to overlook changes of it"),
        (taken.left_out, "not taken, because no commit can hold it"),
        (taken.outside, "taken as a link that leads outside"),
    ):
        if names:
            named = ", ".join(readable(name) for name in names[:NAMED]) + (" and more" if len(names) > NAMED else "")
            words += f"; {what}: {named}"
    return clean(words)


def _worktrees(project: Project) -> list[Worktree]:
    """The worktrees of people in the project's repository that may be looked at. Those of the studio are none."""
    own = Path(settings.STUDIO_WORKSPACE_ROOT).resolve()
    found = []
    for one in vcs_named(project.vcs).worktrees(Path(project.path)):
        try:
            allowed = resolve_path(str(one.path)) == one.path and not one.path.is_relative_to(own)
        except Invalid:
            continue
        if allowed:
            found.append(one)
    return found


def worktree_choices(project: Project) -> list[Worktree]:
    """The worktrees of people that a task may begin at, for suggestions; none while the repository cannot be read."""
    try:
        require_repository(project)
        return _worktrees(project)[:SUGGESTED]
    except Upstream:
        return []


def start_at_kept(kept: KeptWork) -> Start:
    """Begin at what was kept. Raises Conflict when it cannot be brought back; the patch may still apply then."""
    if kept.project is None or kept.deleted_at is not None:
        raise NotFound("There is no such kept work.")
    if not kept.bundle:
        raise Conflict(f"Of {kept.label} no commits are kept, only files in {kept.folder}.", allowed=[])
    require_repository(kept.project)
    vcs, repository = vcs_named(kept.project.vcs), Path(kept.project.path)
    head = vcs.bring_back(repository, Path(kept.bundle))
    words = f"what was kept of {kept.label} on {kept.created_at:%Y-%m-%d}"
    return Start(commit=head, base=kept.base_commit, words=words, restores=kept)


def start_choices(project: Project) -> list[str]:
    """The local branches that a task may begin at, for suggestions; none while the repository cannot be read."""
    try:
        require_repository(project)
        names = vcs_named(project.vcs).branches(Path(project.path))
    except Upstream:
        return []
    return [one for one in names if one == clean(one) and one != project.default_branch][:SUGGESTED]


def write_started(*, project: Project, label: str, start: Start, workspace_id: uuid.UUID) -> Workspace:
    """The row of a workspace that begins at `start`; its checkout is made when it is first needed.

    Raises what goes wrong when the commit cannot be given a branch; then the row goes again.
    """
    row = write_row(project, label, workspace_id, start)
    try:
        if start.held or (start.restores is not None and was_deleted(start.restores)):
            vcs_named(project.vcs).put_branch(Path(project.path), row.branch, start.commit)
    except Exception:
        request_removal(row)
        raise
    return row


def restore_kept(*, actor: Account, kept: KeptWork) -> Workspace:
    """Make a workspace of its own from what was kept, on a new branch. It stays until a person lets it go.

    Needs the role maintainer. Nothing is asked of a task: a task that starts from it says so itself.
    """
    if kept.project is None:
        raise NotFound("There is no such kept work.")
    require_role(actor, kept.project, Role.MAINTAINER)
    start = replace(start_at_kept(kept), alone=True)
    row = write_started(project=kept.project, label=kept.label, start=start, workspace_id=new_id())
    with transaction.atomic():
        enqueue(Names.MAKE_WORKSPACE, row.pk)
        tell(row)
    return row


def make_workspace(workspace_id: uuid.UUID | str) -> None:
    """Make the checkout of a row that has none yet. Idempotent; what goes wrong is said in the row."""
    row = Workspace.objects.select_related("project").filter(pk=workspace_id).first()
    if row is None or row.state not in (WorkspaceState.CREATING, WorkspaceState.FAILED):
        return
    try:
        ensure_workspace(project=row.project, label=row.label, workspace_id=row.pk)
    except Upstream as error:
        log.info("workspace_not_made", workspace=str(row.pk), error=error.message)
    with transaction.atomic():
        enqueue(Names.LOOK_AT_WORKSPACE, row.pk)
        tell(row)
