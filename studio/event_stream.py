"""The event-stream form (SSE) of what is read by a cursor: replay, then follow, in one answer that does not end.

It is the same address and the same view as the pages of JSON, chosen by `Accept: text/event-stream`. The view itself is an
ordinary synchronous one of the REST API, so accounts, throttling, roles, parameters and the error envelope are those of every
other operation, and nothing of it is written twice. Only its answer is an asynchronous iterator: the ASGI handler takes
it over on the event loop, where the hub is, and no thread works for it any more. (A route beside Django, in `studio/asgi.py`,
would have needed a second copy of sign-in and errors; an asynchronous view would have had to leave the framework of the API.)

A stream goes one way, so it cannot be confirmed as a WebSocket's frames are. It ends after STREAM_CHARS with `resync`, and
the reader's next connection, which names its cursor, is the confirmation (ADR 7).
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from knox.models import AuthToken
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from studio.access import Identity
from studio.kernel.api_input import LARGEST
from studio.kernel.errors import TooMany
from studio.readers import FeedReader

if TYPE_CHECKING:
    from collections.abc import Iterator

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_SECONDS = 10.0
STREAMS = 20  # of one account in one web process
STREAM_CHARS = 4 * 1024 * 1024  # of one answer, which are bytes: events are ASCII
CHUNK_CHARS = 64 * 1024  # what waits is sent together
RETRY_MILLISECONDS = 1_000
TOO_MANY = f"There are {STREAMS} open event streams of this account already: close one first."

Row = Callable[[dict[str, Any]], dict[str, Any]]

LastEventId = OpenApiParameter(
    "Last-Event-ID",
    OpenApiTypes.INT64,
    OpenApiParameter.HEADER,
    description="In the form of an event stream: the cursor, before `after`. Browsers send it when they connect again.",
)

_open: Counter[int] = Counter()  # streams by account; changed on the event loop only


def in_both_forms(page: type[BaseSerializer[Any]]) -> dict[tuple[int, str], Any]:
    """The answers of a StreamedView for the OpenAPI document."""
    return {(200, JSONRenderer.media_type): page, (200, MEDIA_TYPE): OpenApiTypes.STR}


class EventStreamRenderer(BaseRenderer):
    """Makes the media type one that may be asked for; what it stands for is never rendered in one piece."""

    media_type = MEDIA_TYPE
    format = "event-stream"


class StreamedView(APIView):
    """A view that answers in pages of JSON, or as an event stream."""

    renderer_classes = [JSONRenderer, EventStreamRenderer]

    def wants_stream(self, request: Request) -> bool:
        """Whether the client asked for the event stream."""
        return request.method == "GET" and isinstance(request.accepted_renderer, EventStreamRenderer)

    def stream(self, request: Request, topic: str, after: int, row: Row) -> StreamingHttpResponse:
        """The topic after a cursor as an event stream, each event as `row` makes it from its frame.

        The caller has checked that the account may see the topic. Raises TooMany, and ValidationError for a
        Last-Event-ID that is no cursor.
        """
        cursor, identity = _last_event_id(request, after), _identity(request)
        if _open[identity.user_id] >= STREAMS:
            raise TooMany(TOO_MANY, code="too_many_streams")
        events = _events(identity, topic, cursor, row)
        headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
        return StreamingHttpResponse(events, content_type=MEDIA_TYPE, headers=headers)

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Errors are JSON whatever was asked for."""
        if isinstance(response, Response) and isinstance(
            getattr(request, "accepted_renderer", None), EventStreamRenderer
        ):
            request.accepted_renderer = JSONRenderer()
            request.accepted_media_type = JSONRenderer.media_type
        return super().finalize_response(request, response, *args, **kwargs)


def _last_event_id(request: Request, after: int) -> int:
    raw = request.headers.get("Last-Event-ID", "").strip()
    if not raw:
        return after
    if not (raw.isascii() and raw.isdigit() and len(raw) <= 19 and int(raw) <= LARGEST):
        raise ValidationError({"Last-Event-ID": ["It is the number of an event: a whole number from 0."]})
    return int(raw)


def _identity(request: Request) -> Identity:
    user: Any = request.user
    if isinstance(request.auth, AuthToken):
        return Identity(user.pk, token=request.auth.digest)
    return Identity(user.pk, session=request._request.session.session_key or "")


@contextmanager
def _counted(user_id: int) -> Iterator[bool]:
    """Count a stream while it is open; False when it is one too many."""
    _open[user_id] += 1
    try:
        yield _open[user_id] <= STREAMS
    finally:
        _open[user_id] -= 1
        if not _open[user_id]:
            del _open[user_id]


def _close_connections() -> None:
    """Give back the database connection of the view's thread, which stays with the request while the stream is open."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


async def _events(identity: Identity, topic: str, after: int, row: Row) -> AsyncIterator[str]:
    """The answer's text, piece by piece, until the reader leaves, may no longer read, or has to confirm."""
    await sync_to_async(_close_connections)()
    with _counted(identity.user_id) as is_allowed:
        if not is_allowed:
            yield event("ended", {"code": "too_many_streams", "message": TOO_MANY})
            return
        reader = FeedReader(identity, deltas=False)
        try:
            yield f"retry: {RETRY_MILLISECONDS}\n\n"
            await reader.subscribe([topic], {topic: after})
            async with aclosing(_follow(reader, after, row)) as texts:
                async for text in texts:
                    yield text
        finally:
            reader.close()


async def _follow(reader: FeedReader, cursor: int, row: Row) -> AsyncGenerator[str]:
    sent = 0
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                frame = json.loads(await reader.queue.take())
        except TimeoutError:
            yield ": still here\n\n"
            continue
        pieces: list[str] = []
        while True:
            kind = frame["type"]
            if kind == "event":
                cursor = frame["seq"]
                pieces.append(event(frame["kind"], row(frame), cursor))
            else:
                pieces.append(notice(frame))
            size = sum(map(len, pieces))
            is_last = kind in ("resync", "error")
            if is_last or size >= CHUNK_CHARS or not len(reader.queue):
                break
            frame = json.loads(reader.queue.take_now())
        sent += size
        if not is_last and sent >= STREAM_CHARS:
            pieces.append(event("resync", {"seq": cursor}))
            is_last = True
        yield "".join(pieces)
        if is_last:
            return


def notice(frame: dict[str, Any]) -> str:
    """What is said beside the events: `subscribed` at the beginning, `resync` or `ended` at the end."""
    data = {name: value for name, value in frame.items() if name not in ("type", "topic")}
    return event("ended" if frame["type"] == "error" else frame["type"], data)


def event(kind: str, data: dict[str, Any], seq: int | None = None) -> str:
    """One event of the stream. A notice has no seq, so that it does not move the reader's cursor."""
    number = "" if seq is None else f"id: {seq}\n"
    return f"{number}event: {kind}\ndata: {json.dumps(data)}\n\n"
