"""The next turn of a session out of its inbox: in the same conversation, or in a fresh one that is told of the old."""

from __future__ import annotations

import uuid
from hashlib import sha256

from agents.backend import LogEntry
from agents.models import AgentProfile, AgentServer
from agents.selectors import profile_for
from sessions_app import log as session_log
from sessions_app.models import (
    AgentSession,
    Delivery,
    InboxItem,
    InboxState,
    SessionEvent,
    Turn,
    TurnOutcome,
    TurnState,
)
from sessions_app.services.turns import admit_turn, lock_session, open_session
from sessions_app.signals import turn_changed
from studio.kernel.clock import now
from studio.kernel.errors import NotFound
from studio.kernel.ids import derived_id
from studio.kernel.text import cut
from workspaces.models import WorkspaceState
from workspaces.selectors import is_being_taken

SUMMARY_LIMIT = 8_000  # characters of an old conversation that a fresh one is told
PIECE_LIMIT = 2_000  # of one message in it


def fingerprint_of(profile: AgentProfile) -> str:
    """Names the configuration that a session runs under: agent, model and the profile's version. Never where it runs."""
    parts = (profile.name, profile.version, profile.agent, profile.model)
    return sha256("\n".join(map(str, parts)).encode()).hexdigest()


def why_not_resumable(session: AgentSession) -> str:
    """Why the conversation cannot go on on the server, in a sentence; empty when it can."""
    if session.broken:
        return f"the earlier conversation ended with an error ({session.broken})"
    if not session.external_id:
        return ""  # it has not begun: its first dispatch opens it on the server
    try:
        present = fingerprint_of(profile_for(session.role))
    except NotFound:
        return "its agent profile is gone"
    if session.fingerprint and session.fingerprint != present:
        return "the agent profile was changed since"
    return ""


def open_next(session_id: uuid.UUID | str, *, after: Turn | None = None) -> Turn | None:
    """Open the next turn from what waits in the inbox; None when nothing waits or a turn is not settled.

    None also while a merge of the checkout or a push for its pull request is on its way, which commits what lies there: the
    message waits until that has settled, and the sweeper rings again. Whoever asks for one holds the checkout's sessions
    (`lock_sessions_in`).

    Belongs into a transaction. Steers come first, all together; queued messages one by one, in order. `after`: the turn
    that this one continues, for the same run. Where the conversation cannot be resumed a fresh session takes the inbox
    over, knows why, and is given a summary.
    """
    session = lock_session(session_id)
    if session is None or session.turns.exclude(state=TurnState.SETTLED).exists():
        return None
    if session.workspace.state != WorkspaceState.READY or is_being_taken(session.workspace):
        return None
    batch = _next_batch(session)
    if not batch:
        return None
    last = session.turns.order_by("-number").first()
    reason = why_not_resumable(session)
    preface = ""
    if reason:
        fresh = _fresh_session(session, reason)
        preface = _preface(session, reason)
        carry_over(session, fresh)
        session = fresh
    text = joined(batch)
    sent_before = batch[0].message_id and not reason
    message_id = batch[0].message_id if sent_before else derived_id("msg", batch[0].pk, now(), 1)
    part_id = batch[0].part_id if sent_before else derived_id("prt", batch[0].pk, now(), 2)
    limits = _limits(session, last)
    turn = admit_turn(
        session=session,
        prompt=f"{preface}{text}",
        system=last.system if last else "",
        tool_subject=after.tool_subject if after else "",
        ids=(message_id, part_id),
        continues=after,
        **limits,
    )
    InboxItem.objects.filter(pk__in=[item.pk for item in batch]).update(
        state=InboxState.DELIVERED, turn=turn, message_id=message_id, part_id=part_id, delivered_at=now()
    )
    for item in batch:
        delivered(item, session, turn)
    turn_changed.send(sender=Turn, turn=turn)
    return turn


def delivered(item: InboxItem, session: AgentSession, turn: Turn) -> None:
    """Note in the log that the message is the turn's now."""
    data = {"item": str(item.pk), "delivery": item.delivery, "turn": turn.number, "author": item.author_name}
    entry = LogEntry("inbox.delivered", f"inbox.delivered:{item.pk}", data, now())
    session_log.append(session.pk, [entry])


