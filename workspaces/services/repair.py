"""Mending what was damaged from outside: a workspace, or the place of a whole repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from studio.kernel.errors import Conflict, Invalid, Upstream
from studio.kernel.permissions import Role
from studio.kernel.text import clean
from workspaces.locks import held
from workspaces.models import Project, Workspace, WorkspaceState
from workspaces.selectors import require_role
from workspaces.services.checkouts import LOCK_PATIENCE, checkout_path, require_repository
from workspaces.services.inspection import damage_of, look_at
from workspaces.services.news import tell
from workspaces.services.ownership import leave_note, require_own
from workspaces.services.projects import resolve_path
from workspaces.vcs import vcs_named
from workspaces.vcs.base import Vcs, readable

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

ASKED = 50  # commits that a repository is asked for


def repair_workspace(*, actor: Person, workspace: Workspace) -> list[str]:
    """Mend a workspace and look at it again; what was done, in words. Needs the role maintainer. Again it does nothing.

    Raises Conflict when there is nothing to mend, and Upstream with the reason when it cannot be mended; then nothing was lost.
    """
    require_role(actor, workspace.project, Role.MAINTAINER)
    row = Workspace.objects.select_related("project").get(pk=workspace.pk)
    if row.state != WorkspaceState.READY:
        raise Conflict(row.absence, allowed=[])
    require_repository(row.project)
    done = mend(row)
    look_at(row.pk)
    with transaction.atomic():
        tell(row)
    left = Workspace.objects.values_list("trouble", flat=True).get(pk=row.pk)
    if left:
        raise Upstream(f"The checkout could not be mended. {left}", code="not_repaired")
    return done or ["Nothing was wrong with the checkout."]


def mend(row: Workspace) -> list[str]:
    """Have the version control system mend the checkout of `row`; what was done, in words."""
    path = checkout_path(row)
    with held(f"workspace:{row.pk}", patience=LOCK_PATIENCE):
        require_own(row, path)
        vcs, repository = vcs_named(row.project.vcs), Path(row.project.path)
        done = vcs.repair(repository, path, row.branch, row.head_commit or row.base_commit)
        leave_note(row, path)
    return done


def relocate_project(*, actor: Person, project: Project, path: str) -> Project:
    """Name the new place of a repository that was moved, and mend its workspaces' links. Needs the role owner.

    Raises Conflict while a repository is still at the old place, and Invalid when the one at `path` is another one: it must
    have the commits from which the workspaces began, on whatever branch.
    """
    require_role(actor, project, Role.OWNER)
    root = resolve_path(path)
    if root != Path(project.path):
        _require_gone(project)
        _require_same(project, vcs_named(project.vcs).find(root).root)
        try:
            with transaction.atomic():
                Project.objects.filter(pk=project.pk).update(path=str(root))
        except IntegrityError:
            raise Conflict(
                f"{clean(root)} is already registered.", code="already_registered", detail={"field": "path"}
            ) from None
    project = Project.objects.get(pk=project.pk)
    for row in project.workspaces.select_related("project").filter(state=WorkspaceState.READY):
        if damage_of(row):
            mend(row)
        look_at(row.pk)
    return project


def _require_gone(project: Project) -> None:
    try:
        require_repository(project)
    except Upstream:
        return
    raise Conflict(
        f"A repository is still at {readable(project.path)}. Move it first, then name its new place; a copy is a project of its own.",
        allowed=[],
    )


def _require_same(project: Project, root: Path) -> None:
    if not _is_same(project, root):
        raise Invalid(
            f"The repository at {clean(root)} is not the one of {project.name}: it lacks the branch {project.default_branch}, or "
            "commits from which tasks began. Nothing was changed.",
            code="another_repository",
            detail={"field": "path"},
        )


def _is_same(project: Project, root: Path) -> bool:
    """Whether the repository at `root` has the default branch, and the commits from which the checkouts began.

    It need not have them on that branch: another may be the default by now, and commits are amended. Of checkouts that are
    gone git may have cleaned up some, so they are asked about only when there are no others, and one commit is enough.
    """
    vcs = vcs_named(project.vcs)
    if vcs.tip(root, project.default_branch) is None:
        return False
    begun = project.workspaces.exclude(base_commit="").order_by("-created_at")
    present = set(begun.exclude(state=WorkspaceState.REMOVED).values_list("base_commit", flat=True)[:ASKED])
    if present:
        return all(_has(vcs, root, commit) for commit in present)
    former = set(begun.values_list("base_commit", flat=True)[:ASKED])
    return not former or any(_has(vcs, root, commit) for commit in former)


def _has(vcs: Vcs, root: Path, commit: str) -> bool:
    try:
        return vcs.contains(root, commit, commit)
    except Upstream:
        return False
