"""Letting a workspace go: what is not merged is kept first, and only what is ours is deleted."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from studio.kernel.clock import later, now
from studio.kernel.errors import Upstream
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces.commands.ending import end_in_workspace
from workspaces.commands.keep import forget_outputs
from workspaces.locks import Busy, held
from workspaces.models import Workspace, WorkspaceState
from workspaces.remedies import in_words
from workspaces.services.checkouts import (
    AGENT_EMAIL,
    ERROR_LIMIT,
    LOCK_PATIENCE,
    checkout_path,
    commit_locked,
    require_repository,
)
from workspaces.services.kept import record_kept
from workspaces.services.leaving import leaving_of
from workspaces.services.merged import standing_of
from workspaces.services.news import tell
from workspaces.services.ownership import InUse, forget_note, require_own, require_unused
from workspaces.setup.cleanup import clean_up, release
from workspaces.signals import workspace_leaving, workspace_needed
from workspaces.vcs import vcs_named
from workspaces.vcs.base import Vcs, readable
from workspaces.vcs.merging import Person

log = structlog.get_logger(__name__)

RETRY_SECONDS = 600.0  # until a removal that failed is tried again
IN_USE_SECONDS = 30.0  # until one that somebody's process stood in the way of is
NAME_LIMIT = 50  # characters of a submodule's name that its kept folder is called by
CLEANING = "cleaning"  # in the place of a fingerprint: the clean-up script runs
CHANGED = (
    "It was not removed: something in it, or of what is merged, has changed since that was confirmed. Look at what goes now, "
    "then remove it again."
)
KEEPER = Person("OpenCode Studio", AGENT_EMAIL)


def request_removal(workspace: Workspace, *, unless_kept: bool = False, confirmed: str = "") -> bool:
    """Have the workspace removed once the transaction has committed; whether it goes. Asking again is harmless.

    With `unless_kept` it stays when a person keeps it by now and it is not on its way already. `confirmed` is the fingerprint
    of what a person agreed to lose: when something else would go by then, it is ready again instead.
    """
    with transaction.atomic():
        rows = Workspace.objects.filter(pk=workspace.pk).exclude(state=WorkspaceState.REMOVED)
        if unless_kept:
            rows = rows.filter(Q(keep=False) | Q(state=WorkspaceState.REMOVING))
        if not rows.update(state=WorkspaceState.REMOVING, error="", lease_until=None, confirmed=confirmed):
            return False
        enqueue(Names.REMOVE_WORKSPACE, workspace.pk)
        tell(workspace)
        workspace_leaving.send(sender=Workspace, workspace=workspace)
    return True


def remove_workspace(workspace_id: uuid.UUID | str, *, requested: bool = False) -> None:
    """Remove the workspace: keep a patch and a bundle of what is not merged, then delete checkout and branch. Idempotent.

    The project's clean-up script runs before that, and its end asks for the removal again. What goes wrong is said in the
    row, which stays `removing` and is tried again later. Nothing is deleted before it is certain that the folder is ours and
    that nobody works in it, nor when it would take something else than a person has confirmed. `requested`: only while its
    removal is asked for, which a second bell for the same one cannot know.
    """
    row = Workspace.objects.select_related("project").filter(pk=workspace_id).first()
    if row is None or row.state == WorkspaceState.REMOVED:
        return
    if row.state != WorkspaceState.REMOVING:
        if requested:
            return
        Workspace.objects.filter(pk=row.pk).update(state=WorkspaceState.REMOVING)
    if not _is_as_confirmed(row):
        return
    end_in_workspace(row, "Its checkout was removed.")
    confirmed = Workspace.objects.filter(pk=row.pk).exclude(confirmed="")
    confirmed.update(confirmed=CLEANING)
    if not clean_up(row):
        return
    if row.confirmed:
        confirmed.update(confirmed=_as_it_is(row) if row.confirmed == CLEANING else row.confirmed)
    try:
        with held(f"workspace:{row.pk}", patience=LOCK_PATIENCE):
            require_repository(row.project)
            _require_idle(row)
            kept = _keep_and_delete(row)
    except Busy:
        return
    except (Upstream, OSError) as error:
        said = (error if isinstance(error, Upstream) else in_words(error)).message
        log.warning("workspace_not_removed", workspace=str(row.pk), error=said)
        wait = IN_USE_SECONDS if isinstance(error, InUse) else RETRY_SECONDS
        with transaction.atomic():
            Workspace.objects.filter(pk=row.pk).update(error=cut(clean(said), ERROR_LIMIT), lease_until=later(wait))
            tell(row)
        return
    with transaction.atomic():
        if (
            Workspace.objects.filter(pk=row.pk)
            .exclude(state=WorkspaceState.REMOVED)
            .update(state=WorkspaceState.REMOVED, error="", removed_at=now(), kept_patch=kept, lease_until=None)
        ):
            record_kept(row, kept_folder(row) / kept_stem(row))
            tell(row)
    release(row)
    forget_outputs(row)


def _is_as_confirmed(row: Workspace) -> bool:
    """Whether what goes is what a person has confirmed, where one did; else the workspace is ready again and says so.

    What the clean-up script leaves counts as confirmed, as the script itself does. False too while somebody is at work in it.
    """
    if row.confirmed in ("", CLEANING):
        return True
    try:
        with held(f"workspace:{row.pk}", patience=LOCK_PATIENCE):
            if _as_it_is(row) == row.confirmed:
                return True
    except Busy:
        return False
    with transaction.atomic():
        mine = Workspace.objects.filter(pk=row.pk, state=WorkspaceState.REMOVING, confirmed=row.confirmed)
        if mine.update(state=WorkspaceState.READY, error=CHANGED, confirmed="", lease_until=None):
            tell(row)
    return False


def _as_it_is(row: Workspace) -> str:
    """The fingerprint of what goes now. A workspace is looked at as it was when it was confirmed: ready."""
    before, row.state = row.state, WorkspaceState.READY
    try:
        return leaving_of(row).fingerprint
    finally:
        row.state = before


def _require_idle(row: Workspace) -> None:
    """Raise InUse while the apps above say that somebody is at work in the workspace."""
    for _, words in workspace_needed.send(sender=Workspace, workspace=row):
        if words:
            raise InUse(f"{words} Nothing was deleted; it is tried again by itself.", transient=True)


def _keep_and_delete(row: Workspace) -> str:
    """Where what was not merged is kept, empty when there was nothing; afterwards checkout and branch are gone."""
    vcs, repository, path = vcs_named(row.project.vcs), Path(row.project.path), checkout_path(row)
    require_own(row, path)
    require_unused(path)
    # What follows changes what is in it: tried again, it is no longer as it was confirmed.
    Workspace.objects.filter(pk=row.pk).update(confirmed="")
    head = vcs.tip(repository, row.branch)
    kept = row.kept_patch
    if vcs.owns_checkout(repository, path):
        head = commit_locked(row, vcs, path, f"What {row.label} held when it was removed", KEEPER)
        kept = _keep_nested(row, vcs, path) or kept
    elif path.exists() and (head is not None or row.looked_at) and not vcs.is_unfinished(repository, path):
        raise Upstream(
            f"{readable(path)} no longer belongs to its repository. Nothing was deleted. Repair the checkout on the project's "
            "storage page, or look at it and delete it by hand."
        )
    kept = _keep_stranded(row, vcs, repository, path) or kept
    if head is not None:
        merged = standing_of(row, head).beyond == 0
        folder, stem = kept_folder(row), kept_stem(row)
        place = vcs.export(repository, row.branch, row.base_commit, head, folder, stem, merged=merged)
        kept = str(place) if place is not None else kept
        Workspace.objects.filter(pk=row.pk).update(kept_patch=kept)
        vcs.remove_checkout(repository, path)
        vcs.delete_branch(repository, row.branch, head)
    else:
        vcs.remove_checkout(repository, path)
    forget_note(path)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()
    return kept


def _keep_nested(row: Workspace, vcs: Vcs, path: Path) -> str:
    """Move repositories inside the checkout, which no commit holds, to where patches are kept; that folder."""
    folder = kept_folder(row) / kept_stem(row)
    for number, nested in enumerate(vcs.nested_repositories(path), start=1):
        source = path / nested.rstrip("/")
        if source.is_symlink() or not source.resolve().is_relative_to(path):
            continue
        vcs.loosen(path, nested)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        source.rename(_free(folder, source.name, number))
    return str(folder) if folder.exists() else ""


def _keep_stranded(row: Workspace, vcs: Vcs, repository: Path, path: Path) -> str:
    """Move the commits of submodules whose files are gone to where patches are kept; that folder."""
    folder = kept_folder(row) / kept_stem(row)
    for number, submodule in enumerate(vcs.stranded(repository, path), start=1):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = _free(folder, f"{Path(submodule).name[:NAME_LIMIT]}.git", number)
        vcs.take_stranded(repository, path, submodule, place)
    return str(folder) if folder.exists() else ""


def _free(folder: Path, name: str, number: int) -> Path:
    """A place for something called `name` where nothing is."""
    place = folder / name
    return place if not place.exists() else folder / f"{name}-{number}-{now():%H%M%S%f}"


def kept_folder(row: Workspace) -> Path:
    """Where patches of the project are kept."""
    return Path(settings.DATA) / "kept" / row.project.key


def kept_stem(row: Workspace) -> str:
    """The name, without ending, of what is kept of this workspace."""
    return f"{re.sub(r'[^a-z0-9]+', '-', row.label.lower()).strip('-')[:40] or 'work'}-{row.pk.hex[:8]}"