def joined(items: list[InboxItem]) -> str:
    """Messages that go out together, as one text."""
    return "\n\n".join(item.text for item in items)


def carry_over(old: AgentSession, new: AgentSession) -> int:
    """Move what waits in the inbox of `old` to the end of `new`'s; how many messages. Inside a transaction.

    Ids under which they were tried belong to the old conversation and are dropped.
    """
    last = new.inbox.order_by("-position").values_list("position", flat=True).first() or 0
    waiting = list(old.inbox.filter(state=InboxState.WAITING).order_by("position"))
    for offset, item in enumerate(waiting, start=1):
        InboxItem.objects.filter(pk=item.pk).update(
            session=new, position=last + offset, message_id="", part_id="", turn=None
        )
    return len(waiting)


def _next_batch(session: AgentSession) -> list[InboxItem]:
    waiting = list(session.inbox.filter(state=InboxState.WAITING).order_by("position"))
    again = [item for item in waiting if item.message_id]
    if again:
        return [item for item in again if item.message_id == again[0].message_id]
    return [item for item in waiting if item.delivery == Delivery.STEER] or waiting[:1]


def continue_session(old: AgentSession, *, server: AgentServer, title: str) -> tuple[AgentSession, str]:
    """The conversation in which the next prompt for the work of `old` belongs, and what goes before that prompt.

    That is `old` itself while it can be resumed on `server`; else a fresh one that is told why, with a summary. Belongs
    into a transaction; no turn of `old` may be unsettled.
    """
    last = old.turns.order_by("-number").first()
    reason = why_not_resumable(old)
    if not reason and old.server_id != server.pk:
        reason = "this round runs on another agent server"
    if not reason and last is not None and last.outcome != TurnOutcome.COMPLETED:
        reason = "the earlier conversation did not come to its end"
    return (_fresh_session(old, reason, server=server, title=title), _preface(old, reason)) if reason else (old, "")


def _fresh_session(
    old: AgentSession, reason: str, *, server: AgentServer | None = None, title: str = ""
) -> AgentSession:
    profile = profile_for(old.role)
    fresh = open_session(
        workspace=old.workspace,
        server=server or old.server,
        role=old.role,
        title=title or old.title,
        agent=profile.agent,
        model=profile.model,
        subject=old.subject,
        fingerprint=fingerprint_of(profile),
        previous=old,
    )
    data = {"session": str(fresh.pk), "reason": reason}
    session_log.append(old.pk, [LogEntry("session.continued", f"session.continued:{fresh.pk}", data, now())])
    return fresh


def _preface(old: AgentSession, reason: str) -> str:
    """What a fresh conversation is told of the one that it continues."""
    kinds = ["user", "text", "turn.settled"]
    rows = SessionEvent.objects.filter(session=old, kind__in=kinds).order_by("-seq")[:60]
    pieces: list[str] = []
    left = SUMMARY_LIMIT
    for row in rows:
        words = _words(row)
        if not words:
            continue
        left -= len(words)
        if left < 0:
            break
        pieces.append(words)
    told = "\n\n".join(reversed(pieces)) or "(nothing was said)"
    return (
        f"You continue the work of an earlier conversation, because {reason}. What was said in it last, oldest first:\n\n"
        f"<earlier-conversation>\n{told}\n</earlier-conversation>\n\nNow this is asked of you:\n\n"
    )


def _words(row: SessionEvent) -> str:
    if row.kind == "turn.settled":
        return f"[The turn ended: {row.data.get('outcome')}.]"
    speaker = "Asked" if row.kind == "user" else "Answered"
    text = str(row.data.get("text", "")).strip()
    return f"{speaker}: {cut(text, PIECE_LIMIT)}" if text else ""


def _limits(session: AgentSession, last: Turn | None) -> dict[str, int]:
    if last is not None:
        return {"max_steps": last.max_steps, "wall_seconds": last.wall_seconds, "idle_seconds": last.idle_seconds}
    profile = profile_for(session.role)
    return {
        "max_steps": profile.max_steps,
        "wall_seconds": profile.wall_seconds,
        "idle_seconds": profile.idle_seconds,
    }
