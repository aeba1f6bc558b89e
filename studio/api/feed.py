"""The feed of a project over HTTP, read by a cursor: the same events that the WebSocket sends."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponseBase
from django.urls import URLPattern, path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from studio import outbox
from studio.event_stream import LastEventId, StreamedView, in_both_forms
from studio.kernel.api_input import CursorQuery, checked_query
from studio.kernel.errors import NotFound
from studio.kernel.pagination import cursor_page
from workspaces.selectors import project_by, role_in


class FeedQuery(CursorQuery):
    """The query of the feed. Numbers are a project's own, so the project must be named."""

    project = serializers.CharField(max_length=64, help_text="A project's id or key.")


class FeedEventSerializer(serializers.Serializer[Any]):
    """One thing that became true in a project."""

    seq = serializers.IntegerField()
    topic = serializers.CharField(help_text="Of what: task:ID or project:ID.")
    kind = serializers.CharField(help_text="task.created, task.moved, run.state, …")
    data = serializers.DictField()  # type: ignore[assignment]  # the field's name, not the attribute of the class
    at = serializers.DateTimeField()


class FeedPageSerializer(serializers.Serializer[Any]):
    """A stretch of the feed. `next` is there while more is written already; later, go on from the last `seq`."""

    results = FeedEventSerializer(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    head = serializers.IntegerField(help_text="The number of the newest event.")


class Feed(StreamedView):
    """A project's feed."""

    @extend_schema(
        operation_id="feed", parameters=[FeedQuery, LastEventId], responses=in_both_forms(FeedPageSerializer)
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Read a project's events after a cursor: numbered without a gap, in the order in which they became true.

        As an event stream it is replayed from the cursor and then followed: each event has its `seq` as id, its `kind` as
        event, and as data what stands in a page. Beside them come `subscribed` at the beginning, and before the end
        `resync` (connect again) or `ended` (the account may no longer read it).
        """
        query = checked_query(FeedQuery, request)
        project = project_by(query.pop("project"))
        if role_in(request.user, project) is None:
            raise NotFound("There is no such project.")
        if self.wants_stream(request):
            return self.stream(request, f"project:{project.pk}", query["after"], _row)
        head = outbox.project_head(str(project.pk))
        rows = [_row(event.frame()) for event in outbox.read_project(str(project.pk), **query)]
        return Response(cursor_page(request, FeedEventSerializer(rows, many=True).data, head=head))


def _row(frame: dict[str, Any]) -> dict[str, Any]:
    """An event as the feed's readers over HTTP get it: its own topic instead of the project's."""
    data = dict(frame["data"])
    return {"seq": frame["seq"], "topic": data.pop("topic"), "kind": frame["kind"], "data": data, "at": frame["at"]}


urlpatterns: list[URLPattern] = [path("feed", Feed.as_view(), name="api-feed")]
