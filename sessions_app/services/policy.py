"""What agents may do: the role's own rules, the project's over them, and what no project changes over those.

The server is given the rules when a session opens and before each prompt. What it asks all the same is decided here by the
same rules, so that an "always" holds for later asks, other sessions, other workspaces of the project, and after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q

from agents.asks import PermissionAsked, QuestionAsked, Rule
from agents.models import AgentProfile
from agents.roles import decision, locked_rules, may_edit, permission_rules, server_rules
from agents.rules import ASK, DENY, evaluate, matches
from agents.selectors import profile_for
from sessions_app.models import AgentSession, PermissionRule
from studio.kernel.errors import NotFound


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of something that is asked: allow, ask or deny. `by_rule`: a rule of the project (or of all) said so."""

    action: str
    by_rule: bool


def profile_of(session: AgentSession) -> AgentProfile | None:
    """The profile by which the session's role is run."""
    try:
        return profile_for(session.role)
    except NotFound:
        return None


def rules_for(session: AgentSession) -> list[Rule]:
    """All rules of the session, the last match of which wins."""
    return _effective(session, _rows(session))


def rules_for_server(session: AgentSession) -> list[Rule]:
    """The same as the server is given them."""
    return server_rules(session.role, rules_for(session))


def decide(session: AgentSession, asked: PermissionAsked | QuestionAsked) -> Decision:
    """What the rules say of what an agent of the session (or a sub-agent of it) asks."""
    rows = _rows(session)
    with_rows = _action(session, _effective(session, rows), asked)
    return Decision(with_rows, by_rule=bool(rows) and _action(session, _effective(session, []), asked) != with_rows)


def _action(session: AgentSession, rules: list[Rule], asked: PermissionAsked | QuestionAsked) -> str:
    if isinstance(asked, PermissionAsked):
        return decision(session.role, rules, asked)
    # A question is itself the ask: where it is allowed, a person is asked.
    return DENY if evaluate(rules, "question", "*") == DENY else ASK


def _effective(session: AgentSession, rows: Iterable[PermissionRule]) -> list[Rule]:
    mine = [_rule(row) for row in rows if _applies(session.role, row)]
    return [*permission_rules(session.role, session.project.vcs), *mine, *(locked_rules(session.role) if mine else [])]


def _rows(session: AgentSession) -> list[PermissionRule]:
    """The stored rules that are about the session: those for all projects first, then the project's own."""
    profile = profile_of(session)
    about = Q(profile__isnull=True) | Q(profile=profile)
    everywhere = PermissionRule.objects.filter(about, project__isnull=True)
    here = PermissionRule.objects.filter(about, project_id=session.project_id)
    return [*everywhere, *here]


def _applies(role: str, row: PermissionRule) -> bool:
    """A rule that is not made for a reading role's profile does not widen what that role may run."""
    widens = row.action != DENY and matches("bash", row.permission)
    return may_edit(role) or row.profile_id is not None or not widens


def _rule(row: PermissionRule) -> Rule:
    return {"permission": row.permission, "pattern": row.pattern, "action": row.action}
