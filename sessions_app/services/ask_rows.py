"""The rows of what agents ask: opened once, closed once, each time with its log entry, its feed event and its signal.

Everything here belongs into the caller's transaction, under the lock of the ask's session.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from agents.asks import PATCH_LIMIT, PermissionAsked, QuestionAsked
from agents.backend import LogEntry
from sessions_app import log as session_log
from sessions_app.models import AgentSession, Ask, AskKind, AskPolicy, AskReply, AskState, Turn
from sessions_app.services import clock
from sessions_app.signals import ask_closed, ask_opened
from studio import outbox
from studio.kernel.clock import now
from studio.kernel.text import cut

POLICY = "policy"  # who answered, when a rule or a time-out did
DEFAULT_MINUTES = 60
TITLE_SHOWN = 200  # characters in a feed event, which stays below 1 kB
MESSAGE_SHOWN = 2_000  # characters in a log entry
OF_AGENTS = [AskKind.PERMISSION, AskKind.QUESTION]


def open_row(
    session: AgentSession, turn: Turn, asked: PermissionAsked | QuestionAsked, *, asker: str, answer: dict[str, Any]
) -> Ask:
    """A new row for what is asked: pending, or with the fields of an `answer` that is known already."""
    ask = Ask.objects.create(
        session=session,
        turn=turn,
        external_id=asked.id,
        external_session="" if asked.session == session.external_id else asked.session,
        directory=asked.directory,
        asker=cut(asker, 200),
        title=asked.title or asked.id,
        due_at=due_from(session.project_id, now()),
        **_fields(asked),
        **answer,
    )
    data = {"title": ask.title, "asker": ask.asker, "permission": ask.permission, "turn": turn.number}
    note(ask, "opened", data)
    if ask.state == AskState.PENDING:
        clock.hold(turn.pk)
        ask_opened.send(sender=Ask, ask=ask)
    else:
        note(ask, "answered", {"reply": ask.reply, "by": ask.answered_name})
    return ask


def close_row(ask: Ask, state: AskState, what: str, data: dict[str, Any], **fields: Any) -> bool:
    """Let a pending ask be `state`; False when it is not pending any more, and then nothing changes."""
    if not Ask.objects.filter(pk=ask.pk, state=AskState.PENDING).update(state=state, **fields):
        return False
    ask.refresh_from_db()
    note(ask, what, data)
    if ask.turn_id is not None:
        _let_clock_go(ask.turn_id)
    ask_closed.send(sender=Ask, ask=ask)
    return True


def withdraw(turn_id: uuid.UUID | str) -> None:
    """The turn has ended: nobody waits for an answer to its asks any more."""
    for ask in Ask.objects.filter(turn_id=turn_id, state=AskState.PENDING).select_related("session"):
        close_row(ask, AskState.WITHDRAWN, "withdrawn", {})


def lose(turn_id: uuid.UUID | str) -> None:
    """What the turn ran on the server was stopped, so its asks are gone there; it asks anew when it runs again.

    An answer that had not been delivered stays with its ask, for when the same is asked again.
    """
    mine = Ask.objects.filter(turn_id=turn_id, kind__in=OF_AGENTS)
    for ask in mine.filter(state=AskState.PENDING).select_related("session"):
        close_row(ask, AskState.LOST, "lost", {})
    for ask in mine.filter(state=AskState.ANSWERED, delivered_at__isnull=True).select_related("session"):
        lose_answered(ask)


def lose_answered(ask: Ask) -> None:
    """The server has forgotten an ask before its answer arrived."""
    undelivered = Ask.objects.filter(pk=ask.pk, delivered_at__isnull=True).exclude(state=AskState.LOST)
    if undelivered.update(state=AskState.LOST, next_try_at=None):
        note(ask, "lost", {"reply": ask.reply})


def earlier_answer(turn: Turn, asked: PermissionAsked | QuestionAsked) -> dict[str, Any]:
    """The answer that a person gave when the turn asked the same before and that never arrived; taken, so it serves once.

    Empty when there is none. What a person has allowed is only what they have seen: the same command, the same patch.
    """
    lost = Ask.objects.filter(turn=turn, state=AskState.LOST, delivered_at__isnull=True).exclude(reply="")
    for ask in lost.order_by("created_at"):
        if ask.reply != AskReply.REJECT and not _same_detail(ask.detail, _fields(asked)["detail"]):
            continue
        if all(getattr(ask, name) == value for name, value in _signature(asked).items()):
            if not Ask.objects.filter(pk=ask.pk, delivered_at__isnull=True).update(delivered_at=now()):
                continue
            return {
                "state": AskState.ANSWERED,
                "reply": ask.reply,
                "message": ask.message,
                "answers": ask.answers,
                "answered_by_id": ask.answered_by_id,
                "answered_name": ask.answered_name,
                "answered_at": ask.answered_at,
            }
    return {}


def by_policy(reply: AskReply, message: str = "") -> dict[str, Any]:
    """The fields of an answer that a rule or a time-out gives."""
    return {
        "state": AskState.ANSWERED,
        "reply": reply,
        "message": message,
        "answered_name": POLICY,
        "answered_at": now(),
    }


def due_from(project_id: uuid.UUID, at: datetime) -> datetime:
    """When the time-out policy of the project acts on something asked (or remembered) at `at`."""
    minutes = AskPolicy.objects.filter(project_id=project_id).values_list("timeout_minutes", flat=True).first()
    return at + timedelta(minutes=minutes or DEFAULT_MINUTES)


def note(ask: Ask, what: str, data: dict[str, Any]) -> None:
    """Write into the session's log what became of the ask."""
    shown = {name: cut(value, MESSAGE_SHOWN) if isinstance(value, str) else value for name, value in data.items()}
    entry = LogEntry(f"ask.{what}", f"ask.{what}:{ask.pk}", {"ask": str(ask.pk), "kind": ask.kind, **shown}, now())
    session_log.append(ask.session_id, [entry])


