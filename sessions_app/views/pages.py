"""A session's page, the stretches of its transcript that the live page asks for, and its turns."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET

from sessions_app import selectors, transcripts
from sessions_app.models import AgentSession
from sessions_app.overview import context_of
from sessions_app.transcripts import Transcript
from studio.kernel.errors import NotFound
from studio.kernel.pages import is_fragment, number

TURNS_SHOWN = 100


@require_GET
def session(request: HttpRequest, session_id: uuid.UUID) -> HttpResponse:
    """One session on a page of its own: its end, or what the query asks for."""
    return page(request, visible(request, session_id))


@require_GET
def entries(request: HttpRequest, session_id: uuid.UUID) -> HttpResponse:
    """A stretch of the transcript for the page's script, with what stands around it as it is now.

    `after`: what is new since a cursor. `from`: the stretch after a number. `before`: the one right before a number.
    `turn`: the one that begins with a turn. Otherwise the end. With `around` the entries are left out.
    """
    found = visible(request, session_id)
    after = number(request, "after")
    if after is not None and "around" not in request.GET:
        stretch = transcripts.since(found, after)
    elif after is not None:
        stretch = transcripts.since(found, found.last_seq)
    else:
        stretch = _asked_for(request, found)
    return around(request, stretch, only="around" in request.GET)


@require_GET
def entry(request: HttpRequest, session_id: uuid.UUID, seq: int) -> HttpResponse:
    """One entry in full, opened."""
    found = transcripts.one(visible(request, session_id), seq)
    if found is None:
        raise NotFound("There is no such entry.")
    return render(request, "sessions/_entry.html", {"e": found, "opened": True})


@require_GET
def turns(request: HttpRequest, session_id: uuid.UUID) -> HttpResponse:
    """The session's turns, newest first, and what each used."""
    found = visible(request, session_id)
    rows = list(selectors.light_turns(found).order_by("-number")[:TURNS_SHOWN])
    used = transcripts.figures(rows)
    context = {
        "session": found,
        "turns": [(turn, used.get(turn.number)) for turn in rows],
        "older": rows[0].number if rows and rows[0].number > len(rows) else 0,
    }
    template = "sessions/_turns.html" if is_fragment(request) else "sessions/turns.html"
    return render(request, template, context)


def visible(request: HttpRequest, session_id: uuid.UUID) -> AgentSession:
    """The session, if the person may see it. Raises NotFound."""
    found = selectors.sessions_visible_to(request.user).filter(pk=session_id).first()
    if found is None:
        raise NotFound("There is no such session.")
    return found


def page(request: HttpRequest, found: AgentSession, *, status: int = 200, **extra: Any) -> HttpResponse:
    """The whole page of a session."""
    context = context_of(request.user, _asked_for(request, found))
    return render(request, "sessions/session.html", {**context, **extra}, status=status)


def around(request: HttpRequest, stretch: Transcript, *, only: bool) -> HttpResponse:
    """What the page's script puts in: head, todo list, what waits, and unless `only` the stretch's entries."""
    return render(request, "sessions/_stretch.html", {**context_of(request.user, stretch), "around": only})


def done(request: HttpRequest, found: AgentSession) -> HttpResponse:
    """After something was changed: what the page's script puts in, or the way back to the page it was done on."""
    if is_fragment(request):
        found.refresh_from_db()
        return around(request, transcripts.since(found, found.last_seq), only=True)
    return redirect(way_back(request, reverse("session", kwargs={"session_id": found.pk})))


def way_back(request: HttpRequest, default: str) -> str:
    """Where the form was sent from, if it says so and that is a page of this studio."""
    wanted = request.POST.get("next", "")
    return wanted if wanted and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) else default


def _asked_for(request: HttpRequest, found: AgentSession) -> Transcript:
    before, after, turn = (number(request, name) for name in ("before", "after", "turn"))
    beginning = number(request, "from") if after is None else after
    if before is not None:
        return transcripts.earlier(found, before)
    if beginning is not None:
        return transcripts.following(found, beginning)
    return transcripts.of_turn(found, turn) if turn is not None else transcripts.latest(found)
