"""What agents ask, over REST: lists over all projects, one ask, and the answer to it."""

from __future__ import annotations

import uuid
from typing import Any

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from sessions_app import selectors
from sessions_app.models import Ask, AskKind, AskReply, AskState
from sessions_app.services import asks
from studio.kernel.api_input import StrictSerializer, checked_body, checked_query
from studio.kernel.errors import NotFound
from workspaces.selectors import NO_PROJECT, project_by, role_in

ASK = OpenApiParameter("ask_id", uuid.UUID, OpenApiParameter.PATH, description="The ask's id.")


class AskDetailSerializer(serializers.Serializer[Any]):
    """What exactly would be done, as far as the permission says it. Text of an agent: show it as text."""

    command = serializers.CharField(required=False, help_text="The whole command.")
    patch = serializers.CharField(required=False, help_text="The change, as a unified diff.")
    paths = serializers.ListField(child=serializers.CharField(), required=False)
    exact = serializers.BooleanField(required=False, help_text="False: not all of it could be kept; see the session.")


class AskOptionSerializer(serializers.Serializer[Any]):
    """One of the answers that a question offers."""

    label = serializers.CharField()  # type: ignore[assignment]  # the field's name, not the attribute of the class
    description = serializers.CharField()


class AskQuestionSerializer(serializers.Serializer[Any]):
    """One question. Any text may be given as an answer."""

    question = serializers.CharField()
    header = serializers.CharField()
    options = AskOptionSerializer(many=True)
    multiple = serializers.BooleanField(help_text="Several of the options may be chosen.")


class AskSerializer(serializers.ModelSerializer[Ask]):
    """Something that an agent waits for. Only what is `pending` can be answered, once."""

    kind = serializers.ChoiceField(choices=AskKind.choices, read_only=True)
    state = serializers.ChoiceField(choices=AskState.choices, read_only=True)
    reply = serializers.ChoiceField(choices=AskReply.choices, allow_blank=True, read_only=True)
    project = serializers.UUIDField(source="session.project_id", read_only=True)
    task = serializers.CharField(source="session.subject", read_only=True, help_text="The task's id; may be empty.")
    turn = serializers.UUIDField(source="turn_id", allow_null=True, read_only=True)
    patterns = serializers.ListField(child=serializers.CharField(), read_only=True)
    always = serializers.ListField(
        child=serializers.CharField(), read_only=True, help_text="The patterns that “always” allows from then on."
    )
    detail = AskDetailSerializer(read_only=True)
    questions = AskQuestionSerializer(many=True, read_only=True)
    answers = serializers.ListField(child=serializers.ListField(child=serializers.CharField()), read_only=True)

    class Meta:
        model = Ask
        fields = [
            "id", "kind", "state", "project", "task", "session", "turn", "asker", "title", "permission", "patterns",
            "always", "detail", "questions", "reply", "message", "answers", "answered_name", "answered_at",
            "delivered_at", "reminded_at", "due_at", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


class AskQuery(serializers.Serializer[Any]):
    """How a list of asks is narrowed down."""

    state = serializers.ChoiceField(choices=AskState.choices, required=False)
    kind = serializers.ChoiceField(choices=AskKind.choices, required=False)
    project = serializers.CharField(required=False, max_length=80, help_text="A project's key or id.")
    session = serializers.UUIDField(required=False)
    task = serializers.UUIDField(required=False, help_text="A task's id.")


class AnswerBody(StrictSerializer[Any]):
    """`reply` to a permission (or a budget), or `answers` to questions: a list of texts for each, empty for none.

    A refusal may say why; the agent reads it and goes on. Without `answers` a question can be rejected too.
    """

    reply = serializers.ChoiceField(choices=AskReply.choices, required=False)
    message = serializers.CharField(required=False, allow_blank=True, default="")
    answers = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField(allow_blank=True), allow_empty=True),
        required=False,
        max_length=50,
    )


class AskList(GenericAPIView[Ask]):
    """What agents ask in all projects that the account may see."""

    serializer_class = AskSerializer
    extra_errors = (404,)  # the project

    @extend_schema(operation_id="asks_list", parameters=[AskQuery], responses=AskSerializer(many=True))
    def get(self, request: Request) -> Response:
        """List asks, the longest waiting first. `state=pending` is everything that waits for somebody."""
        query = checked_query(AskQuery, request)
        found = selectors.asks_visible_to(request.user)
        if "project" in query:
            project = project_by(query.pop("project"))
            if role_in(request.user, project) is None:
                raise NotFound(NO_PROJECT)
            found = found.filter(session__project=project)
        if "task" in query:
            found = found.filter(session__subject=str(query.pop("task")))
        page = self.paginate_queryset(found.filter(**query).order_by("created_at", "pk"))
        return self.get_paginated_response(AskSerializer(page, many=True).data)


class AskOne(APIView):
    """One ask."""

    @extend_schema(operation_id="asks_retrieve", parameters=[ASK], responses=AskSerializer)
    def get(self, request: Request, ask_id: uuid.UUID) -> Response:
        """Read what is asked, exactly, and what was answered."""
        return Response(AskSerializer(_visible(request, ask_id)).data)


class AskAnswer(APIView):
    """The answer to an ask."""

    @extend_schema(operation_id="asks_answer", parameters=[ASK], request=AnswerBody, responses=AskSerializer)
    def post(self, request: Request, ask_id: uuid.UUID) -> Response:
        """Answer. The first answer wins: a later one is told by 409 `already_answered` who answered what.

        “always” is kept as a rule of the project for the role that asked. Needs the role maintainer.
        """
        found = _visible(request, ask_id)
        asks.answer(ask_id=found.pk, actor=request.user, **checked_body(AnswerBody, request))
        return Response(AskSerializer(_visible(request, ask_id)).data)


def _visible(request: Request, ask_id: uuid.UUID) -> Ask:
    found = selectors.asks_visible_to(request.user).filter(pk=ask_id).first()
    if found is None:
        raise NotFound("Nobody asks this.")
    return found


urlpatterns: list[URLPattern] = [
    path("asks", AskList.as_view(), name="api-asks"),
    path("asks/<uuid:ask_id>", AskOne.as_view(), name="api-ask"),
    path("asks/<uuid:ask_id>/answer", AskAnswer.as_view(), name="api-ask-answer"),
]
