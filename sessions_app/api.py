"""Sessions over REST: what they are, their log, and the log in words."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponseBase
from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from sessions_app import selectors
from sessions_app.condensed import condense
from sessions_app.models import AgentSession
from sessions_app.serializers import (
    SessionEventPageSerializer,
    SessionEventSerializer,
    SessionSerializer,
    TranscriptEntrySerializer,
    TranscriptPageSerializer,
)
from studio.event_stream import LastEventId, StreamedView, in_both_forms
from studio.kernel.api_input import CursorQuery, checked_query
from studio.kernel.errors import NotFound
from studio.kernel.pagination import cursor_page

ID = OpenApiParameter("session_id", uuid.UUID, OpenApiParameter.PATH, description="The session's id.")


class SessionDetail(APIView):
    """One session."""

    @extend_schema(operation_id="sessions_retrieve", parameters=[ID], responses=SessionSerializer)
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """Read a session with its turns, tokens and cost."""
        return Response(SessionSerializer(visible_session(request, session_id)).data)


class SessionEvents(StreamedView):
    """A session's log."""

    @extend_schema(
        operation_id="sessions_events",
        parameters=[ID, CursorQuery, LastEventId],
        responses=in_both_forms(SessionEventPageSerializer),
    )
    def get(self, request: Request, session_id: uuid.UUID) -> HttpResponseBase:
        """Read a session's log after a cursor: entries are numbered without a gap, so `after` continues exactly.

        As an event stream it is replayed from the cursor and then followed: each event has its `seq` as id, its `kind` as
        event, and as data what stands in a page. Beside them come `subscribed` at the beginning, and before the end
        `resync` (connect again) or `ended` (the account may no longer read it).
        """
        session, query = visible_session(request, session_id), checked_query(CursorQuery, request)
        if self.wants_stream(request):
            return self.stream(request, f"session:{session_id}", query["after"], _row)
        events = selectors.read_session(str(session_id), **query)
        return _page(request, session, SessionEventSerializer(events, many=True).data)


class SessionTranscript(APIView):
    """A session's log in words."""

    @extend_schema(operation_id="sessions_transcript", parameters=[ID, CursorQuery], responses=TranscriptPageSerializer)
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """Read what was said and done in a session, condensed: one entry for each tool, outputs shortened."""
        session, query = visible_session(request, session_id), checked_query(CursorQuery, request)
        entries = [condense(event) for event in selectors.transcript(session, **query)]
        return _page(request, session, TranscriptEntrySerializer(entries, many=True).data)


def visible_session(request: Request, session_id: uuid.UUID) -> AgentSession:
    """The session with its turns. Raises NotFound when the account may not know that it exists."""
    session = selectors.with_turns(selectors.sessions_visible_to(request.user)).filter(pk=session_id).first()
    if session is None:
        raise NotFound("There is no such session.")
    return session


def _row(frame: dict[str, Any]) -> dict[str, Any]:
    """An entry of the stream, as it stands in a page."""
    return {name: frame[name] for name in ("seq", "kind", "data", "at")}


def _page(request: Request, session: AgentSession, rows: Any) -> Response:
    return Response(cursor_page(request, rows, head=session.last_seq))


urlpatterns: list[URLPattern] = [
    path("sessions/<uuid:session_id>", SessionDetail.as_view(), name="api-session"),
    path("sessions/<uuid:session_id>/events", SessionEvents.as_view(), name="api-session-events"),
    path("sessions/<uuid:session_id>/transcript", SessionTranscript.as_view(), name="api-session-transcript"),
]
