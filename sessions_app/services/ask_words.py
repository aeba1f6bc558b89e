"""The words of answers: checked as they come in, and said to the agent and to whoever came too late."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings

from sessions_app.models import Ask, AskKind, AskReply, AskState
from studio.kernel.errors import Conflict, Invalid
from studio.kernel.text import clean

MESSAGE_LIMIT = 10_000  # characters of a reason, and of an answer in free text
ANSWERS_LIMIT = 50  # to one question
PATTERN_LIMIT = 500  # characters of a stored rule's pattern
REJECTED = "A person refused this. Go on without it, or find another way."
NOT_ANSWERED = "Nobody answers this. Decide yourself, and say so."
# What the asker wants: one name for it, on cards and in the log.
WANTS = {
    AskKind.PERMISSION: "asks for permission",
    AskKind.QUESTION: "has a question",
    AskKind.BUDGET: "asks whether to go on",
}
SAID = {
    AskReply.ONCE: "allowed it once",
    AskReply.ALWAYS: "allowed it from now on",
    AskReply.REJECT: "rejected it",
    AskReply.ANSWERS: "answered it",
}
OVER = {
    AskState.EXPIRED: "Nobody answered this in time.",
    AskState.WITHDRAWN: "The agent does not wait for this any more: its turn has ended.",
    AskState.LOST: "The agent server forgot this question; the agent asks anew when it needs to.",
}


def lasting_patterns(ask: Ask) -> list[str]:
    """The patterns of the rules that "always" makes; none when it is no choice.

    That is so when a pattern could not be shown in full, and when it would open the checkouts of other tasks.
    """
    told = ask.always or ask.patterns
    patterns = [str(one) for one in told] if isinstance(told, list) else []
    whole = isinstance(ask.detail, dict) and ask.detail.get("exact", True)
    exact = whole and all(len(one) <= PATTERN_LIMIT for one in patterns)
    if not exact or (ask.permission == "external_directory" and any(map(_opens_checkouts, patterns))):
        return []
    return patterns


def _opens_checkouts(pattern: str) -> bool:
    root = str(settings.STUDIO_WORKSPACE_ROOT.resolve())
    fixed = re.split(r"[*?]", pattern, maxsplit=1)[0]
    return root.startswith(fixed) or f"{fixed.rstrip('/')}/".startswith(f"{root}/")


def checked_message(message: str) -> str:
    """The reason, cleaned. Raises Invalid when it is too long."""
    if len(message) > MESSAGE_LIMIT:
        raise Invalid(
            f"The reason has {len(message):,} characters; {MESSAGE_LIMIT:,} are possible.",
            detail={"field": "message", "limit": MESSAGE_LIMIT},
        )
    return clean(message).strip()


def checked_answers(ask: Ask, answers: Any) -> list[list[str]]:
    """A list of texts for each question, labels of its options or free text; an empty one is no answer to that question.

    Raises Invalid for anything else.
    """
    count = len(ask.questions)
    if not isinstance(answers, list) or len(answers) != count:
        raise Invalid(
            f"There {'is 1 question' if count == 1 else f'are {count} questions'}: give a list of answers for each.",
            detail={"field": "answers", "questions": count},
        )
    checked = []
    for number, given in enumerate(answers, start=1):
        if not isinstance(given, list) or len(given) > ANSWERS_LIMIT or not all(isinstance(one, str) for one in given):
            raise Invalid(
                f"The answers to question {number} must be a list of at most {ANSWERS_LIMIT} texts.",
                detail={"field": "answers", "question": number},
            )
        if any(len(one) > MESSAGE_LIMIT for one in given):
            raise Invalid(
                f"An answer to question {number} has more than {MESSAGE_LIMIT:,} characters.",
                detail={"field": "answers", "question": number, "limit": MESSAGE_LIMIT},
            )
        texts = [clean(one).strip() for one in given]
        checked.append(list(dict.fromkeys(one for one in texts if one)))
    return checked


def rejection(ask: Ask) -> str:
    """What the agent is told of a refusal, so that it goes on: without a word the server would end its turn."""
    return ask.message or (REJECTED if ask.permission else NOT_ANSWERED)


def already(ask: Ask) -> Conflict:
    """The refusal of an answer that comes too late."""
    detail = {
        "state": ask.state,
        "reply": ask.reply,
        "by": ask.answered_name,
        "at": ask.answered_at.isoformat() if ask.answered_at else None,
    }
    if ask.state == AskState.ANSWERED:
        said = f"{ask.answered_name} {SAID[AskReply(ask.reply)]} already."
        return Conflict(said[0].upper() + said[1:], code="already_answered", detail=detail)
    return Conflict(OVER[AskState(ask.state)], code="ask_over", detail=detail)
