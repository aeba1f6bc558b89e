"""Registering repositories, changing their settings, taking them out again."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from studio.kernel.errors import Conflict, Forbidden, Invalid, Upstream
from studio.kernel.permissions import Role
from studio.kernel.text import clean, cut
from workspaces.commands.services import ACTIVE
from workspaces.models import CommandKind, Project, ProjectMembership, Workspace, WorkspaceState
from workspaces.selectors import NO_REGISTERING, REGISTER, may_register, require_role
from workspaces.services.removal import remove_workspace
from workspaces.signals import removing_project
from workspaces.vcs import detect, vcs_named
from workspaces.vcs.base import Repository, Vcs, readable

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

NAME_LENGTH = 120
KEY_LENGTH = 10
PATH_LENGTH = 1_000
BRANCH_LENGTH = 250
FILES_NAMED = 5
TRIES = 5  # for a generated key that somebody else takes at the same moment
KEY = re.compile(r"[A-Z][A-Z0-9]{1,9}")
# What can be changed after the registration. The key stays: the ids of tasks begin with it.
EDITABLE = (
    "name", "default_branch", "plan_approval", "auto_complete", "max_review_rounds", "max_parallel_runs", "trusted",
    "retention_days", "quota_mb",
)  # fmt: skip


def register_project(
    *, actor: AbstractBaseUser | AnonymousUser, path: str, name: str | None = None, key: str | None = None
) -> Project:
    """Register the repository at `path`; `actor` becomes its owner. Its checkout may be dirty: it is never touched.

    Raises Forbidden without the permission for it, Invalid, with a sentence and the field, for what cannot be used, and
    Conflict for a path or key that is taken.
    """
    if not may_register(actor):
        raise Forbidden(NO_REGISTERING, code="may_not_register", detail={"permission": REGISTER})
    root = resolve_path(path)
    vcs = detect(root)
    found = vcs.find(root)
    if found.default_branch != clean(found.default_branch) or len(found.default_branch) > BRANCH_LENGTH:
        raise _refuse(
            "branch_invalid", f"The name of the branch that {root} is on cannot be stored; rename the branch."
        )
    chosen = _checked_name(name) if name and name.strip() else clean(root.name)[:NAME_LENGTH] or "Repository"
    _require_new(vcs, found)
    chosen_key = _checked_key(key) if key and key.strip() else None
    return create_project(actor=actor, found=found, name=chosen, key=chosen_key, vcs=vcs.name)


def _require_new(vcs: Vcs, found: Repository) -> None:
    """Raise Conflict when `found` is another checkout of a repository that is registered already."""
    store = vcs.store(found.root)
    for project in Project.objects.filter(vcs=vcs.name).exclude(path=str(found.root)):
        try:
            same = vcs.store(Path(project.path)) == store
        except Upstream:
            continue  # it is away: it cannot be this one
        if same:
            raise Conflict(
                f"{readable(found.root)} is a linked checkout of the repository of {project.name} ({readable(project.path)}), "
                "which is registered already. Use that project; its settings choose the target branch.",
                code="already_registered",
                detail={"field": "path"},
            )


def checkout_note(project: Project) -> str:
    """What a person should know about the project's own checkout; empty when there is nothing uncommitted in it."""
    try:
        dirty = vcs_named(project.vcs).dirty_files(Path(project.path))
    except Upstream:
        return ""  # whatever is wrong there says itself where it matters
    if not dirty:
        return ""
    files = ", ".join(readable(path) for path in dirty[:FILES_NAMED]) + (" …" if len(dirty) > FILES_NAMED else "")
    return (
        f"The checkout has changes that are not committed ({files}). They are never touched: tasks start from the last "
        f"commit of {project.default_branch}, and a finished task is merged into it once the checkout is clean."
    )


def create_project(
    *,
    actor: AbstractBaseUser | AnonymousUser | None,
    found: Repository,
    name: str,
    key: str | None = None,
    is_sample: bool = False,
    vcs: str = "git",
) -> Project:
    """Write the row of a repository that has been checked. Raises Conflict for a path or key that is taken."""
    values = {
        "path": str(found.root), "default_branch": found.default_branch, "name": name, "is_sample": is_sample, "vcs": vcs,
    }  # fmt: skip
    for _ in range(TRIES):
        try:
            with transaction.atomic():
                project = Project.objects.create(
                    key=key or free_key(name), created_by_id=actor.pk if actor is not None else None, **values
                )
                if actor is not None and actor.pk is not None:
                    ProjectMembership.objects.create(project=project, user_id=actor.pk, role=Role.OWNER)
                return project
        except IntegrityError:
            if Project.objects.filter(path=values["path"]).exists():
                raise Conflict(
                    f"{clean(found.root)} is already registered.", code="already_registered", detail={"field": "path"}
                ) from None
            if key is not None:
                raise Conflict(
                    f"The key {key} is taken by another project.", code="key_taken", detail={"field": "key"}
                ) from None
    raise Conflict("Other projects are being registered at this moment; try again.")


def _refuse(code: str, sentence: str) -> Invalid:
    return Invalid(sentence, code=code, detail={"field": "path"})


