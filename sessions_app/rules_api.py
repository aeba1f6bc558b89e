"""A project's permission rules, and how long its asks wait, over REST."""

from __future__ import annotations

from typing import Any

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from agents.models import AgentProfile
from sessions_app.models import AskPolicy, AskTimeout, PermissionRule, RuleAction
from sessions_app.services import ask_timeouts, rules
from sessions_app.services.rules import NewRule
from studio.kernel.api_input import StrictSerializer, checked_body
from studio.kernel.errors import Invalid, NotFound
from workspaces.models import Project
from workspaces.selectors import NO_PROJECT, project_by, role_in

REF = OpenApiParameter("ref", str, OpenApiParameter.PATH, description="The project's key (DEMO) or id.")
RULE = OpenApiParameter("rule_id", int, OpenApiParameter.PATH, description="The rule's id.")


class RuleSerializer(serializers.ModelSerializer[PermissionRule]):
    """What agents may do. Of the rules that match, the last one in the list wins, over the role's own."""

    action = serializers.ChoiceField(choices=RuleAction.choices, read_only=True)
    profile = serializers.UUIDField(source="profile_id", allow_null=True, read_only=True)
    from_ask = serializers.UUIDField(
        source="from_ask_id", allow_null=True, read_only=True, help_text="The ask that was answered with “always”."
    )

    class Meta:
        model = PermissionRule
        fields = ["id", "permission", "pattern", "action", "profile", "position", "from_ask", "created_at"]
        read_only_fields = fields


class RuleListSerializer(serializers.Serializer[Any]):
    """A project's rules in their order."""

    results = RuleSerializer(many=True)


class RuleBody(StrictSerializer[Any]):
    """A rule. `*` stands for any characters, `?` for one; a pattern that ends with ` *` fits without that too."""

    permission = serializers.CharField(
        max_length=rules.PERMISSION_LIMIT, help_text="bash, edit, webfetch, external_directory, …, or * for all."
    )
    pattern = serializers.CharField(
        max_length=rules.PATTERN_LIMIT, default="*", help_text="Held against the whole text."
    )
    action = serializers.ChoiceField(choices=RuleAction.choices)
    profile = serializers.UUIDField(
        required=False, allow_null=True, default=None, help_text="An agent profile; without one the rule is for all."
    )


class RulesBody(StrictSerializer[Any]):
    """All rules of a project, in their order."""

    rules = RuleBody(many=True)


class AskPolicySerializer(serializers.ModelSerializer[AskPolicy]):
    """How long a project's asks wait, and what happens then."""

    action = serializers.ChoiceField(choices=AskTimeout.choices, read_only=True)

    class Meta:
        model = AskPolicy
        fields = ["timeout_minutes", "action"]
        read_only_fields = fields


class AskPolicyBody(StrictSerializer[Any]):
    """remind: say so and wait on. reject: refuse, and the agent goes on without. stop: end the agent's turn."""

    timeout_minutes = serializers.IntegerField(min_value=1, max_value=ask_timeouts.LONGEST_MINUTES)
    action = serializers.ChoiceField(choices=AskTimeout.choices)


class RuleList(APIView):
    """The rules of a project."""

    @extend_schema(operation_id="projects_rules", parameters=[REF], responses=RuleListSerializer)
    def get(self, request: Request, ref: str) -> Response:
        """List a project's own permission rules in their order; the last match wins."""
        return _listed(_visible(request, ref))

    @extend_schema(
        operation_id="projects_rules_add", parameters=[REF], request=RuleBody, responses={201: RuleSerializer}
    )
    def post(self, request: Request, ref: str) -> Response:
        """Add a rule after all others. Needs the role owner. 409 `rule_exists` when there is one for the same."""
        project = _visible(request, ref)
        row = rules.add_rule(actor=request.user, project=project, new=_new(checked_body(RuleBody, request)))
        return Response(RuleSerializer(row).data, status=201)

    @extend_schema(
        operation_id="projects_rules_replace", parameters=[REF], request=RulesBody, responses=RuleListSerializer
    )
    def put(self, request: Request, ref: str) -> Response:
        """Let these be the project's rules, in this order. Needs the role owner."""
        project = _visible(request, ref)
        given = [_new(one) for one in checked_body(RulesBody, request)["rules"]]
        rules.replace_rules(actor=request.user, project=project, rules=given)
        return _listed(project)


class RuleOne(APIView):
    """One rule."""

    @extend_schema(operation_id="projects_rules_remove", parameters=[REF, RULE], responses={204: None})
    def delete(self, request: Request, ref: str, rule_id: int) -> Response:
        """Take a rule away. Needs the role owner."""
        rules.remove_rule(actor=request.user, project=_visible(request, ref), rule_id=rule_id)
        return Response(status=204)


class AskPolicyOne(APIView):
    """The time-out policy of a project's asks."""

    @extend_schema(operation_id="projects_ask_policy", parameters=[REF], responses=AskPolicySerializer)
    def get(self, request: Request, ref: str) -> Response:
        """Read how long a project's asks wait, and what happens then."""
        return Response(AskPolicySerializer(ask_timeouts.policy_of(_visible(request, ref))).data)

    @extend_schema(
        operation_id="projects_ask_policy_set", parameters=[REF], request=AskPolicyBody, responses=AskPolicySerializer
    )
    def put(self, request: Request, ref: str) -> Response:
        """Say how long asks wait; what waits already is held to it too. Needs the role owner."""
        project, fields = _visible(request, ref), checked_body(AskPolicyBody, request)
        return Response(
            AskPolicySerializer(ask_timeouts.set_policy(actor=request.user, project=project, **fields)).data
        )


def _visible(request: Request, ref: str) -> Project:
    project = project_by(ref)
    if role_in(request.user, project) is None:
        raise NotFound(NO_PROJECT)
    return project


def _listed(project: Project) -> Response:
    return Response({"results": RuleSerializer(rules.rules_of(project), many=True).data})


def _new(given: dict[str, Any]) -> NewRule:
    profile = None
    if given["profile"] is not None:
        profile = AgentProfile.objects.filter(pk=given["profile"]).first()
        if profile is None:
            raise Invalid("There is no such agent profile.", detail={"field": "profile"})
    return NewRule(given["permission"], given["pattern"], given["action"], profile)


urlpatterns: list[URLPattern] = [
    path("projects/<str:ref>/rules", RuleList.as_view(), name="api-project-rules"),
    path("projects/<str:ref>/rules/<int:rule_id>", RuleOne.as_view(), name="api-project-rule"),
    path("projects/<str:ref>/ask-policy", AskPolicyOne.as_view(), name="api-project-ask-policy"),
]
