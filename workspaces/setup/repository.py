"""The setup that a repository brings along: `.opencode-studio/config.toml`, as it is in a commit that people have accepted.

    [setup]        copy, link, script, time_limit
    [environment]  variables
    [cleanup]      script, time_limit
    [server]       command, health_path, ready_seconds, at_review

It is read from the workspace's base commit, never from the checkout: what an agent writes there takes effect when it is merged.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.kernel.errors import Invalid
from studio.kernel.text import clean, cut
from workspaces.models import Project
from workspaces.setup.config import checked
from workspaces.vcs import vcs_named

FILE = ".opencode-studio/config.toml"
FILE_LIMIT = 64 * 1024  # bytes

# Table and key of the file -> the setting.
KEYS = {
    ("setup", "copy"): "copy",
    ("setup", "link"): "link",
    ("setup", "script"): "script",
    ("setup", "time_limit"): "script_seconds",
    ("cleanup", "script"): "cleanup",
    ("cleanup", "time_limit"): "cleanup_seconds",
    ("server", "command"): "server",
    ("server", "health_path"): "health_path",
    ("server", "ready_seconds"): "ready_seconds",
    ("server", "at_review"): "at_review",
}
TABLES = ("setup", "environment", "cleanup", "server")


@dataclass(frozen=True, slots=True)
class RepositoryFile:
    """What a commit has of the file: its values, or why they cannot be used. Both empty: there is no file."""

    values: dict[str, Any]
    error: str = ""
    there: bool = False


def read_file(project: Project, commit: str) -> RepositoryFile:
    """The file as it is in `commit`. Raises Upstream when git fails; what is wrong with the file is in the answer."""
    raw = vcs_named(project.vcs).file_at(Path(project.path), commit, FILE, limit=FILE_LIMIT + 1)
    if raw is None:
        return RepositoryFile({})
    try:
        return RepositoryFile(parse(raw), there=True)
    except Invalid as error:
        return RepositoryFile({}, f"{FILE}: {error.message}", there=True)


def parse(raw: bytes) -> dict[str, Any]:
    """The settings in the file's text. Raises Invalid with a sentence that names the line or the key."""
    if len(raw) > FILE_LIMIT:
        raise Invalid(f"it is larger than {FILE_LIMIT // 1024} kB.")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"line {raw[: error.start].count(10) + 1} is not UTF-8.") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"it is not TOML: {cut(clean(error), 200)}.") from None
    except (RecursionError, ValueError):
        raise Invalid("it is not TOML that can be read: nested too deeply, or a number too long.") from None
    found: dict[str, Any] = {}
    for table, keys in tables.items():
        if table not in TABLES:
            raise Invalid(
                f"line {_line(text, '', table)}: there is no table [{_shown(table)}]; there are {', '.join(TABLES)}."
            )
        if not isinstance(keys, dict):
            raise Invalid(f"line {_line(text, '', table)}: “{table}” is a table: write [{table}].")
        found |= _table(text, table, keys)
    return found


def _table(text: str, table: str, keys: dict[str, Any]) -> dict[str, Any]:
    if table == "environment":
        return {"environment": _value(text, table, "", "environment", keys)}
    found = {}
    for key, value in keys.items():
        name = KEYS.get((table, key))
        if name is None:
            known = ", ".join(one for of, one in KEYS if of == table)
            raise Invalid(f"line {_line(text, table, key)}: [{table}] has no key “{_shown(key)}”; it has {known}.")
        found[name] = _value(text, table, key, name, value)
    return found


def _value(text: str, table: str, key: str, name: str, value: object) -> Any:
    try:
        return checked(name, value)
    except Invalid as error:
        where = f"[{table}] {key}".strip()
        raise Invalid(f"line {_line(text, table, key)}, {where}: {error.message}") from None


def _shown(name: str) -> str:
    return cut(clean(name), 40)


def _line(text: str, table: str, key: str) -> int:
    """Where the table, or the key in it, stands; the table's line where the key is written in some unusual way."""
    lines, at, inside = text.splitlines(), 0, not table
    for number, line in enumerate(lines, start=1):
        header = re.match(r"\s*\[+\s*([^\]\s.]+)", line)
        if header:
            inside = header[1].strip("\"'") == table
            if inside or (not table and header[1].strip("\"'") == key):
                at = at or number
                if not table or not key:
                    return number
        elif inside and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
    return at or 1
