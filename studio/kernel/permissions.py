"""Roles in a project, ordered: each includes what the ones before it may do."""

from __future__ import annotations

from django.db import models


class Role(models.TextChoices):
    """What a person is in a project."""

    VIEWER = "viewer"  # reads everything of the project
    REVIEWER = "reviewer"  # creates tasks, approves and rejects plans and changes, gives feedback
    MAINTAINER = "maintainer"  # starts, stops, retries, merges
    OWNER = "owner"  # changes the project's settings and members


RANK = {role: rank for rank, role in enumerate((Role.VIEWER, Role.REVIEWER, Role.MAINTAINER, Role.OWNER))}


def at_least(role: str | None, needed: Role) -> bool:
    """Whether `role` (None: not a member) includes `needed`."""
    return role is not None and RANK[Role(role)] >= RANK[needed]
