"""Messages to a session's agent over REST, and what a person decides about a turn."""

from __future__ import annotations

import uuid
from typing import Any

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from sessions_app import selectors
from sessions_app.models import AgentSession, Delivery, InboxItem, InboxState, Turn
from sessions_app.serializers import TurnSerializer
from sessions_app.services import inbox, retries
from studio.kernel.api_input import StrictSerializer, checked_body
from studio.kernel.errors import NotFound
from studio.kernel.permissions import Role
from workspaces.selectors import require_role

SESSION = OpenApiParameter("session_id", uuid.UUID, OpenApiParameter.PATH, description="The session's id.")
ITEM = OpenApiParameter("item_id", uuid.UUID, OpenApiParameter.PATH, description="The message's id.")
NUMBER = OpenApiParameter("number", int, OpenApiParameter.PATH, description="The turn's number in its session.")


class InboxItemSerializer(serializers.ModelSerializer[InboxItem]):
    """A message. Only what is `waiting` can be changed; `delivered` ones stay readable."""

    delivery = serializers.ChoiceField(choices=Delivery.choices, read_only=True)
    state = serializers.ChoiceField(choices=InboxState.choices, read_only=True)
    turn = serializers.UUIDField(source="turn_id", allow_null=True, read_only=True, help_text="The turn that took it.")

    class Meta:
        model = InboxItem
        fields = [
            "id", "session", "delivery", "state", "text", "position", "author_name", "turn", "created_at", "edited_at",
            "delivered_at",
        ]  # fmt: skip
        read_only_fields = fields


class InboxSerializer(serializers.Serializer[Any]):
    """What waits or is on its way, in order."""

    results = InboxItemSerializer(many=True)


class MessageBody(StrictSerializer[Any]):
    """A message to the agent."""

    text = serializers.CharField(help_text=f"At most {inbox.TEXT_LIMIT:,} characters.")
    delivery = serializers.ChoiceField(
        choices=Delivery.choices,
        default=Delivery.QUEUE,
        help_text="steer: at the running turn's next step. queue: a turn of its own, after everything before it.",
    )


class EditBody(StrictSerializer[Any]):
    """The new text of a message that waits."""

    text = serializers.CharField(help_text=f"At most {inbox.TEXT_LIMIT:,} characters.")


class MoveBody(StrictSerializer[Any]):
    """Where a waiting message goes."""

    direction = serializers.ChoiceField(
        choices=[("up", "up"), ("down", "down")], help_text="Before or after its neighbour of the same delivery."
    )


class InterruptBody(StrictSerializer[Any]):
    """What the agent is to do in place of what it does."""

    text = serializers.CharField(required=False, default="", allow_blank=True, help_text="Opens the next turn.")


class InterruptedSerializer(serializers.Serializer[Any]):
    """Whether a turn was running, and the message that opens the next one."""

    interrupted = serializers.BooleanField()
    message = InboxItemSerializer(allow_null=True)


