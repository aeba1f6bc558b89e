"""Trees, files and what was found, as the API shows them. No serializer reads the database."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from workspaces.files.content import Shown
from workspaces.files.paths import quoted
from workspaces.files.search import Found
from workspaces.files.tree import SHOWN, Listing
from workspaces.vcs.base import readable
from workspaces.vcs.reading import Entry

ENTRY_KINDS = ("folder", "file", "link", "submodule", "special")
FILE_KINDS = ("text", "image", "binary", "large", "withheld", *ENTRY_KINDS)
PATH_HELP = "Relative to the root of the checkout. Bytes that are no UTF-8 are percent-encoded: `ref` of an entry is ready for use."
LARGEST_OFFSET = 10_000_000


class TreeQuery(serializers.Serializer[Any]):
    """Which part of the tree."""

    path = serializers.CharField(
        required=False, allow_blank=True, default="", trim_whitespace=False, help_text=f"A folder. {PATH_HELP}"
    )
    offset = serializers.IntegerField(
        required=False, min_value=0, max_value=LARGEST_OFFSET, default=0, help_text="How many names to pass over."
    )
    limit = serializers.IntegerField(required=False, min_value=1, max_value=1_000, default=SHOWN)
    changed = serializers.BooleanField(
        required=False, default=False, help_text="Only the files of the change, of all folders, with their status."
    )


class FileQuery(serializers.Serializer[Any]):
    """Which file."""

    path = serializers.CharField(trim_whitespace=False, help_text=PATH_HELP)


class SearchQuery(serializers.Serializer[Any]):
    """What to look for."""

    q = serializers.CharField(trim_whitespace=False, help_text="The words; capital letters count when there are some.")
    where = serializers.ChoiceField(
        choices=["names", "lines"], default="names", help_text="In the names of files, or in their lines."
    )
    regex = serializers.BooleanField(
        default=False, help_text="It is a regular expression. Only for lines; otherwise it is taken as it stands."
    )


class EntrySerializer(serializers.Serializer[Entry]):
    """One name in the tree."""

    path = serializers.CharField(help_text="For people: bytes that are no UTF-8 are replaced.")
    ref = serializers.CharField(help_text="The path percent-encoded, as `path` of a query takes it.")
    kind = serializers.ChoiceField(choices=ENTRY_KINDS)
    size = serializers.IntegerField(allow_null=True, help_text="Bytes of a file.")
    executable = serializers.BooleanField()
    target = serializers.CharField(allow_blank=True, help_text="Where a link leads. It is never followed.")
    status = serializers.CharField(allow_blank=True, help_text="What became of it, in a tree of the change.")

    def to_representation(self, instance: Entry) -> dict[str, Any]:
        """Names made readable, and once more as they are."""
        return {
            "path": readable(instance.path),
            "ref": quoted(instance.path),
            "kind": instance.kind,
            "size": instance.size,
            "executable": instance.executable,
            "target": readable(instance.target),
            "status": instance.status,
        }


class TreeSerializer(serializers.Serializer[Listing]):
    """A stretch of a folder, folders first."""

    total = serializers.IntegerField(help_text="How many names there are.")
    cut = serializers.BooleanField(help_text="The folder has even more, which are not listed at all.")
    next_offset = serializers.IntegerField(
        allow_null=True, help_text="Where the next stretch begins; null: this is the last."
    )
    entries = EntrySerializer(many=True)


class FileSerializer(serializers.Serializer[Any]):
    """One file."""

    entry = EntrySerializer()
    kind = serializers.ChoiceField(
        choices=FILE_KINDS,
        help_text="Only a text has a text; `large` is one of more than two megabytes, `withheld` one that only owners may read.",
    )
    text = serializers.CharField(
        allow_blank=True, help_text="Each line ended by a line feed; control codes are pictures of them."
    )
    cut = serializers.BooleanField(help_text="Some of the text is left out.")
    notes = serializers.ListField(child=serializers.CharField(), help_text="What else people should know.")


def file_shown(shown: Shown, text: str) -> dict[str, Any]:
    """What `FileSerializer` documents."""
    entry = EntrySerializer(shown.entry).data
    return {"entry": entry, "kind": shown.kind, "text": text, "cut": shown.cut, "notes": shown.notes}


class FoundLineSerializer(serializers.Serializer[Any]):
    """A line that was found."""

    number = serializers.IntegerField()
    text = serializers.CharField(allow_blank=True)


class FoundFileSerializer(serializers.Serializer[Any]):
    """A file that was found."""

    path = serializers.CharField()
    ref = serializers.CharField(help_text="The path percent-encoded, as `path` of a query takes it.")
    lines = FoundLineSerializer(many=True)


class SearchSerializer(serializers.Serializer[Any]):
    """What was found."""

    files = FoundFileSerializer(many=True)
    stopped = serializers.CharField(allow_blank=True, help_text="Why there may be more; empty when this is all.")


def found_shown(found: Found) -> dict[str, Any]:
    """What `SearchSerializer` documents."""
    files = [
        {
            "path": readable(file.path),
            "ref": quoted(file.path),
            "lines": [{"number": line.number, "text": line.text} for line in file.lines],
        }
        for file in found.files
    ]
    return {"files": files, "stopped": found.stopped}
