"""Checkouts and kept work as the API shows them, with what they take."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from studio.kernel.api_input import StrictSerializer
from workspaces import storage
from workspaces.models import KeptWork, MergedHow, Workspace, WorkspaceState


class StoredWorkspaceSerializer(serializers.ModelSerializer[Workspace]):
    """A checkout with what it takes and when it goes."""

    merged_how = serializers.ChoiceField(choices=MergedHow.choices, allow_blank=True, read_only=True)
    goes_at = serializers.SerializerMethodField(help_text="When it is removed by itself; null: not by itself.")

    class Meta:
        model = Workspace
        fields = [
            "id", "label", "path", "branch", "base_branch", "state", "error", "trouble", "started_from", "size_bytes",
            "size_partial", "ahead", "uncommitted", "merged_how", "merged_as", "keep", "finished_at", "goes_at", "looked_at",
            "created_at",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_goes_at(self, row: Workspace) -> datetime | None:
        """The project comes with the row."""
        return storage.goes_at(row)


class KeptWorkSerializer(serializers.ModelSerializer[KeptWork]):
    """What a removed checkout held and nobody had merged. Files of zero bytes are not there."""

    restored_in = serializers.SerializerMethodField(
        help_text="The workspaces that were made from it and are still there."
    )
    kept_until = serializers.SerializerMethodField(help_text="When it is deleted by itself; null: not by itself.")

    class Meta:
        model = KeptWork
        fields = [
            "id", "label", "branch", "base_branch", "base_commit", "head_commit", "patch_bytes", "bundle_bytes", "folder",
            "keep", "kept_until", "restored_in", "created_at",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ListField(child=serializers.UUIDField()))
    def get_restored_in(self, row: KeptWork) -> list[str]:
        """They come with a list; for one row they are asked for."""
        return [str(one.pk) for one in row.restored_in.all() if one.state != WorkspaceState.REMOVED]

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


class RemoveSerializer(StrictSerializer[Any]):
    """What a person has seen of what goes."""

    confirm = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=64,
        help_text="The `confirm` of the answer to GET: remove it with what stood there, although that is not kept.",
    )


class LostSerializer(serializers.Serializer[Any]):
    """A file that is ignored, or a folder of such files."""

    name = serializers.CharField(help_text="Relative to the checkout; a folder ends with a slash.")
    files = serializers.IntegerField()
    bytes = serializers.IntegerField()


class LeavingSerializer(serializers.Serializer[Any]):
    """What a removal of the checkout takes away, and what of it is kept. Lists have at most 20 names."""

    branch = serializers.CharField(allow_blank=True, help_text="The branch that is deleted; empty when there is none.")
    not_merged = serializers.IntegerField(source="standing.beyond", help_text="Commits that are merged nowhere.")
    merged_how = serializers.ChoiceField(choices=MergedHow.choices, source="standing.how", allow_null=True)
    merged_as = serializers.CharField(source="standing.commit", allow_blank=True)
    uncommitted = serializers.IntegerField(help_text="Files in no commit; a last commit is made of them.")
    uncommitted_names = serializers.ListField(child=serializers.CharField())
    kept = serializers.BooleanField(
        source="is_kept",
        help_text="A patch and a bundle of what is not merged are kept and offered on the storage page.",
    )
    nested = serializers.ListField(
        child=serializers.CharField(),
        help_text="Repositories inside the checkout, and submodules with work of their own, their files gone or not: moved "
        "to the kept work.",
    )
    lost_files = serializers.IntegerField(help_text="Ignored files: they are in no commit and are not kept.")
    lost_bytes = serializers.IntegerField()
    lost_partial = serializers.BooleanField(help_text="There may be more than was counted in time.")
    lost = LostSerializer(many=True)
    lost_more = serializers.IntegerField(help_text="Names that are not listed.")
    unknown = serializers.CharField(allow_blank=True, help_text="Why it could not be looked at; else empty.")
    needs_confirmation = serializers.BooleanField(help_text="POST refuses without `confirm`.")
    confirm = serializers.CharField(
        source="fingerprint",
        help_text="Says all of the above, names that are not listed too. POST it to confirm exactly this.",
    )


class WorktreeSerializer(serializers.Serializer[Any]):
    """A worktree (jj: a workspace) that a person made, or the repository's own."""

    path = serializers.CharField()
    branch = serializers.CharField(allow_blank=True, help_text="Empty when it is on none.")


class StartsSerializer(serializers.Serializer[Any]):
    """What a task may begin at."""

    branches = serializers.ListField(child=serializers.CharField())
    worktrees = WorktreeSerializer(many=True)


class RelocateSerializer(StrictSerializer[Any]):
    """The new place of a repository that was moved."""

    path = serializers.CharField(
        allow_blank=True, trim_whitespace=False, help_text="The absolute path of the root of its work tree."
    )


class RepairedSerializer(serializers.Serializer[Any]):
    """What was mended."""

    done = serializers.ListField(child=serializers.CharField(), help_text="In words.")
