"""Sessions with an agent: their turns, their log, messages to them, what they ask, what they use."""

from sessions_app.models.ask import Ask, AskKind, AskPolicy, AskReply, AskState, AskTimeout, PermissionRule, RuleAction
from sessions_app.models.event import SessionEvent
from sessions_app.models.inbox import Delivery, InboxItem, InboxState
from sessions_app.models.session import AgentSession, SubSession
from sessions_app.models.stream import StreamCount
from sessions_app.models.turn import Turn, TurnOutcome, TurnState
from sessions_app.models.usage import Budget, BudgetAction, BudgetHit, BudgetMetric, BudgetScope, Usage

__all__ = [
    "AgentSession",
    "Ask",
    "AskKind",
    "AskPolicy",
    "AskReply",
    "AskState",
    "AskTimeout",
    "Budget",
    "BudgetAction",
    "BudgetHit",
    "BudgetMetric",
    "BudgetScope",
    "Delivery",
    "InboxItem",
    "InboxState",
    "PermissionRule",
    "RuleAction",
    "SessionEvent",
    "StreamCount",
    "SubSession",
    "Turn",
    "TurnOutcome",
    "TurnState",
    "Usage",
]
