"""The values of a project's setup: which there are, and what each may be. One check for the page, the API and the repository's file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from studio.kernel.errors import Invalid
from studio.kernel.text import clean, cut
from workspaces.models.setup import LONGEST_CLEANUP, LONGEST_READY, LONGEST_SETUP

SCRIPT_LIMIT = 10_000  # characters
PATHS_LIMIT = 50
PATH_LIMIT = 200  # characters
VARIABLES_LIMIT = 50
VALUE_LIMIT = 2_000  # characters
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
# Names by which the studio knows its own processes, and settings of its own.
TAKEN = re.compile(r"(OPENCODE_STUDIO|STUDIO|DJANGO|GIT)_.*")
PLACEHOLDERS = ("port", "workspace", "branch", "key", "path", "project_path")
PLACEHOLDER = re.compile(r"(?<![$\\{])\{([a-z_]+)\}")
STORES = (".git", ".jj")  # nothing is placed into one, nor taken from it
WILD = re.compile(r"[*?\[]")
URL_PATH = re.compile(r"/[\x21-\x7e]*")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a checkout is set up with."""

    copy: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    script: str = ""
    script_seconds: int = 600
    cleanup: str = ""
    cleanup_seconds: int = 60
    server: str = ""
    health_path: str = "/"
    ready_seconds: int = 120
    at_review: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do for a new checkout."""
        return not (self.copy or self.link or self.environment or self.script or self.server or self.cleanup)


NAMES = tuple(one.name for one in fields(Setup))


def checked(name: str, value: object) -> Any:
    """`value` as the setting `name` keeps it. Raises Invalid with a sentence and the field."""
    return CHECKS[name](name, value)


def _invalid(name: str, sentence: str) -> Invalid:
    return Invalid(sentence, detail={"field": name})


def _paths(name: str, value: object) -> list[str]:
    """Paths below the repository's root: relative, without `..`, bounded in number and length."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise _invalid(name, f"“{name}” is a list of paths, each a text.")
    found = list(dict.fromkeys(_path(name, one) for one in value if one.strip()))
    if len(found) > PATHS_LIMIT:
        raise _invalid(name, f"“{name}” has {len(found)} paths; {PATHS_LIMIT} are possible.")
    return found


def _path(name: str, given: str) -> str:
    text = given.strip()
    shown = cut(clean(text), 80)
    if text != clean(text) or "\n" in text or len(text) > PATH_LIMIT:
        raise _invalid(name, f"“{name}”: “{shown}” is not a path of at most {PATH_LIMIT} readable characters.")
    if text.startswith(("/", "~", "\\")) or ".." in text.split("/"):
        raise _invalid(
            name, f"“{name}”: “{shown}” must be below the repository's root: no / or ~ at its beginning, no “..”."
        )
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts or parts[0] in STORES:
        raise _invalid(name, f"“{name}”: “{shown}” names no file of the repository.")
    if name == "link" and WILD.search(text):
        raise _invalid(name, f"“link”: “{shown}” has a wildcard; name each folder.")
    return "/".join(parts)


def _environment(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > VARIABLES_LIMIT:
        raise _invalid(name, f"“environment” is a table of at most {VARIABLES_LIMIT} variables.")
    for variable, text in value.items():
        if not isinstance(variable, str) or not VARIABLE.fullmatch(variable):
            shown = cut(clean(variable), 60)
            raise _invalid(name, f"“environment”: “{shown}” is no variable's name: letters, digits and _ only.")
        if TAKEN.fullmatch(variable):
            raise _invalid(name, f"“environment”: names like {variable} are the studio's own; choose another.")
        if not isinstance(text, str) or text != clean(text) or len(text) > VALUE_LIMIT:
            raise _invalid(
                name, f"“environment”: the value of {variable} is a text of at most {VALUE_LIMIT:,} characters."
            )
        _require_placeholders(name, text)
    return dict(value)


def _require_placeholders(name: str, text: str) -> None:
    for found in PLACEHOLDER.findall(text):
        if found not in PLACEHOLDERS:
            known = ", ".join(f"{{{one}}}" for one in PLACEHOLDERS)
            raise _invalid(name, f"“{name}”: {{{cut(found, 40)}}} is unknown; there are {known}.")


def _script(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _invalid(name, f"“{name}” is a text.")
    text = value.replace("\r\n", "\n").strip()
    if len(text) > SCRIPT_LIMIT:
        raise _invalid(
            name,
            f"“{name}” has {len(text):,} characters; {SCRIPT_LIMIT:,} are possible. Put it into a file and call that.",
        )
    if text != clean(text):
        raise _invalid(name, f"“{name}” holds control characters or broken text.")
    return text


def _url_path(name: str, value: object) -> str:
    if not isinstance(value, str) or not URL_PATH.fullmatch(value) or len(value) > 500:
        raise _invalid(name, f"“{name}” is a path of the server, such as /health.")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _invalid(name, f"“{name}” is true or false.")
    return value


def _seconds(most: int) -> Callable[[str, object], int]:
    def check(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise _invalid(name, f"“{name}” is a whole number of seconds from 1 to {most:,}.")
        return value

    return check


CHECKS: dict[str, Callable[[str, object], Any]] = {
    "copy": _paths,
    "link": _paths,
    "environment": _environment,
    "script": _script,
    "script_seconds": _seconds(LONGEST_SETUP),
    "cleanup": _script,
    "cleanup_seconds": _seconds(LONGEST_CLEANUP),
    "server": _script,
    "health_path": _url_path,
    "ready_seconds": _seconds(LONGEST_READY),
    "at_review": _flag,
}
