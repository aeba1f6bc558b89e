"""Stored words as people read them."""

from __future__ import annotations

from django import template

from tasks.choices import Status

register = template.Library()

WORDS = {
    "create": "Created",
    "start": "Started",
    "plan_ready": "Plan ready",
    "approve_plan": "Plan approved",
    "reject_plan": "Plan sent back",
    "replan": "Planned anew",
    "implemented": "Change made",
    "ai_approve": "Approved by the reviewer",
    "ai_request_changes": "Changes requested by the reviewer",
    "skip_ai_review": "AI review skipped",
    "request_changes": "Changes requested",
    "complete": "Completed",
    "cancel": "Cancelled",
    "reopen": "Reopened",
    "stop": "Stopped",
    "resume": "Resumed",
    "retry": "Tried again",
}


@register.filter
def words(action: str) -> str:
    """An action of the history."""
    return WORDS.get(action, action.replace("_", " ").capitalize())


@register.filter
def column(status: str) -> str:
    """A column's name; an empty one stands for "before it existed"."""
    return Status(status).label if status in Status.values else "new"
