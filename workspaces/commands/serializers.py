"""Commands as the API shows them and takes them in. No serializer reads the database."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from studio.kernel.api_input import LARGEST, StrictSerializer
from workspaces.commands.services import DEFAULT_SECONDS, LONGEST_SECONDS
from workspaces.models import Command, CommandState

LARGEST_READ = 1024 * 1024  # bytes of output in one answer


class CommandSerializer(serializers.ModelSerializer[Command]):
    """A shell command in the background of a workspace."""

    command = serializers.CharField(source="text", read_only=True)
    project_key = serializers.CharField(source="workspace.project.key", read_only=True)
    started_by = serializers.CharField(source="started_by_name", read_only=True)

    class Meta:
        model = Command
        fields = [
            "id", "workspace", "project_key", "kind", "command", "title", "state", "exit_code", "note", "requested_by",
            "started_by", "time_limit", "cancel_requested_at", "output_bytes", "output_cut", "output_gone", "created_at", "started_at",
            "ended_at",
        ]  # fmt: skip
        read_only_fields = fields


class CommandStartSerializer(StrictSerializer[Any]):
    """A command to run."""

    command = serializers.CharField(
        allow_blank=True, trim_whitespace=False, help_text="What bash runs in the workspace's folder."
    )
    title = serializers.CharField(required=False, allow_blank=True, help_text="What it is called in lists.")
    time_limit = serializers.IntegerField(
        required=False,
        help_text=f"Seconds after which it is ended: 1 to {LONGEST_SECONDS}, {DEFAULT_SECONDS} when not given.",
    )


class OutputQuery(serializers.Serializer[Any]):
    """Which part of an output."""

    after = serializers.IntegerField(
        min_value=0, max_value=LARGEST, default=0, help_text="Only what follows this byte; `next` of the last answer."
    )
    limit = serializers.IntegerField(
        min_value=1, max_value=LARGEST_READ, default=65_536, help_text="At most this many bytes."
    )


class OutputSerializer(serializers.Serializer[Any]):
    """A piece of a command's output. Offsets count the bytes that the command wrote."""

    start = serializers.IntegerField(help_text="Where the text begins.")
    next = serializers.IntegerField(help_text="Where the next reading goes on.")
    total = serializers.IntegerField(help_text="How much was written until now.")
    skipped = serializers.IntegerField(
        help_text="Bytes before the text that are not kept: the middle of a long output."
    )
    text = serializers.CharField(
        allow_blank=True,
        help_text="Without terminal codes; a lone carriage return says that the line is written anew.",
    )
    state = serializers.ChoiceField(choices=CommandState.choices)
    more = serializers.BooleanField(help_text="There is more to read now.")
