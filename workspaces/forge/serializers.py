"""Connections and pull requests as the API shows them and takes them in. No serializer reads the database."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from studio.kernel.api_input import StrictSerializer
from workspaces.models import ChecksState, ForgeConnection, ForgeKind, PullRequest, ReviewComment


class ConnectionSerializer(serializers.ModelSerializer[ForgeConnection]):
    """A project's connection to its forge. The token is never shown."""

    has_token = serializers.SerializerMethodField(help_text="Whether a token is stored.")
    reviewers = serializers.ListField(child=serializers.CharField(), read_only=True)
    labels = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = ForgeConnection
        fields = [
            "kind", "base_url", "repository", "remote", "base_branch", "draft", "reviewers", "labels", "has_token",
            "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_has_token(self, row: ForgeConnection) -> bool:
        """Never the token itself."""
        return bool(row.sealed_token)


class ConnectionEditSerializer(StrictSerializer[Any]):
    """What of a connection can be set. What is not given stays; of a new one it is taken from the repository's remotes."""

    kind = serializers.ChoiceField(choices=ForgeKind.choices, required=False)
    base_url = serializers.CharField(
        required=False,
        allow_blank=True,
        help_text="Of the forge or its REST interface: https, or http on this machine.",
    )
    repository = serializers.CharField(required=False, allow_blank=True, help_text="OWNER/NAME.")
    token = serializers.CharField(
        required=False, allow_blank=True, write_only=True, help_text="Kept encrypted and never shown; empty forgets it."
    )
    remote = serializers.CharField(required=False, allow_blank=True, help_text="The git remote that is pushed to.")
    base_branch = serializers.CharField(
        required=False, allow_blank=True, help_text="Where pull requests go; empty: the branch a task came from."
    )
    draft = serializers.BooleanField(required=False, help_text="Open pull requests as drafts.")
    reviewers = serializers.ListField(child=serializers.CharField(), required=False, help_text="Account names.")
    labels = serializers.ListField(child=serializers.CharField(), required=False)


class AccessSerializer(serializers.Serializer[Any]):
    """What a check of the connection found; it works when there are no problems."""

    repository = serializers.CharField(help_text="As the forge calls it; empty when it was not found.")
    default_branch = serializers.CharField()
    problems = serializers.ListField(child=serializers.CharField(), help_text="What is missing, in sentences.")


class ReviewCommentSerializer(serializers.ModelSerializer[ReviewComment]):
    """What somebody wrote about the change on the forge. Hostile text."""

    class Meta:
        model = ReviewComment
        fields = ["id", "upstream_id", "author", "path", "line", "body", "url", "finding", "created_at"]
        read_only_fields = fields


class CheckSerializer(serializers.Serializer[Any]):
    """A check of the newest commit."""

    id = serializers.CharField(help_text="With which its log is sent to an agent.")
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=["pending", "passed", "failed", "neutral"])
    url = serializers.CharField(allow_blank=True)
    summary = serializers.CharField(allow_blank=True)


class PullRequestSerializer(serializers.ModelSerializer[PullRequest]):
    """A pull request as it was when it was read last."""

    checks = CheckSerializer(many=True, read_only=True)
    checks_state = serializers.ChoiceField(choices=ChecksState.choices, allow_blank=True, read_only=True)
    comments = ReviewCommentSerializer(many=True, read_only=True)

    class Meta:
        model = PullRequest
        fields = [
            "id", "state", "repository", "number", "url", "title", "draft", "head_branch", "base_branch", "head_commit",
            "merge_commit", "checks_state", "checks", "comments", "note", "error_code", "error", "created_at",
            "synced_at", "next_sync_at", "settled_at",
        ]  # fmt: skip
        read_only_fields = fields
