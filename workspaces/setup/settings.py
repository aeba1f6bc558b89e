"""Changing what a project's checkouts are set up with. What is running goes on with what it began with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

from studio.kernel.errors import Invalid
from studio.kernel.permissions import Role
from studio.kernel.text import clean, cut
from workspaces.models import Project, ProjectSetup
from workspaces.selectors import require_role
from workspaces.setup.config import NAMES, checked

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser


def update_setup(*, actor: AbstractBaseUser | AnonymousUser, project: Project, **values: Any) -> ProjectSetup:
    """Change the given settings; owners only. Raises Invalid, with the field, for a value that cannot be. All or nothing."""
    require_role(actor, project, Role.OWNER)
    for name in values:
        if name not in NAMES:
            raise Invalid(f"A setup has no “{cut(clean(name), 60)}”.", detail={"field": name})
    fine = {name: checked(name, value) for name, value in values.items()}
    with transaction.atomic():
        row, _ = ProjectSetup.objects.select_for_update().get_or_create(project=project)
        for name, value in fine.items():
            setattr(row, name, value)
        row.save()
    return row