def resolve_path(given: str) -> Path:
    """The real folder that `given` names, if repositories may lie there. Raises Invalid.

    What lies outside the allowed folders is refused before it is looked at, so that nobody can feel around the disk.
    """
    text = given.strip()
    if not text or "\0" in text or len(text) > PATH_LENGTH or text != clean(text):
        raise _refuse("path_invalid", "Give the folder of a repository as an absolute path, such as /home/you/project.")
    path = Path(text)
    if not path.is_absolute():
        raise _refuse(
            "path_not_absolute",
            f"“{cut(clean(text), 200)}” is not an absolute path: begin with /, as in /home/you/project.",
        )
    try:
        path = path.resolve()
        if str(path) != clean(path) or len(str(path)) > PATH_LENGTH:
            raise _refuse("path_invalid", f"“{cut(clean(text), 200)}” leads to a folder whose name cannot be stored.")
        _require_allowed(path)
        if not path.exists():
            raise _refuse("path_missing", f"{clean(path)} does not exist on the machine that runs the studio.")
        if not path.is_dir():
            raise _refuse("path_not_a_folder", f"{clean(path)} is a file. Give the folder of a repository.")
        next(path.iterdir(), None)
    except PermissionError:
        raise _refuse("path_unreadable", f"The studio may not read {clean(path)}.") from None
    except (OSError, RuntimeError):
        raise _refuse("path_invalid", f"“{cut(clean(text), 200)}” cannot be used as a path.") from None
    return path


def _require_allowed(path: Path) -> None:
    data = Path(settings.DATA).resolve()
    if path.is_relative_to(data) or data == path:
        raise _refuse(
            "path_in_data_folder",
            f"{clean(path)} is inside the studio's own data folder. Register a repository elsewhere.",
        )
    roots = settings.STUDIO_REPOSITORY_ROOTS
    if not any(path.is_relative_to(root) for root in roots):
        places = ", ".join(clean(root) for root in roots)
        raise _refuse(
            "path_outside_roots",
            f"{clean(path)} is outside the folders in which repositories may be registered: {places}. "
            "The setting STUDIO_REPOSITORY_ROOTS names them.",
        )


def _checked_name(name: str) -> str:
    text = " ".join(clean(name).split())
    if not 1 <= len(text) <= NAME_LENGTH:
        raise Invalid(f"A project's name has 1 to {NAME_LENGTH} characters.", detail={"field": "name"})
    return text


def _checked_key(key: str) -> str:
    text = key.strip().upper()
    if not KEY.fullmatch(text):
        raise Invalid(
            "A key has two to ten capital letters and digits, a letter first, such as DEMO.", detail={"field": "key"}
        )
    return text


def free_key(name: str) -> str:
    """A key made of the name that no project has: initials of several words, else the first letters of the one."""
    plain = unicodedata.normalize("NFKD", name.upper()).encode("ascii", "ignore").decode()
    words = re.findall(r"[A-Z0-9]+", plain)
    base = "".join(word[0] for word in words) if len(words) > 1 else "".join(words)[:4]
    base = base.lstrip("0123456789")[:5]
    if len(base) < 2:
        base = (base + "PROJ")[:4]
    taken = set(Project.objects.filter(key__startswith=base).values_list("key", flat=True))
    key, number = base, 2
    while key in taken:
        key = f"{base[: KEY_LENGTH - len(str(number))]}{number}"
        number += 1
    return key


def update_project(*, actor: AbstractBaseUser | AnonymousUser, project: Project, **fields: Any) -> Project:
    """Change a project's settings; owners only. Raises Invalid with the field for a value that cannot be."""
    require_role(actor, project, Role.OWNER)
    for field in fields:
        if field not in EDITABLE:
            raise Invalid(f"“{cut(clean(field), 60)}” of a project cannot be changed.", detail={"field": field})
    if "name" in fields:
        fields["name"] = _checked_name(str(fields["name"]))
    branch = fields.get("default_branch")
    if branch is not None and branch != project.default_branch:
        known = isinstance(branch, str) and branch == clean(branch).strip() and 0 < len(branch) <= BRANCH_LENGTH
        if not known or vcs_named(project.vcs).tip(Path(project.path), branch) is None:
            raise Invalid(
                f"{project.name} has no branch called “{cut(clean(branch), 100)}”.", detail={"field": "default_branch"}
            )
    if not fields:
        return project
    with transaction.atomic():
        row = Project.objects.select_for_update().get(pk=project.pk)
        for field, value in fields.items():
            setattr(row, field, value)
        try:
            row.clean_fields(exclude=["created_by"])
        except ValidationError as error:
            field, sentences = next(iter(error.message_dict.items()))
            raise Invalid(f"“{field}”: {sentences[0]}", detail={"field": field}) from None
        row.save(update_fields=list(fields))
    return row


def remove_project(*, actor: AbstractBaseUser | AnonymousUser, project: Project) -> None:
    """Take the project out of the studio with its tasks; owners only. The repository itself is left alone.

    What its workspaces hold unmerged is kept as patches. Raises Conflict while agents work in it, and when a workspace
    cannot be removed.
    """
    require_role(actor, project, Role.OWNER)
    removing_project.send(sender=Project, project=project)
    for workspace in project.workspaces.exclude(state=WorkspaceState.REMOVED):
        remove_workspace(workspace.pk)
    left = Workspace.objects.filter(project=project).exclude(state=WorkspaceState.REMOVED).first()
    if left is not None and left.commands.filter(kind=CommandKind.CLEANUP, state__in=ACTIVE).exists():
        raise Conflict(
            f"The clean-up script of {left.label} is running. Take the project out again when it has ended.",
            code="workspace_left",
        )
    if left is not None:
        raise Conflict(
            f"The workspace {left.label} could not be removed: {left.error or 'it is in use'}", code="workspace_left"
        )
    with transaction.atomic():
        removing_project.send(sender=Project, project=project)
        project.delete()
