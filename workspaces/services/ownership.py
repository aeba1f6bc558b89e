"""Whose a folder below the workspace root is. Nothing is deleted before these checks have passed.

Beside each checkout lies a note that names the workspace's row and a word that only the row knows. A folder whose note is
missing or says something else was not made by this studio, or has been replaced: it is left alone and said.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
from django.conf import settings

from studio.kernel.errors import Upstream
from studio.kernel.text import clean
from workspaces.models import Workspace, WorkspaceState
from workspaces.vcs.base import readable
from workspaces.vcs.deleting import gone_beside

NOTE_LIMIT = 4_096  # bytes
NAMED = 5  # processes that a sentence names


class InUse(Upstream):
    """A process that is not ours works in the checkout."""

    code = "workspace_in_use"


def note_of(checkout: Path) -> Path:
    """Where the note of the checkout lies: beside it, so that no repository and no diff ever holds it."""
    return checkout.with_name(f".{checkout.name}.studio")


def leave_note(row: Workspace, checkout: Path) -> None:
    """Write down that the folder at `checkout` is this row's: before it is made, and again once it is there. Idempotent."""
    if not row.marker:
        row.marker = secrets.token_hex(16)
        Workspace.objects.filter(pk=row.pk, marker="").update(marker=row.marker)
        row.refresh_from_db(fields=["marker"])
    note, wanted = note_of(checkout), {**_said(row), "folder": _identity(checkout)}
    if _read(note) == wanted:
        return
    note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = note.with_name(f"{note.name}.{os.getpid()}")
    try:
        scratch.write_text(json.dumps(wanted))
        scratch.replace(note)
    finally:
        scratch.unlink(missing_ok=True)


def forget_note(checkout: Path) -> None:
    """Take the note of a checkout that is gone away."""
    note_of(checkout).unlink(missing_ok=True)


def require_own(row: Workspace, checkout: Path) -> None:
    """Raise Upstream unless the folder at `checkout` is this row's. A row from before there were notes has none to match."""
    if not row.marker or not os.path.lexists(checkout):
        return
    note = _read(note_of(checkout))
    if {name: note.get(name) for name in _said(row)} != _said(row):
        wrong = f"the note beside it ({note_of(checkout).name}) is missing or names another one"
    elif _was_replaced(note, checkout):
        wrong = "it is another folder than the one that was made, and has no link to a repository"
    else:
        return
    raise Upstream(
        f"{readable(checkout)} is not the folder that the studio made for {row.label}: {wrong}. Nothing was deleted. Look at "
        "it, then move it away or delete it by hand; after that the studio goes on by itself."
    )


def _was_replaced(note: dict[str, object], checkout: Path) -> bool:
    """Whether somebody put another folder in the place. A copy of the whole data folder is not that: it kept its links."""
    known = note.get("folder")
    linked = any(os.path.lexists(checkout / link) for link in (".git", ".jj"))
    return bool(known) and known != _identity(checkout) and not linked


def _identity(folder: Path) -> str:
    """What tells a folder from another one at the same place; empty when there is none."""
    try:
        found = folder.lstat()
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def require_unused(checkout: Path) -> None:
    """Raise InUse, with their names, when processes have their working directory or an open file inside `checkout`."""
    found = list(_processes_in(checkout))
    if not found:
        return
    named = ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")
    raise InUse(
        f"Still in use by {named}. Nothing was deleted. End them or leave the folder; it is tried again by itself.",
        transient=True,
    )


def _said(row: Workspace) -> dict[str, str]:
    return {"workspace": str(row.pk), "marker": row.marker}


def _read(note: Path) -> dict[str, object]:
    """What a note says; nothing for one that cannot be read. A symbolic link is no note."""
    try:
        descriptor = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return {}
    with os.fdopen(descriptor, "rb") as handle:
        try:
            said = json.loads(handle.read(NOTE_LIMIT))
        except (ValueError, OSError):
            return {}
    return said if isinstance(said, dict) else {}


def _processes_in(checkout: Path) -> Iterator[str]:
    """The processes at work in the folder, as “name (process id)”. Those of other accounts cannot be seen."""
    inside = f"{checkout}{os.sep}"
    own = os.getpid()
    for process in psutil.process_iter(["pid", "name"]):
        if process.pid == own:
            continue
        with suppress(psutil.Error, OSError):
            places = [process.cwd(), *(opened.path for opened in process.open_files())]
            if any(place == str(checkout) or place.startswith(inside) for place in places if place):
                yield f"{clean(process.info['name'] or 'a process')} (process {process.pid})"


def unknown_folders() -> list[str]:
    """Folders below the workspace root that no workspace has: whatever made them, the studio never deletes them."""
    root = Path(settings.STUDIO_WORKSPACE_ROOT)
    found = [
        str(folder)
        for project in _folders(root)
        for folder in (_folders(project) or ([project] if project.is_symlink() else []))
    ]
    known = set(Workspace.objects.exclude(state=WorkspaceState.REMOVED).values_list("path", flat=True))
    known |= {str(gone_beside(Path(checkout))) for checkout in known}
    return [readable(folder) for folder in sorted(found) if folder not in known]


def _folders(place: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(place) if entry.is_dir() or entry.is_symlink()]
    except OSError:
        return []
