"""Finds the OpenCode binary that a managed server runs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from studio.env import BASE_DIR
from studio.kernel.errors import StudioError

# Before 1.18.33 nothing here was tried; a later series may speak differently, and its events would be misread.
SERIES, OLDEST_PATCH = (1, 18), 33
WANTED = f"{'.'.join(str(part) for part in (*SERIES, OLDEST_PATCH))} and later of that series"
VERSION = re.compile(r"\b(\d+)\.(\d+)\.(\d+)\b")
VERSION_SECONDS = 20.0
REMEDY = (
    f"Run `cd {shlex.quote(str(BASE_DIR))} && npm ci` to fetch the version that the studio is made for, "
    "or set OPENCODE_BIN to such a binary."
)

_known: dict[tuple[str, int, int], str] = {}  # (path, changed, size) -> version, so that looking again costs nothing


class BinaryMissingError(StudioError):
    """No OpenCode binary that the studio can work with; the message says what was found, and how to get one."""

    code = "binary_missing"


class BinaryUnsupportedError(BinaryMissingError):
    """There is a binary, but of a version that the studio does not work with."""

    code = "binary_unsupported"


@dataclass(frozen=True, slots=True)
class Binary:
    """An OpenCode binary that answered with a supported version."""

    path: Path
    version: str


def find_binary(named: str | None = None) -> Binary:
    """The binary to use: `named` (default: OPENCODE_BIN), else one on PATH, else the one that npm put beside the studio.

    A binary on PATH of another version is passed over. Raises BinaryMissingError with the remedy.
    """
    if named is None:
        from django.conf import settings  # the launcher and the supervisor pass the name, and run without Django

        named = settings.OPENCODE_BIN
    if named:
        path = shutil.which(named)
        if path is None:
            raise BinaryMissingError(f"OPENCODE_BIN names {named}, which cannot be run. {REMEDY}")
        return _checked(Path(path))
    seen: list[BinaryMissingError] = []
    for candidate in (shutil.which("opencode"), shutil.which(str(BASE_DIR / "node_modules" / ".bin" / "opencode"))):
        if candidate:
            try:
                return _checked(Path(candidate))
            except BinaryMissingError as error:
                seen.append(error)
    raise seen[-1] if seen else BinaryMissingError(f"OpenCode was not found. {REMEDY}")


def unsupported(version: str) -> str:
    """Why the studio does not work with OpenCode `version`; empty when it does."""
    match = VERSION.search(version)
    if not match:
        return "it does not tell its version"
    major, minor, patch = (int(part) for part in match.groups())
    if (major, minor) == SERIES and patch >= OLDEST_PATCH:
        return ""
    old = "too old" if (major, minor, patch) < (*SERIES, OLDEST_PATCH) else "newer than the studio knows"
    return f"version {match[0]} is {old}: the studio works with {WANTED}"


def _checked(path: Path) -> Binary:
    try:
        found = path.stat()
    except OSError as error:
        raise BinaryMissingError(f"{path} cannot be run ({type(error).__name__}). {REMEDY}") from error
    key = (str(path), found.st_mtime_ns, found.st_size)
    if key not in _known:
        _known[key] = _version(path)
    said = _known[key]
    reason = unsupported(said)
    if reason:
        raise BinaryUnsupportedError(f"OpenCode cannot be used: {path}, {reason}. {REMEDY}")
    match = VERSION.search(said)
    return Binary(path=path, version=match[0] if match else said)


def _version(path: Path) -> str:
    try:
        answer = subprocess.run(
            [str(path), "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BinaryMissingError(f"{path} cannot be run ({type(error).__name__}). {REMEDY}") from error
    return answer.stdout[:200]
