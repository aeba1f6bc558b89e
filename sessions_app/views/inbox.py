"""What people say to a session's agent, and what they decide about a turn."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST

from sessions_app.models import AgentSession
from sessions_app.overview import MAY_SEND
from sessions_app.services import inbox, retries
from sessions_app.views.pages import done, page, visible
from studio.kernel.errors import NotFound, StudioError
from studio.kernel.pages import is_fragment, say, status_of
from workspaces.selectors import require_role

INTERRUPT = "interrupt"
ON_MESSAGES: dict[str, Callable[..., Any]] = {
    "edit": inbox.edit,
    "remove": inbox.remove,
    "send-now": inbox.send_now,
    "up": partial(inbox.move, up=True),
    "down": partial(inbox.move, up=False),
}
ON_TURNS: dict[str, Callable[..., Any]] = {
    "retry": retries.retry_unknown,
    "abandon": retries.abandon_unknown,
    "try-now": retries.try_now,
}


@require_POST
def send(request: HttpRequest, session_id: uuid.UUID) -> HttpResponse:
    """Send a message. What is refused is said beside the field, which keeps its text."""
    found = _writable(request, session_id)
    text, delivery = request.POST.get("text", ""), request.POST.get("delivery", "queue")
    try:
        if delivery == INTERRUPT:
            inbox.interrupt_and_send(session=found, text=text, actor=request.user)
        else:
            inbox.post(session=found, text=text, delivery=delivery, actor=request.user)
    except StudioError as error:
        if is_fragment(request):
            raise
        return page(request, found, status=status_of(error), wrong=error.message, posted_text=text)
    return done(request, found)


@require_POST
def message(request: HttpRequest, session_id: uuid.UUID, item_id: uuid.UUID, action: str) -> HttpResponse:
    """Change a message that waits, take it back, move it, or let it overtake the others."""
    found = _writable(request, session_id)
    if action not in ON_MESSAGES or not found.inbox.filter(pk=item_id).exists():
        raise NotFound("There is no such message.")
    fields = {"text": request.POST.get("text", "")} if action == "edit" else {}
    return _do(request, found, lambda: ON_MESSAGES[action](item_id=item_id, actor=request.user, **fields))


@require_POST
def turn(request: HttpRequest, session_id: uuid.UUID, turn_number: int, action: str) -> HttpResponse:
    """Decide about a turn whose end nobody knows, or do not wait for its next try."""
    found = _writable(request, session_id)
    wanted = found.turns.filter(number=turn_number).values_list("pk", flat=True).first()
    if action not in ON_TURNS or wanted is None:
        raise NotFound("There is no such turn.")
    who = {} if action == "try-now" else {"actor": request.user}
    return _do(request, found, lambda: ON_TURNS[action](turn_id=wanted, **who))


def _do(request: HttpRequest, found: AgentSession, act: Callable[[], Any]) -> HttpResponse:
    try:
        act()
    except NotFound:
        raise
    except StudioError as error:
        if is_fragment(request):
            raise
        say(request, error)
    return done(request, found)


def _writable(request: HttpRequest, session_id: uuid.UUID) -> AgentSession:
    found = visible(request, session_id)
    require_role(request.user, found.project, MAY_SEND)
    return found
