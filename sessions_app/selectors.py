"""Reading sessions: what a person may see, the log after a cursor, and the transcript as people read it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django.db import connection
from django.db.models import Prefetch, QuerySet

from sessions_app.models import AgentSession, Ask, AskState, InboxItem, InboxState, SessionEvent, Turn, TurnState
from studio.topics import Event
from workspaces.selectors import projects_visible_to

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

READ_LIMIT = 500
SESSIONS_AT_ONCE = 400  # SQLite takes no expression that is deeper than 1,000
READ_SESSIONS = "SELECT id, session_id, seq, kind, data, at FROM sessions_app_sessionevent"


def sessions_visible_to(user: AbstractBaseUser | AnonymousUser) -> QuerySet[AgentSession]:
    """The sessions of the projects that `user` may see."""
    return AgentSession.objects.filter(project__in=projects_visible_to(user)).select_related("server", "project")


def with_turns(sessions: QuerySet[AgentSession]) -> QuerySet[AgentSession]:
    """The sessions with their turns in order, without the prompts."""
    turns = Turn.objects.defer("prompt", "system").order_by("number")
    return sessions.prefetch_related(Prefetch("turns", turns))


def read_session(session_id: str, after: int, limit: int = READ_LIMIT) -> list[Event]:
    """The log after a cursor, ascending, at most `limit` entries."""
    rows = SessionEvent.objects.filter(session_id=uuid.UUID(session_id), seq__gt=after).order_by("seq")[:limit]
    return [Event(f"session:{session_id}", row.seq, row.kind, row.data, row.at) for row in rows]


def read_sessions(cursors: dict[str, int], limit: int) -> list[Event]:
    """The logs of several sessions after their cursors, each ascending; at most `limit` entries in all."""
    found: list[Event] = []
    names = list(cursors)
    for start in range(0, len(names), SESSIONS_AT_ONCE):
        some = {name: cursors[name] for name in names[start : start + SESSIONS_AT_ONCE]}
        found += _read_some(some, limit - len(found))
        if len(found) >= limit:
            break
    return found


def _read_some(cursors: dict[str, int], limit: int) -> list[Event]:
    # Written out, because a hub asks dozens of times a second: composing the same of Q objects takes twice the time.
    prepare = SessionEvent._meta.get_field("session").get_db_prep_value
    params: list[Any] = []
    for session_id, cursor in cursors.items():
        params += [prepare(uuid.UUID(session_id), connection), cursor]
    after = " OR ".join(["(session_id = %s AND seq > %s)"] * len(cursors))
    query = f"{READ_SESSIONS} WHERE {after} ORDER BY session_id, seq LIMIT %s"
    rows = SessionEvent.objects.raw(query, [*params, limit])
    return [Event(f"session:{row.session_id}", row.seq, row.kind, row.data, row.at) for row in rows]


def session_head(session_id: str) -> int:
    """The last number of a session's log, 0 when it is empty."""
    return AgentSession.objects.filter(pk=session_id).values_list("last_seq", flat=True).first() or 0


def transcript(session: AgentSession, after: int = 0, limit: int = READ_LIMIT) -> list[Event]:
    """The log of `session` after a cursor without the starts of tools that have finished: one entry a tool.

    The cursor of the last returned entry continues the reading; a start whose tool finished later is simply absent.
    """
    events = read_session(str(session.pk), after, limit)
    finished = {event.data.get("part") for event in events if event.kind == "tool.finished"}
    return [event for event in events if event.kind != "tool.started" or event.data.get("part") not in finished]


def light_turns(session: AgentSession) -> QuerySet[Turn]:
    """The session's turns without their long texts."""
    return session.turns.defer("prompt", "system", "result_text")


def active_turn(session: AgentSession) -> Turn | None:
    """The turn that is not settled yet, if there is one; without its long texts."""
    return light_turns(session).exclude(state=TurnState.SETTLED).first()


def todo_list(session: AgentSession) -> list[dict[str, Any]]:
    """The newest todo list that the agent itself wrote (a partial index finds it in a log of any length)."""
    newest = session.events.filter(kind="todo").order_by("-seq").values_list("data", flat=True).first()
    items = (newest or {}).get("items", [])
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def asks_visible_to(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Ask]:
    """What was asked in the projects that `user` may see, oldest first."""
    visible = Ask.objects.filter(session__project__in=projects_visible_to(user))
    return visible.select_related("session__project").order_by("created_at")


def asks_about(subject: str) -> QuerySet[Ask]:
    """What was asked in the sessions for `subject` (a task's id), oldest first."""
    return Ask.objects.filter(session__subject=subject).select_related("session__project").order_by("created_at")


def pending_asks(session: AgentSession) -> QuerySet[Ask]:
    """What the session's agents wait for, oldest first."""
    return session.asks.filter(state=AskState.PENDING).select_related("session__project").order_by("created_at")


def open_messages(session: AgentSession) -> QuerySet[InboxItem]:
    """The messages that wait or are on their way, in order."""
    return session.inbox.filter(state__in=[InboxState.WAITING, InboxState.SENDING]).order_by("position")