def publish(ask: Ask, kind: str) -> None:
    """Tell the project's feed."""
    session = ask.session
    topic = f"task:{session.subject}" if session.subject else f"project:{session.project_id}"
    payload = {
        "ask": str(ask.pk),
        "kind": ask.kind,
        "state": ask.state,
        "title": cut(ask.title, TITLE_SHOWN),
        "session": str(ask.session_id),
        "task": session.subject,
    }
    outbox.publish(session.project_id, topic, kind, payload)


def _fields(asked: PermissionAsked | QuestionAsked) -> dict[str, Any]:
    if isinstance(asked, QuestionAsked):
        return {"kind": AskKind.QUESTION, "detail": {"call": asked.call}, **_signature(asked)}
    detail = {
        "command": asked.command,
        "patch": asked.patch,
        "paths": list(asked.paths),
        "call": asked.call,
        "exact": asked.exact,
    }
    always = list(asked.always) if asked.exact else []
    return {"kind": AskKind.PERMISSION, "always": always, "detail": detail, **_signature(asked)}


def _same_detail(seen: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Whether nothing else is asked for than what a person was shown. Of a patch that was cut nobody knows."""
    return seen | {"call": ""} == asked | {"call": ""} and len(asked.get("patch", "")) < PATCH_LIMIT


def _signature(asked: PermissionAsked | QuestionAsked) -> dict[str, Any]:
    """By what the same is known when it is asked again."""
    if isinstance(asked, PermissionAsked):
        return {"permission": asked.permission, "patterns": list(asked.patterns)}
    questions = [
        {
            "question": one.question,
            "header": one.header,
            "options": [{"label": option.label, "description": option.description} for option in one.options],
            "multiple": one.multiple,
        }
        for one in asked.questions
    ]
    return {"questions": questions}


def _let_clock_go(turn_id: uuid.UUID) -> None:
    """The turn works on unless something else of it waits."""
    if Ask.objects.filter(turn_id=turn_id, state=AskState.PENDING).exists():
        return
    if Turn.objects.filter(pk=turn_id, hold="").exists():
        clock.go(turn_id)
