"""Answering what an agent asks."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from sessions_app import selectors
from sessions_app.ask_cards import AskCard, given_answers
from sessions_app.models import Ask, AskReply
from sessions_app.overview import MAY_ANSWER
from sessions_app.services import asks
from sessions_app.views.pages import way_back
from studio.kernel.errors import Conflict, NotFound, StudioError
from studio.kernel.pages import is_fragment, say, status_of
from studio.kernel.permissions import at_least
from workspaces.selectors import role_in

TOO_LATE = "Somebody was faster, or it waits no longer."


@require_http_methods(["GET", "POST"])
def answer(request: HttpRequest, ask_id: uuid.UUID) -> HttpResponse:
    """Answer, once. For the page's script the card as it is then; whoever comes second is shown what was answered."""
    found = _visible(request, ask_id)
    there = f"{reverse('session', kwargs={'session_id': found.session_id})}#ask-{found.pk}"
    if request.method == "GET":
        return redirect(there)
    status, note = 200, ""
    posted: dict[str, Any] = {}
    try:
        asks.answer(ask_id=found.pk, actor=request.user, **_given(request, found))
    except StudioError as error:
        status, posted = status_of(error), _posted(request)
        note = TOO_LATE if isinstance(error, Conflict) else error.message
        if not is_fragment(request):
            say(request, error)
    if not is_fragment(request):
        return redirect(way_back(request, there))
    card = AskCard(_visible(request, ask_id), _may_answer(request, found), note=note, posted=posted)
    return render(request, "sessions/_ask.html", {"card": card, "back": request.POST.get("next", "")}, status=status)


def _given(request: HttpRequest, found: Ask) -> dict[str, Any]:
    reply, message = request.POST.get("reply", ""), request.POST.get("message", "").strip()
    if reply != AskReply.ANSWERS:
        return {"reply": reply, "message": message if reply == AskReply.REJECT else ""}
    return {"reply": reply, "answers": given_answers(found, dict(request.POST.lists()))}


def _posted(request: HttpRequest) -> dict[str, Any]:
    """What was written, for the card that says why it was refused."""
    own = {name: value for name, value in request.POST.items() if name == "message" or name.endswith("-own")}
    return {**dict(request.POST.lists()), **own}


def _may_answer(request: HttpRequest, found: Ask) -> bool:
    return at_least(role_in(request.user, found.session.project), MAY_ANSWER)


def _visible(request: HttpRequest, ask_id: uuid.UUID) -> Ask:
    found = selectors.asks_visible_to(request.user).filter(pk=ask_id).first()
    if found is None:
        raise NotFound("Nobody asks this.")
    return found
