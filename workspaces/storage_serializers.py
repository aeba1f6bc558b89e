"""Checkouts and kept work as the API shows them, with what they take."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from studio.kernel.api_input import StrictSerializer
from workspaces import storage
from workspaces.models import KeptWork, Workspace


class StoredWorkspaceSerializer(serializers.ModelSerializer[Workspace]):
    """A checkout with what it takes and when it goes."""

    goes_at = serializers.SerializerMethodField(help_text="When it is removed by itself; null: not by itself.")

    class Meta:
        model = Workspace
        fields = [
            "id", "label", "path", "branch", "base_branch", "state", "error", "trouble", "started_from", "size_bytes",
            "size_partial", "ahead", "uncommitted", "keep", "finished_at", "goes_at", "looked_at", "created_at",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_goes_at(self, row: Workspace) -> datetime | None:
        """The project comes with the row."""
        return storage.goes_at(row)


class KeptWorkSerializer(serializers.ModelSerializer[KeptWork]):
    """What a removed checkout held and nobody had merged. Files of zero bytes are not there."""

    kept_until = serializers.SerializerMethodField(help_text="When it is deleted by itself; null: not by itself.")

    class Meta:
        model = KeptWork
        fields = [
            "id", "label", "branch", "base_branch", "base_commit", "head_commit", "patch_bytes", "bundle_bytes", "folder",
            "keep", "kept_until", "created_at",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_kept_until(self, row: KeptWork) -> datetime | None:
        """Counted from when somebody was first shown it."""
        return storage.kept_until(row)


class StorageSerializer(serializers.Serializer[Any]):
    """What a project's checkouts and kept work take, as last measured. Each list has at most 200 rows; `more` counts the rest."""

    bytes = serializers.IntegerField(source="stored.bytes")
    checkout_bytes = serializers.IntegerField(source="stored.checkout_bytes")
    kept_bytes = serializers.IntegerField(source="stored.kept_bytes")
    quota_bytes = serializers.IntegerField(source="stored.quota_bytes", allow_null=True)
    over_quota = serializers.BooleanField(source="stored.over")
    disk_free_bytes = serializers.IntegerField(source="disk.free_bytes")
    disk_low = serializers.BooleanField(source="disk.low", help_text="The disk of the data folder is nearly full.")
    repository_trouble = serializers.CharField(
        source="away", allow_blank=True, help_text="Why the repository cannot be used now; else empty."
    )
    workspaces = StoredWorkspaceSerializer(many=True)
    kept = KeptWorkSerializer(many=True)
    more = serializers.IntegerField()


class KeepSerializer(StrictSerializer[Any]):
    """Whether a person keeps it."""

    keep = serializers.BooleanField(help_text="True: it stays until this is false again.")


class RelocateSerializer(StrictSerializer[Any]):
    """The new place of a repository that was moved."""

    path = serializers.CharField(
        allow_blank=True, trim_whitespace=False, help_text="The absolute path of the root of its work tree."
    )


class RepairedSerializer(serializers.Serializer[Any]):
    """What was mended."""

    done = serializers.ListField(child=serializers.CharField(), help_text="In words.")
