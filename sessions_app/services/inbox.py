"""What people say to a session's agent: kept from the moment it is accepted, changeable until it is sent, sent once."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import Max

from agents.backend import LogEntry
from sessions_app import log as session_log
from sessions_app.models import AgentSession, Delivery, InboxItem, InboxState, Turn, TurnState
from sessions_app.services.abort import request_abort
from sessions_app.services.settle import INTERRUPTED
from sessions_app.services.turns import lock_session
from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Invalid, NotFound
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces.models import WorkspaceState

TEXT_LIMIT = 100_000  # characters of one message
WAITING_LIMIT = 50  # messages that may wait in one session
SHOWN = 500  # characters of a message in the log's note of it; the agent's own entry has all of it
STUDIO = "studio"


def post(*, session: AgentSession, text: str, delivery: str, actor: Any = None, author_name: str = "") -> InboxItem:
    """Accept a message; it is stored before anything is sent.

    A steer reaches the running turn at its next step; a queued message opens a turn of its own when everything before it
    is done. Without a running turn either opens one. Raises Invalid (empty, too long, unknown delivery) and Conflict
    (the inbox is full; the workspace is gone).
    """
    body = _checked(text)
    if delivery not in Delivery.values:
        raise Invalid("delivery is steer or queue.", detail={"field": "delivery"})
    with transaction.atomic():
        locked = lock_session(session.pk)
        if locked is None:
            raise NotFound("There is no such session.")
        if locked.workspace.state in (WorkspaceState.REMOVING, WorkspaceState.REMOVED):
            raise Conflict("The workspace of this session is gone; reopen the task to go on.", code="workspace_gone")
        if locked.inbox.filter(state=InboxState.WAITING).count() >= WAITING_LIMIT:
            raise Conflict(
                f"{WAITING_LIMIT} messages wait in this session already. Remove one, or wait.", code="inbox_full"
            )
        last = locked.inbox.aggregate(last=Max("position"))["last"] or 0
        item = InboxItem.objects.create(
            session=locked,
            delivery=delivery,
            text=body,
            position=last + 1,
            author=actor,
            author_name=cut(author_name or (actor.get_username() if actor is not None else STUDIO), 150),
        )
        _note(item, "accepted", item.author_name)
        _ring(locked)
    return item


def edit(*, item_id: uuid.UUID | str, text: str, actor: Any = None) -> InboxItem:
    """Change a message that waits. Raises Conflict when it is on its way already, Invalid for a bad text."""
    body = _checked(text)
    with transaction.atomic():
        item = _waiting(item_id)
        item.text, item.edited_at = body, now()
        item.save(update_fields=["text", "edited_at"])
        _note(item, "edited", _name(actor), suffix=f":{item.edited_at.timestamp()}")
    return item


def remove(*, item_id: uuid.UUID | str, actor: Any = None) -> InboxItem:
    """Take a waiting message back: it will never be sent. Idempotent; raises Conflict when it is on its way already."""
    with transaction.atomic():
        found = _locked(item_id)
        if found.state == InboxState.REMOVED:
            return found
        item = _still_waiting(found)
        item.state = InboxState.REMOVED
        item.save(update_fields=["state"])
        _note(item, "removed", _name(actor))
    return item


def send_now(*, item_id: uuid.UUID | str, actor: Any = None) -> InboxItem:
    """Let a waiting message overtake the others: it steers the running turn, or opens the next one at once."""
    with transaction.atomic():
        item = _waiting(item_id)
        if item.delivery != Delivery.STEER:
            item.delivery = Delivery.STEER
            item.save(update_fields=["delivery"])
            _note(item, "edited", _name(actor), suffix=":now")
        _ring(item.session)
    return item


def move(*, item_id: uuid.UUID | str, up: bool, actor: Any = None) -> InboxItem:
    """Let a waiting message change places with the one before it (`up`) or after it; at the end it stays where it is.

    Steers go before queued messages whatever their places, so each moves among its own. Raises Conflict when it is on its
    way already.
    """
    with transaction.atomic():
        item = _waiting(item_id)
        same = InboxItem.objects.filter(
            session=item.session_id, state=InboxState.WAITING, delivery=item.delivery, message_id=""
        )
        beside = same.filter(position__lt=item.position) if up else same.filter(position__gt=item.position)
        other = beside.order_by("-position" if up else "position").first()
        if other is None:
            return item
        last = item.session.inbox.aggregate(last=Max("position"))["last"]
        places = (other.position, item.position)
        # No two may have one place, not even for a moment.
        for one, place in ((other, last + 1), (item, places[0]), (other, places[1])):
            one.position = place
            one.save(update_fields=["position"])
        _note(item, "moved", _name(actor), suffix=f":{now().timestamp()}", up=up)
    return item


def interrupt(*, session: AgentSession, actor: Any = None) -> bool:
    """End the session's running turn; what waits in the inbox opens the next one. False when nothing runs."""
    with transaction.atomic():
        active = Turn.objects.filter(session=session).exclude(state=TurnState.SETTLED).first()
        if active is None or active.state == TurnState.UNKNOWN:
            return False
        return request_abort(turn_id=active.pk, reason=INTERRUPTED)


def interrupt_and_send(*, session: AgentSession, text: str, actor: Any = None) -> InboxItem:
    """End the running turn and let this message open the next one, before everything that waits."""
    with transaction.atomic():
        item = post(session=session, text=text, delivery=Delivery.STEER, actor=actor)
        interrupt(session=session, actor=actor)
    return item


def _ring(session: AgentSession) -> None:
    """Ask for what the inbox needs now; the sweeper finds what is missed."""
    active = session.turns.exclude(state=TurnState.SETTLED).exists()
    enqueue(Names.DELIVER_MESSAGES if active else Names.OPEN_NEXT_TURN, session.pk)


def _checked(text: str) -> str:
    if len(text) > TEXT_LIMIT:
        raise Invalid(
            f"The message has {len(text):,} characters; {TEXT_LIMIT:,} are possible.",
            detail={"field": "text", "limit": TEXT_LIMIT},
        )
    body = clean(text).replace("\r\n", "\n").strip()
    if not body:
        raise Invalid("The message is empty.", detail={"field": "text"})
    return body


def _waiting(item_id: uuid.UUID | str) -> InboxItem:
    return _still_waiting(_locked(item_id))


def _locked(item_id: uuid.UUID | str) -> InboxItem:
    """The message, under its session's lock, so that nothing is sent while it is changed."""
    session_id = InboxItem.objects.filter(pk=item_id).values_list("session_id", flat=True).first()
    if session_id is None:
        raise NotFound("There is no such message.")
    lock_session(session_id)
    return InboxItem.objects.select_related("session").get(pk=item_id)


def _still_waiting(item: InboxItem) -> InboxItem:
    if item.state == InboxState.REMOVED:
        raise Conflict("This message was removed.", code="message_removed")
    if item.state != InboxState.WAITING or item.message_id:
        raise Conflict("This message has been sent to the agent already.", code="already_sent")
    return item


def _note(item: InboxItem, what: str, by: str, suffix: str = "", **more: Any) -> None:
    data = {"item": str(item.pk), "delivery": item.delivery, "text": cut(item.text, SHOWN), "author": item.author_name}
    entry = LogEntry(f"inbox.{what}", f"inbox.{what}:{item.pk}{suffix}", {**data, "by": by, **more}, now())
    session_log.append(item.session_id, [entry])


def _name(actor: Any) -> str:
    return str(actor.get_username()) if actor is not None else STUDIO
