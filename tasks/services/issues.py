"""Issues of the project's forge become tasks, each once, with a link back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction

from studio.kernel.errors import Invalid
from studio.kernel.permissions import Role
from studio.kernel.text import clean, cut
from tasks.models import ImportedIssue, Task
from tasks.services.board import LABEL_LIMIT, LABELS_LIMIT, TITLE_LIMIT, create_task
from workspaces.forge.addresses import web_host
from workspaces.forge.base import Issue
from workspaces.forge.connections import forge_for, require_connection
from workspaces.models import ForgeConnection, Project
from workspaces.selectors import require_role

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

NUMBER = re.compile(r"#?([1-9][0-9]{0,8})")
PAGE = re.compile(r"/?(.+?/.+?)/issues/([1-9][0-9]{0,8})/?")


@dataclass(frozen=True, slots=True)
class Imported:
    """The task of an issue, and whether it is new."""

    task: Task
    issue: ImportedIssue
    created: bool


def import_issues(*, actor: Person, project: Project, issue: str = "", label: str = "") -> list[Imported]:
    """Make tasks of one issue (its number or address) or of all open ones with a label; those there are already stay.

    Asks the forge, so not for a transaction. Raises Invalid when neither or both are given, or the address is another
    repository's; NotFound's like from the forge as ForgeError.
    """
    require_role(actor, project, Role.REVIEWER)
    connection = require_connection(project)
    wanted = " ".join(clean(label).split())
    if bool(issue.strip()) == bool(wanted):
        raise Invalid("Give an issue's number or address, or else a label.", detail={"field": "issue"})
    forge = forge_for(connection)
    found = forge.issues(cut(wanted, 100)) if wanted else [forge.issue(_number(connection, issue))]
    return [_import(actor, project, connection, one) for one in found if one.number]


def _number(connection: ForgeConnection, given: str) -> int:
    """The number that a person means by `12`, `#12` or the address of the issue's page."""
    text = given.strip()
    if plain := NUMBER.fullmatch(text):
        return int(plain[1])
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    page = PAGE.fullmatch(parts.path) if parts.scheme in ("https", "http") else None
    if page is None:
        raise Invalid("Give the issue's number, such as 12, or the address of its page.", detail={"field": "issue"})
    if parts.netloc.lower() != web_host(connection.base_url) or page[1].lower() != connection.repository.lower():
        raise Invalid(
            f"This issue is not in {connection.repository}, to which the project is connected.",
            detail={"field": "issue"},
        )
    return int(page[2])


def _import(actor: Person, project: Project, connection: ForgeConnection, found: Issue) -> Imported:
    url = found.url or f"{connection.base_url}/repos/{connection.repository}/issues/{found.number}"
    known = _known(project, url)
    if known is not None:
        return known
    title = cut(found.title, TITLE_LIMIT) or f"Issue #{found.number}"
    labels = [cut(label, LABEL_LIMIT) for label in found.labels][:LABELS_LIMIT]
    description = f"{found.body.strip()}\n\nIssue: {url}".strip()
    try:
        with transaction.atomic():
            task = create_task(
                actor=actor, project=project, title=title, description=description, labels=list(dict.fromkeys(labels))
            )
            row = ImportedIssue.objects.create(
                task=task,
                project=project,
                connection=connection,
                repository=connection.repository,
                number=found.number,
                url=url,
            )
    except IntegrityError:
        known = _known(project, url)  # somebody else imported it at this moment
        if known is None:
            raise
        return known
    return Imported(task, row, created=True)


def _known(project: Project, url: str) -> Imported | None:
    row = ImportedIssue.objects.select_related("task__project").filter(project=project, url=url).first()
    return Imported(row.task, row, created=False) if row is not None else None
