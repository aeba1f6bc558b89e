"""What the set-up of a project placed in a checkout: it is in no commit and may hold secrets, so it is not for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.kernel.permissions import Role, at_least
from workspaces.models import Workspace, WorkspaceSetup
from workspaces.selectors import role_in
from workspaces.vcs.git_exclude import place_of

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

WITHHELD = (
    "The project's setup placed this file here. It may hold secrets, so only owners of the project can read it in the studio: ask "
    "one of them for what you need."
)
TO_OWNERS = "The project's setup placed this file here. Only owners of the project can read it in the studio."


@dataclass(frozen=True, slots=True)
class Placed:
    """The paths, their capital letters folded, and whether the reader may read what is in them."""

    paths: frozenset[str] = frozenset()
    is_shown: bool = False

    def __contains__(self, path: str) -> bool:
        return bool(self.paths) and bool(place_of(path.casefold(), self.paths))

    def withholds(self, path: str) -> bool:
        """Whether what is in the file is kept from the reader."""
        return not self.is_shown and path in self


NOTHING = Placed()


def placed_in(workspace: Workspace, reader: Person | None) -> Placed:
    """What was placed in a checkout, for `reader`; None reads none of it. Who may change the setup may read what it places."""
    paths = WorkspaceSetup.objects.filter(workspace=workspace).values_list("placed", flat=True).first()
    if not paths:
        return NOTHING
    shown = reader is not None and at_least(role_in(reader, workspace.project), Role.OWNER)
    return Placed(frozenset(path.casefold() for path in paths), shown)
