"""What is kept of removed workspaces: rows for the files, their download, their end."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from studio.kernel.clock import now
from studio.kernel.errors import Conflict, NotFound
from studio.kernel.permissions import Role
from workspaces.models import KeptWork, Workspace
from workspaces.selectors import projects_visible_to, require_role
from workspaces.services.news import tell_kept

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

log = structlog.get_logger(__name__)

EXPIRED_AT_ONCE = 20  # in one sweep
AGAIN = timedelta(hours=1)  # until a deletion that did not come to its end is tried again
PIECE = 256 * 1024
TYPES = {"patch": "text/x-patch", "bundle": "application/x-git-bundle"}


@dataclass(frozen=True, slots=True)
class Download:
    """An open file that is offered."""

    handle: IO[bytes]
    size: int
    name: str
    content_type: str

    async def pieces(self) -> AsyncIterator[bytes]:
        """The file, piece by piece; closed at the end, or when the reader has gone."""
        read = sync_to_async(self.handle.read, thread_sensitive=False)
        try:
            while piece := await read(PIECE):
                yield piece
        finally:
            self.handle.close()


def record_kept(row: Workspace, stem: Path) -> KeptWork | None:
    """Write down the files that the removal of `row` left at `stem`; None when there are none. Idempotent."""
    patch, bundle = Path(f"{stem}.patch"), Path(f"{stem}.bundle")
    folder = str(stem) if stem.is_dir() else ""
    if not (patch.is_file() or bundle.is_file() or folder):
        return None
    fresh = Workspace.objects.select_related("project").get(pk=row.pk)
    return KeptWork.objects.update_or_create(
        workspace=row,
        defaults={
            "project": fresh.project,
            "project_key": fresh.project.key,
            "label": fresh.label,
            "branch": fresh.branch,
            "base_branch": fresh.base_branch,
            "base_commit": fresh.base_commit,
            "head_commit": fresh.head_commit,
            "patch": str(patch) if patch.is_file() else "",
            "patch_bytes": patch.stat().st_size if patch.is_file() else 0,
            "bundle": str(bundle) if bundle.is_file() else "",
            "bundle_bytes": bundle.stat().st_size if bundle.is_file() else 0,
            "folder": folder,
        },
    )[0]


def open_kept(kept: KeptWork, form: str) -> Download:
    """The patch or the bundle, opened. Raises NotFound when there is none, or when it has gone from the disk."""
    place = Path(kept.patch if form == "patch" else kept.bundle)
    missing = NotFound(f"Of {kept.label} no {form} is kept.", code="not_kept")
    if form not in TYPES or not place.name or not _is_ours(place):
        raise missing
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise missing from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise missing
    return Download(os.fdopen(descriptor, "rb"), found.st_size, place.name, TYPES[form])


def _is_ours(place: Path) -> bool:
    root = (Path(settings.DATA) / "kept").resolve()
    return place.parent.resolve().is_relative_to(root) and ".." not in place.parts


def mark_seen(rows: QuerySet[KeptWork]) -> None:
    """Note that somebody of the project was shown these rows: their time begins, once."""
    rows.filter(seen_at__isnull=True).update(seen_at=now())


def hold_kept(*, actor: Person, kept: KeptWork, keep: bool) -> KeptWork:
    """Keep it whatever its age, or let its time count again. Needs the role reviewer; raises NotFound when it has just gone."""
    _require(actor, kept, Role.REVIEWER)
    with transaction.atomic():
        if not KeptWork.objects.filter(pk=kept.pk, deleted_at__isnull=True).update(keep=keep):
            raise NotFound(f"What was kept of {kept.label} has just been deleted.")
        tell_kept(kept)
    kept.keep = keep
    return kept


def delete_kept(*, actor: Person, kept: KeptWork) -> None:
    """Delete the files for good. Needs the role maintainer; raises Conflict while repositories lie beside them."""
    _require(actor, kept, Role.MAINTAINER)
    if kept.folder and Path(kept.folder).is_dir():
        raise Conflict(
            f"Repositories that were inside the checkout of {kept.label} lie in {kept.folder}, and the studio does "
            "not delete them. Move or delete that folder by hand first.",
            allowed=[],
        )
    _delete(kept, KeptWork.objects.filter(deleted_at__isnull=True))


def expire_kept() -> int:
    """Delete what was shown to somebody long enough ago and nobody keeps; how many. Without a set time nothing goes.

    What a killed process had begun to delete is deleted first.
    """
    begun = KeptWork.objects.exclude(patch="", bundle="").filter(deleted_at__lte=now() - AGAIN)
    for kept in begun.order_by("deleted_at")[:EXPIRED_AT_ONCE]:
        _unlink(kept)
    if settings.STUDIO_KEPT_DAYS is None:
        return 0
    due = now() - timedelta(days=settings.STUDIO_KEPT_DAYS)
    rows = KeptWork.objects.filter(deleted_at__isnull=True, keep=False, folder="", seen_at__lte=due)
    rows = rows.exclude(restored_in__state__in=["creating", "failed"])
    return sum(_delete(kept, rows) for kept in rows.order_by("seen_at")[:EXPIRED_AT_ONCE])


def was_deleted(kept: KeptWork) -> bool:
    """Whether it has gone since it was read, or goes just now. Asked after what speaks against its end was written down."""
    with transaction.atomic():
        found = KeptWork.objects.select_for_update().filter(pk=kept.pk).first()
    return found is None or found.deleted_at is not None


def _delete(kept: KeptWork, rows: QuerySet[KeptWork]) -> bool:
    """Delete the files if `kept` is one of `rows` still; whether it was.

    The row says so first: nobody is told then that it stays, or begins at it, while its files go.
    """
    with transaction.atomic():
        # Locked by a statement of its own, so that the next one sees what was written before `was_deleted` was asked.
        KeptWork.objects.select_for_update().filter(pk=kept.pk).first()
        if not rows.filter(pk=kept.pk).update(deleted_at=now()):
            return False
        tell_kept(kept)
    _unlink(kept)
    log.info("kept_work_deleted", kept=str(kept.pk), label=kept.label)
    return True


def _unlink(kept: KeptWork) -> None:
    """Delete the files of a row that says it was deleted. Idempotent; what cannot be deleted is tried again later."""
    try:
        for place in (kept.patch, kept.bundle):
            if place and _is_ours(Path(place)):
                Path(place).unlink(missing_ok=True)
    except OSError as error:
        log.warning("kept_work_not_deleted", kept=str(kept.pk), error=str(error))
        KeptWork.objects.filter(pk=kept.pk).update(deleted_at=now())
        return
    KeptWork.objects.filter(pk=kept.pk).update(patch="", bundle="")


def _require(actor: Person, kept: KeptWork, role: Role) -> None:
    if kept.project is None:
        raise NotFound("There is no such kept work.")
    require_role(actor, kept.project, role)


def find_kept(user: Person, kept_id: uuid.UUID | str) -> KeptWork:
    """Kept work that is still there and that the person may see. Raises NotFound."""
    rows = KeptWork.objects.select_related("project").filter(deleted_at__isnull=True, pk=kept_id)
    found = rows.filter(project__in=projects_visible_to(user)).first()
    if found is None:
        raise NotFound("There is no such kept work.")
    return found
