"""Projects, workspaces and changes as the API shows them and takes them in. No serializer reads the database."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from studio.kernel.api_input import LARGEST, StrictSerializer
from studio.kernel.permissions import Role
from workspaces.diff import Hunk
from workspaces.models import Project, Workspace
from workspaces.models.project import MOST_DAYS, MOST_MEGABYTES
from workspaces.vcs.base import CheckoutStatus, readable

NAMES_LIMIT = 1_000  # files of each kind that a status names


class ProjectSerializer(serializers.ModelSerializer[Project]):
    """A registered repository."""

    role = serializers.ChoiceField(
        choices=Role.choices, read_only=True, help_text="What the account is in the project: what it may do there."
    )

    class Meta:
        model = Project
        fields = [
            "id", "name", "key", "path", "vcs", "default_branch", "is_sample", "trusted", "plan_approval",
            "auto_complete", "max_review_rounds", "max_parallel_runs", "retention_days", "quota_mb", "role", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


class RegisteredProjectSerializer(ProjectSerializer):
    """A repository that has just been registered."""

    note = serializers.CharField(
        read_only=True, allow_blank=True, help_text="What to know about its checkout, such as uncommitted files."
    )

    class Meta(ProjectSerializer.Meta):
        fields = [*ProjectSerializer.Meta.fields, "note"]
        read_only_fields = fields


class ProjectCreateSerializer(StrictSerializer[Any]):
    """A repository to register."""

    path = serializers.CharField(
        allow_blank=True, trim_whitespace=False, help_text="The absolute path of the root of its work tree."
    )
    name = serializers.CharField(
        required=False, allow_blank=True, help_text="At most 120 characters; the folder's name when not given."
    )
    key = serializers.CharField(
        required=False,
        allow_blank=True,
        help_text="Two to ten capital letters and digits, with which the ids of tasks begin; made of the name when not given.",
    )


class ProjectEditSerializer(StrictSerializer[Any]):
    """What of a project can be changed."""

    refused = {
        "path": "A project stays where it is: register the other folder as a new project.",
        "key": "The key stays, because the ids of tasks begin with it.",
    }

    name = serializers.CharField(required=False, allow_blank=True, help_text="1 to 120 characters.")
    default_branch = serializers.CharField(
        required=False, allow_blank=True, help_text="The branch that tasks start from and are merged into."
    )
    plan_approval = serializers.BooleanField(required=False, help_text="A person approves each plan.")
    auto_complete = serializers.BooleanField(required=False, help_text="Merge without a human review.")
    max_review_rounds = serializers.IntegerField(required=False, min_value=0, max_value=20)
    max_parallel_runs = serializers.IntegerField(required=False, min_value=1, max_value=64)
    trusted = serializers.BooleanField(required=False)
    retention_days = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=MOST_DAYS,
        help_text="Days that the checkout of a finished task stays: 0 removes it at once, null never.",
    )
    quota_mb = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MOST_MEGABYTES,
        help_text="Megabytes of checkouts and kept work above which the project's people are warned; null: never.",
    )


class WorkspaceSerializer(serializers.ModelSerializer[Workspace]):
    """A checkout of its own for one attempt at a task."""

    project_key = serializers.CharField(source="project.key", read_only=True)

    class Meta:
        model = Workspace
        fields = [
            "id", "project", "project_key", "label", "path", "branch", "base_branch", "base_commit", "head_commit", "state",
            "error", "trouble", "started_from", "kept_patch", "keep", "finished_at", "created_at", "removed_at",
        ]  # fmt: skip
        read_only_fields = fields


class LineSerializer(serializers.Serializer[Any]):
    """One line of a hunk."""

    kind = serializers.ChoiceField(choices=["context", "added", "removed", "note"])
    old_no = serializers.IntegerField(allow_null=True)
    new_no = serializers.IntegerField(allow_null=True)
    text = serializers.CharField(allow_blank=True)


class HunkSerializer(serializers.Serializer[Hunk]):
    """Lines that stand together."""

    old_start = serializers.IntegerField()
    old_lines = serializers.IntegerField()
    new_start = serializers.IntegerField()
    new_lines = serializers.IntegerField()
    section = serializers.CharField(allow_blank=True, help_text="The function or heading around them.")
    lines = LineSerializer(many=True)

    def to_representation(self, instance: Hunk) -> dict[str, Any]:
        """The same as field by field, which takes a second for twenty thousand lines."""
        return {
            "old_start": instance.old_start,
            "old_lines": instance.old_lines,
            "new_start": instance.new_start,
            "new_lines": instance.new_lines,
            "section": instance.section,
            "lines": [
                {"kind": line.kind, "old_no": line.old_no, "new_no": line.new_no, "text": line.text}
                for line in instance.lines
            ],
        }


class FileDiffSerializer(serializers.Serializer[Any]):
    r"""One changed file. Absent sides have the path "" and the mode "".

    Paths are for reading: bytes that are no text become U+FFFD, and characters that nobody sees are escaped (`\u202e`, `\n`).
    """

    id = serializers.CharField(help_text="Names the file in `?file=`, whatever bytes its path has.")
    old_path = serializers.CharField(allow_blank=True)
    new_path = serializers.CharField(allow_blank=True)
    status = serializers.ChoiceField(
        choices=["added", "deleted", "modified", "renamed", "copied", "type_changed"], help_text="What became of it."
    )
    old_mode = serializers.CharField(allow_blank=True)
    new_mode = serializers.CharField(allow_blank=True)
    additions = serializers.IntegerField()
    deletions = serializers.IntegerField()
    binary = serializers.BooleanField(help_text="Not compared by line: binary, or larger than two megabytes.")
    collapsed = serializers.BooleanField(help_text="Its lines are left out: ask for it with `?file=`.")
    too_large = serializers.BooleanField(help_text="The last of its lines are left out.")
    hunks = HunkSerializer(many=True)


class DiffSerializer(serializers.Serializer[Any]):
    """A change. Counts are of the whole of it; `files` begins at `offset` and is bounded."""

    base = serializers.CharField(allow_blank=True, help_text="The commit that it is held against.")
    head = serializers.CharField(
        allow_blank=True, help_text="Empty: the checkout as it is now, uncommitted files included."
    )
    total_files = serializers.IntegerField()
    additions = serializers.IntegerField()
    deletions = serializers.IntegerField()
    offset = serializers.IntegerField()
    truncated = serializers.BooleanField(help_text="There are more files: ask again with a larger offset.")
    notes = serializers.ListField(child=serializers.CharField(), help_text="What else people should know.")
    files = FileDiffSerializer(many=True)


class DiffQuery(serializers.Serializer[Any]):
    """Which part of a change."""

    file = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=5_000,
        help_text="Only this file, by its id or path, with all its lines.",
    )
    offset = serializers.IntegerField(
        required=False, min_value=0, max_value=LARGEST, default=0, help_text="How many files to pass over."
    )


class WorkspaceStatusSerializer(serializers.Serializer[CheckoutStatus]):
    """Where a checkout stands against its target branch."""

    head = serializers.CharField()
    branch = serializers.CharField(allow_blank=True, help_text="Empty when the checkout is on none.")
    ahead = serializers.IntegerField(help_text="Commits that the target does not have.")
    behind = serializers.IntegerField(help_text="Commits of the target that it does not have.")
    staged = serializers.ListField(child=serializers.CharField())
    unstaged = serializers.ListField(child=serializers.CharField())
    untracked = serializers.ListField(child=serializers.CharField())
    conflicted = serializers.ListField(child=serializers.CharField())
    operation = serializers.CharField(
        allow_blank=True, help_text="A merge, rebase, … that was begun and not ended; else empty."
    )

    def to_representation(self, instance: CheckoutStatus) -> dict[str, Any]:
        """File names cleaned, so that every reader accepts them; of each kind at most a thousand."""
        shown = super().to_representation(instance)
        for kind in ("staged", "unstaged", "untracked", "conflicted"):
            shown[kind] = [readable(path) for path in shown[kind][:NAMES_LIMIT]]
        return {**shown, "branch": readable(shown["branch"])}
