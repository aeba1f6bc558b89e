"""A session's transcript: its page, and the stretches that the live page asks for."""

from __future__ import annotations

import uuid

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from sessions_app import selectors, transcripts
from sessions_app.models import AgentSession
from studio.kernel.errors import NotFound
from studio.kernel.pages import number


@require_GET
def session(request: HttpRequest, session_id: uuid.UUID) -> HttpResponse:
    """One session on a page of its own."""
    found = _visible(request, session_id)
    return render(request, "sessions/session.html", {"transcript": transcripts.latest(found)})


@require_GET
def entries(request: HttpRequest, session_id: uuid.UUID) -> HttpResponse:
    """The entries after `after`, or right before `before`, with the head and the todo list as they are now."""
    found = _visible(request, session_id)
    before = number(request, "before")
    if before is not None:
        stretch = transcripts.earlier(found, before)
    else:
        stretch = transcripts.since(found, number(request, "after") or 0)
    return render(request, "sessions/_stretch.html", {"transcript": stretch})


@require_GET
def entry(request: HttpRequest, session_id: uuid.UUID, seq: int) -> HttpResponse:
    """One entry in full, opened."""
    found = transcripts.one(_visible(request, session_id), seq)
    if found is None:
        raise NotFound("There is no such entry.")
    return render(request, "sessions/_entry.html", {"e": found, "opened": True})


def _visible(request: HttpRequest, session_id: uuid.UUID) -> AgentSession:
    found = selectors.sessions_visible_to(request.user).filter(pk=session_id).first()
    if found is None:
        raise NotFound("There is no such session.")
    return found
