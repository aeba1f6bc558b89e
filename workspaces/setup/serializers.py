"""Setups and dev servers as the API shows them and takes them in. No serializer reads the database."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from studio.kernel.api_input import StrictSerializer
from workspaces.models import DevServer
from workspaces.setup.effective import DATABASE, DEFAULT, FILE
from workspaces.setup.selectors import DONE, FAILED, NONE, PENDING, RUNNING


class SetupValuesSerializer(serializers.Serializer[Any]):
    """What a checkout is set up with."""

    copy = serializers.ListField(child=serializers.CharField(), help_text="Patterns of files that are copied into it.")
    link = serializers.ListField(child=serializers.CharField(), help_text="Folders that it has as symbolic links.")
    environment = serializers.DictField(
        child=serializers.CharField(allow_blank=True),
        help_text="Variables of scripts, commands and the dev server; {port} and the like are filled in.",
    )
    script = serializers.CharField(allow_blank=True, help_text="Run once by bash in a new checkout.")
    script_seconds = serializers.IntegerField()
    cleanup = serializers.CharField(allow_blank=True, help_text="Run by bash before a checkout is removed.")
    cleanup_seconds = serializers.IntegerField()
    server = serializers.CharField(allow_blank=True, help_text="The command of the dev server.")
    health_path = serializers.CharField(help_text="What is asked of it to see whether it works.")
    ready_seconds = serializers.IntegerField(help_text="How long it may take to begin.")
    at_review = serializers.BooleanField(help_text="It is started when a task reaches review.")


class SetupEditSerializer(StrictSerializer[Any]):
    """What of a project's setup is to change. What is not given stays."""

    copy = serializers.ListField(child=serializers.CharField(allow_blank=True), required=False)
    link = serializers.ListField(child=serializers.CharField(allow_blank=True), required=False)
    environment = serializers.DictField(
        child=serializers.CharField(allow_blank=True, trim_whitespace=False), required=False
    )
    script = serializers.CharField(allow_blank=True, required=False)
    script_seconds = serializers.IntegerField(required=False)
    cleanup = serializers.CharField(allow_blank=True, required=False)
    cleanup_seconds = serializers.IntegerField(required=False)
    server = serializers.CharField(allow_blank=True, required=False)
    health_path = serializers.CharField(required=False)
    ready_seconds = serializers.IntegerField(required=False)
    at_review = serializers.BooleanField(required=False)


class ProjectSetupSerializer(serializers.Serializer[Any]):
    """A project's setup: what people set, what holds for new checkouts, and where each value comes from."""

    stored = SetupValuesSerializer(help_text="What people set.")
    effective = SetupValuesSerializer(help_text="What holds for a checkout that begins now.")
    sources = serializers.DictField(child=serializers.ChoiceField(choices=[DEFAULT, DATABASE, FILE]))
    trusted = serializers.BooleanField(help_text="The repository's own file counts only in a trusted project.")
    file_found = serializers.BooleanField(help_text="The default branch has .opencode-studio/config.toml.")
    file_error = serializers.CharField(allow_blank=True, help_text="Why it cannot be used, with line and key.")
    commit = serializers.CharField(allow_blank=True)


class WorkspaceSetupSerializer(serializers.Serializer[Any]):
    """How far a checkout's setup is."""

    state = serializers.ChoiceField(choices=[NONE, PENDING, RUNNING, DONE, FAILED])
    sentence = serializers.CharField(allow_blank=True, help_text="Why it failed.")
    log = serializers.CharField(allow_blank=True, help_text="The last lines of the script, when it failed.")
    command = serializers.UUIDField(allow_null=True, help_text="The script's command: its output is there.")
    port = serializers.IntegerField(allow_null=True)
    placed = serializers.ListField(
        child=serializers.CharField(), help_text="What the studio put there: never committed."
    )
    notes = serializers.ListField(child=serializers.CharField(), help_text="What was left out, and why.")
    cleanup = serializers.UUIDField(allow_null=True, help_text="The clean-up script's command.")
    cleanup_note = serializers.CharField(allow_blank=True)


class DevServerSerializer(serializers.ModelSerializer[DevServer]):
    """The dev server of a checkout."""

    class Meta:
        model = DevServer
        fields = [
            "state", "port", "address", "health_path", "note", "command", "asked_by", "by_review", "since", "checked_at",
        ]  # fmt: skip
        read_only_fields = fields
