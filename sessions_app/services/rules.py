"""Changing the permission rules of a project. Each change is held against what waits for an answer at once."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Max, QuerySet

from agents.models import AgentProfile
from sessions_app.models import PermissionRule, RuleAction
from studio.kernel.errors import Conflict, Invalid, NotFound
from studio.kernel.permissions import Role
from studio.kernel.text import clean
from studio.queue import Names, enqueue
from workspaces.models import Project
from workspaces.selectors import require_role

PERMISSION_LIMIT = 100  # characters
PATTERN_LIMIT = 500
RULES_LIMIT = 500  # of one project


@dataclass(frozen=True, slots=True)
class NewRule:
    """A rule as it is given; without a profile it is for every profile."""

    permission: str
    pattern: str
    action: str
    profile: AgentProfile | None = None


def rules_of(project: Project) -> QuerySet[PermissionRule]:
    """The project's own rules in their order; the last match wins."""
    return PermissionRule.objects.filter(project=project).select_related("profile", "created_by")


def add_rule(*, actor: Any, project: Project, new: NewRule) -> PermissionRule:
    """Add a rule after all others. Takes an owner. Raises Conflict when there is one for the same."""
    _may(actor, project)
    checked = _checked(new)
    with transaction.atomic():
        _lock(project)
        rules = rules_of(project)
        if rules.count() >= RULES_LIMIT:
            raise Conflict(f"A project can have {RULES_LIMIT} rules.", code="too_many_rules")
        if rules.filter(profile=checked.profile, permission=checked.permission, pattern=checked.pattern).exists():
            raise Conflict("There is a rule for this already: remove it, or change its place.", code="rule_exists")
        last = rules.aggregate(last=Max("position"))["last"] or 0
        row = _create(actor, project, checked, last + 1)
        enqueue(Names.RECONSIDER_ASKS, project.pk)
    return row


def remove_rule(*, actor: Any, project: Project, rule_id: int) -> None:
    """Take a rule away. Takes an owner. Raises NotFound."""
    _may(actor, project)
    with transaction.atomic():
        _lock(project)
        if not rules_of(project).filter(pk=rule_id).delete()[0]:
            raise NotFound("This project has no such rule.")
        enqueue(Names.RECONSIDER_ASKS, project.pk)


def move_rule(*, actor: Any, project: Project, rule_id: int, up: bool) -> None:
    """Let a rule change places with its neighbour; at the end of the list nothing happens. Takes an owner."""
    _may(actor, project)
    with transaction.atomic():
        _lock(project)
        rows = list(rules_of(project))
        index = next((number for number, row in enumerate(rows) if row.pk == rule_id), None)
        if index is None:
            raise NotFound("This project has no such rule.")
        other = index - 1 if up else index + 1
        if 0 <= other < len(rows):
            rows[index], rows[other] = rows[other], rows[index]
        _number(rows)
        enqueue(Names.RECONSIDER_ASKS, project.pk)


def replace_rules(*, actor: Any, project: Project, rules: Sequence[NewRule]) -> list[PermissionRule]:
    """Let these be the project's rules, in this order. Takes an owner. Rows that stay the same keep where they came from."""
    _may(actor, project)
    if len(rules) > RULES_LIMIT:
        raise Invalid(f"A project can have {RULES_LIMIT} rules.", detail={"field": "rules", "limit": RULES_LIMIT})
    checked = [_checked(one) for one in rules]
    keys = [_key(one.profile, one.permission, one.pattern) for one in checked]
    if len(set(keys)) != len(keys):
        raise Invalid("Two rules are for the same permission, pattern and profile.", detail={"field": "rules"})
    with transaction.atomic():
        _lock(project)
        before = {_key(row.profile, row.permission, row.pattern): row for row in rules_of(project)}
        rules_of(project).exclude(pk__in=[before[key].pk for key in keys if key in before]).delete()
        rows = []
        for number, (key, one) in enumerate(zip(keys, checked, strict=True), start=1):
            row = before.get(key)
            if row is None:
                row = _create(actor, project, one, number)
            elif (row.action, row.position) != (one.action, number):
                row.action, row.position = one.action, number
                row.save(update_fields=["action", "position"])
            rows.append(row)
        enqueue(Names.RECONSIDER_ASKS, project.pk)
    return rows


def _may(actor: Any, project: Project) -> None:
    if actor is not None:
        require_role(actor, project, Role.OWNER)


def _lock(project: Project) -> None:
    """Two people who change the rules at once do so one after the other."""
    Project.objects.select_for_update().get(pk=project.pk)


def _create(actor: Any, project: Project, new: NewRule, position: int) -> PermissionRule:
    return PermissionRule.objects.create(
        project=project,
        profile=new.profile,
        permission=new.permission,
        pattern=new.pattern,
        action=new.action,
        position=position,
        created_by=actor,
    )


def _number(rows: list[PermissionRule]) -> None:
    for number, row in enumerate(rows, start=1):
        if row.position != number:
            row.position = number
            row.save(update_fields=["position"])


def _key(profile: AgentProfile | None, permission: str, pattern: str) -> tuple[uuid.UUID | None, str, str]:
    return (profile.pk if profile else None, permission, pattern)


def _checked(new: NewRule) -> NewRule:
    """The rule as it may be stored; raises Invalid."""
    permission, pattern = new.permission.strip(), new.pattern.strip() or "*"
    if not permission or len(permission) > PERMISSION_LIMIT or clean(permission) != permission or " " in permission:
        raise Invalid(
            "Name a permission as the agent does: bash, edit, webfetch, external_directory, or * for all.",
            detail={"field": "permission"},
        )
    if len(pattern) > PATTERN_LIMIT or clean(pattern) != pattern:
        raise Invalid(f"A pattern has at most {PATTERN_LIMIT} plain characters.", detail={"field": "pattern"})
    if new.action not in RuleAction.values:
        raise Invalid("Choose allow, ask or deny.", detail={"field": "action"})
    return NewRule(permission, pattern, new.action, new.profile)
