"""A project's connection to its forge: how it is set, tried and removed, and how one gets the forge behind it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import transaction

from studio.kernel.errors import Conflict, Invalid
from studio.kernel.permissions import Role
from studio.kernel.secretbox import seal, unseal
from studio.kernel.text import clean, cut
from workspaces.forge.addresses import (
    GITHUB,
    Place,
    api_url,
    checked_base_url,
    is_repository,
    place_of,
    web_host,
)
from workspaces.forge.base import Access, Forge, ForgeError
from workspaces.forge.gitea import Gitea
from workspaces.forge.github import GitHub
from workspaces.models import ForgeConnection, ForgeKind, Project
from workspaces.selectors import require_role
from workspaces.vcs import vcs_named

if TYPE_CHECKING:
    from workspaces.selectors import Person

TOKEN_LIMIT = 2_000
NAMES_LIMIT = 20  # reviewers, labels
NAME_LIMIT = 100
BRANCH_LIMIT = 250
EDITABLE = ("kind", "base_url", "repository", "token", "remote", "base_branch", "draft", "reviewers", "labels")


def connection_of(project: Project) -> ForgeConnection | None:
    """The project's connection, if it has one."""
    return ForgeConnection.objects.filter(project=project).first()


def require_connection(project: Project) -> ForgeConnection:
    """The project's connection. Raises Conflict with what to do when it has none."""
    found = connection_of(project)
    if found is None:
        raise Conflict(
            f"{project.name} is not connected to a forge: an owner enters its address and a token in the project's "
            "settings, under Forge.",
            code="no_forge",
        )
    return found


def forge_for(connection: ForgeConnection) -> Forge:
    """The forge behind a connection. Raises Invalid when the token cannot be read with the present SECRET_KEY."""
    kinds: dict[str, type[GitHub | Gitea]] = {ForgeKind.GITHUB: GitHub, ForgeKind.GITEA: Gitea}
    return kinds[connection.kind](connection.base_url, connection.repository, unseal(connection.sealed_token))


def remotes_of(project: Project) -> dict[str, str]:
    """The remotes of the project's repository by name."""
    return vcs_named(project.vcs).remotes(Path(project.path))


def suggest(project: Project) -> dict[str, str]:
    """What a new connection would be, told by the repository's remotes; empty when none leads to a forge."""
    found: dict[str, Place] = {}
    for remote, address in remotes_of(project).items():
        place = place_of(address)
        if place is not None:
            found[remote] = place
    if not found:
        return {}
    remote = "origin" if "origin" in found else next(iter(found))
    place = found[remote]
    return {
        "kind": place.kind,
        "base_url": api_url(place.kind, place.host),
        "repository": place.repository,
        "remote": remote,
    }


def save_connection(*, actor: Person, project: Project, **fields: Any) -> ForgeConnection:
    """Set the project's connection, or change the given fields of it; owners only. What is not given of a new one is
    taken from the repository's remotes.

    A token is kept encrypted and never given out. It stays with the address it was entered for: another address needs
    a token anew. Raises Invalid with the field.
    """
    require_role(actor, project, Role.OWNER)
    for name in fields:
        if name not in EDITABLE:
            raise Invalid(f"“{cut(clean(name), 60)}” of a connection cannot be changed.", detail={"field": name})
    before = connection_of(project)
    row = before or ForgeConnection(project=project)
    known = {} if before else {"kind": GITHUB, **suggest(project)}
    values = _checked(row, {**known, **fields})
    token = fields.get("token")
    if before and values.get("base_url", before.base_url) != before.base_url and not token and before.sealed_token:
        raise Invalid("Enter the token again: the stored one was meant for another address.", detail={"field": "token"})
    for name, value in values.items():
        setattr(row, name, value)
    if token is not None:
        row.sealed_token = seal(_checked_token(token))
    _require_complete(row)
    with transaction.atomic():
        row.save()
    return row


def remove_connection(*, actor: Person, project: Project) -> None:
    """Forget the connection with its token; owners only. Pull requests stay as they were when they were read last."""
    require_role(actor, project, Role.OWNER)
    ForgeConnection.objects.filter(project=project).delete()


def check_connection(*, actor: Person, project: Project) -> Access:
    """Try the connection; what is missing in sentences. Owners only; asks the forge, so not for a transaction."""
    require_role(actor, project, Role.OWNER)
    connection = require_connection(project)
    problems = []
    if not connection.sealed_token:
        problems.append("There is no token: without one nothing can be created.")
    problems += _remote_problems(connection, remotes_of(project))
    try:
        access = forge_for(connection).check_access()
    except ForgeError as error:
        return Access(problems=(*problems, error.message))
    return Access(access.repository, access.default_branch, (*problems, *access.problems))


def _remote_problems(connection: ForgeConnection, remotes: dict[str, str]) -> list[str]:
    address = remotes.get(connection.remote)
    if address is None:
        known = ", ".join(remotes) or "none"
        return [f"The repository has no remote called “{connection.remote}” to push to; it has {known}."]
    place = place_of(address)
    same_forge = place is not None and place.host == web_host(connection.base_url)
    if place is not None and same_forge and place.repository.lower() != connection.repository.lower():
        return [f"The remote “{connection.remote}” leads to {place.repository}, not to {connection.repository}."]
    return []


def _checked(row: ForgeConnection, given: dict[str, Any]) -> dict[str, Any]:
    """The given fields but the token, as they are stored."""
    values: dict[str, Any] = {}
    kind = str(given.get("kind", row.kind))
    if kind not in ForgeKind.values:
        raise Invalid(f"There are these kinds of forge: {', '.join(ForgeKind.values)}.", detail={"field": "kind"})
    values["kind"] = kind
    if "base_url" in given or kind != row.kind:
        values["base_url"] = checked_base_url(kind, str(given.get("base_url", row.base_url)))
    if "repository" in given:
        values["repository"] = str(given["repository"]).strip().strip("/").removesuffix(".git")
    for name, limit in (("remote", 200), ("base_branch", BRANCH_LIMIT)):
        if name in given:
            values[name] = _word(name, given[name], limit)
    if "draft" in given:
        values["draft"] = given["draft"] is True
    for name in ("reviewers", "labels"):
        if name in given:
            values[name] = _names(name, given[name])
    return values


def _require_complete(row: ForgeConnection) -> None:
    if not is_repository(row.repository):
        raise Invalid(
            "Give the repository as OWNER/NAME, as its page's address has it.", detail={"field": "repository"}
        )
    if not row.remote:
        raise Invalid("Name the git remote that branches are pushed to.", detail={"field": "remote"})


def _word(name: str, value: Any, limit: int) -> str:
    text = str(value).strip()
    if text != clean(text) or len(text) > limit or text.startswith("-") or any(one.isspace() for one in text):
        raise Invalid("This cannot be the name of a branch or a remote.", detail={"field": name})
    return text


def _names(field: str, value: Any) -> list[str]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, Iterable):
        raise Invalid("Give names.", detail={"field": field})
    names = list(dict.fromkeys(" ".join(clean(one).split()).removeprefix("@") for one in found))
    names = [name for name in names if name]
    if len(names) > NAMES_LIMIT or any(len(name) > NAME_LIMIT for name in names):
        raise Invalid(f"At most {NAMES_LIMIT} names of at most {NAME_LIMIT} characters each.", detail={"field": field})
    return names


def _checked_token(value: Any) -> str:
    text = str(value).strip()
    if len(text) > TOKEN_LIMIT or not text.isascii() or not text.isprintable() or " " in text:
        raise Invalid("This is no token: it has letters, digits and signs, and no spaces.", detail={"field": "token"})
    return text