class Inbox(APIView):
    """A session's inbox."""

    @extend_schema(operation_id="sessions_inbox", parameters=[SESSION], responses=InboxSerializer)
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """List the messages that wait or are on their way, in their order."""
        items = selectors.open_messages(_visible(request, session_id))
        return Response({"results": InboxItemSerializer(items, many=True).data})

    @extend_schema(
        operation_id="sessions_inbox_post",
        parameters=[SESSION],
        request=MessageBody,
        responses={201: InboxItemSerializer},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Say something to the agent. Without a running turn the message opens one; it is delivered exactly once."""
        session = _writable(request, session_id)
        item = inbox.post(session=session, actor=request.user, **checked_body(MessageBody, request))
        return Response(InboxItemSerializer(item).data, status=status.HTTP_201_CREATED)


class InboxMessage(APIView):
    """One message that waits."""

    @extend_schema(
        operation_id="inbox_update",
        parameters=[ITEM],
        request=EditBody,
        responses=InboxItemSerializer,
        methods=["PATCH"],
    )
    def patch(self, request: Request, item_id: uuid.UUID) -> Response:
        """Change the text of a message that waits; 409 when it has been sent."""
        _writable_item(request, item_id)
        item = inbox.edit(item_id=item_id, actor=request.user, **checked_body(EditBody, request))
        return Response(InboxItemSerializer(item).data)

    @extend_schema(operation_id="inbox_remove", parameters=[ITEM], responses={204: None})
    def delete(self, request: Request, item_id: uuid.UUID) -> Response:
        """Take a waiting message back: it is never sent. 409 when it has been sent."""
        _writable_item(request, item_id)
        inbox.remove(item_id=item_id, actor=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)


class InboxSendNow(APIView):
    """A message that overtakes the others."""

    @extend_schema(operation_id="inbox_send_now", parameters=[ITEM], request=None, responses=InboxItemSerializer)
    def post(self, request: Request, item_id: uuid.UUID) -> Response:
        """Let a waiting message steer the running turn, or open the next one at once."""
        _writable_item(request, item_id)
        return Response(InboxItemSerializer(inbox.send_now(item_id=item_id, actor=request.user)).data)


class InboxMove(APIView):
    """The order of what waits."""

    @extend_schema(operation_id="inbox_move", parameters=[ITEM], request=MoveBody, responses=InboxItemSerializer)
    def post(self, request: Request, item_id: uuid.UUID) -> Response:
        """Let a waiting message change places with the one before or after it; at the end it stays where it is."""
        _writable_item(request, item_id)
        up = checked_body(MoveBody, request)["direction"] == "up"
        return Response(InboxItemSerializer(inbox.move(item_id=item_id, up=up, actor=request.user)).data)


class Interrupt(APIView):
    """The end of what the agent does now."""

    @extend_schema(
        operation_id="sessions_interrupt", parameters=[SESSION], request=InterruptBody, responses=InterruptedSerializer
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """End the running turn; with a text, that message opens the next one, before everything that waits."""
        session = _writable(request, session_id)
        text = checked_body(InterruptBody, request)["text"]
        if text.strip():
            item = inbox.interrupt_and_send(session=session, text=text, actor=request.user)
            return Response({"interrupted": True, "message": InboxItemSerializer(item).data})
        return Response({"interrupted": inbox.interrupt(session=session, actor=request.user), "message": None})


class TurnRetry(APIView):
    """A turn that waits to be tried again, or that the server has lost."""

    @extend_schema(operation_id="turns_retry", parameters=[SESSION, NUMBER], request=None, responses=TurnSerializer)
    def post(self, request: Request, session_id: uuid.UUID, number: int) -> Response:
        """Try a turn again now: a planned retry at once, a lost turn in a fresh session on the server."""
        turn = _turn(request, session_id, number)
        if not retries.try_now(turn_id=turn.pk):
            retries.retry_unknown(turn_id=turn.pk, actor=request.user)
        turn.refresh_from_db()
        return Response(TurnSerializer(turn).data)


class TurnAbandon(APIView):
    """A turn that the server has lost."""

    @extend_schema(operation_id="turns_abandon", parameters=[SESSION, NUMBER], request=None, responses=TurnSerializer)
    def post(self, request: Request, session_id: uuid.UUID, number: int) -> Response:
        """Give a lost turn up: it counts as failed."""
        turn = _turn(request, session_id, number)
        return Response(TurnSerializer(retries.abandon_unknown(turn_id=turn.pk, actor=request.user)).data)


def _visible(request: Request, session_id: uuid.UUID) -> AgentSession:
    session = selectors.sessions_visible_to(request.user).filter(pk=session_id).first()
    if session is None:
        raise NotFound("There is no such session.")
    return session


def _writable(request: Request, session_id: uuid.UUID) -> AgentSession:
    session = _visible(request, session_id)
    require_role(request.user, session.project, Role.MAINTAINER)
    return session


def _writable_item(request: Request, item_id: uuid.UUID) -> None:
    found = InboxItem.objects.filter(pk=item_id).values_list("session_id", flat=True).first()
    if found is None:
        raise NotFound("There is no such message.")
    _writable(request, found)


def _turn(request: Request, session_id: uuid.UUID, number: int) -> Turn:
    turn = _writable(request, session_id).turns.filter(number=number).first()
    if turn is None:
        raise NotFound("There is no such turn.")
    return turn


urlpatterns: list[URLPattern] = [
    path("sessions/<uuid:session_id>/inbox", Inbox.as_view(), name="api-session-inbox"),
    path("sessions/<uuid:session_id>/interrupt", Interrupt.as_view(), name="api-session-interrupt"),
    path("sessions/<uuid:session_id>/turns/<int:number>/retry", TurnRetry.as_view(), name="api-turn-retry"),
    path("sessions/<uuid:session_id>/turns/<int:number>/abandon", TurnAbandon.as_view(), name="api-turn-abandon"),
    path("inbox/<uuid:item_id>", InboxMessage.as_view(), name="api-inbox-message"),
    path("inbox/<uuid:item_id>/move", InboxMove.as_view(), name="api-inbox-move"),
    path("inbox/<uuid:item_id>/send", InboxSendNow.as_view(), name="api-inbox-send"),
]
