"""Finds the OpenCode binary that a managed server runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from studio.env import BASE_DIR
from studio.kernel.errors import StudioError

SERIES, OLDEST_PATCH = (1, 18), 33
VERSION = re.compile(r"\b(\d+)\.(\d+)\.(\d+)\b")
VERSION_SECONDS = 20.0
REMEDY = (
    "Run `npm ci` in the studio's folder to fetch the version it is made for, or set OPENCODE_BIN to such a binary."
)


class BinaryMissingError(StudioError):
    """No OpenCode binary that the studio can work with; the message says how to get one."""

    code = "opencode_missing"


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
        from django.conf import settings  # the launcher passes the name, and runs without Django

        named = settings.OPENCODE_BIN
    if named:
        path = shutil.which(named)
        if path is None:
            raise BinaryMissingError(f"OPENCODE_BIN names {named}, which cannot be run. {REMEDY}")
        return _checked(Path(path))
    seen: list[str] = []
    for candidate in (shutil.which("opencode"), shutil.which(str(BASE_DIR / "node_modules" / ".bin" / "opencode"))):
        if candidate:
            try:
                return _checked(Path(candidate))
            except BinaryMissingError as error:
                seen.append(error.message)
    raise BinaryMissingError(" ".join([*seen, "OpenCode was not found.", REMEDY]))


def _checked(path: Path) -> Binary:
    version = _version(path)
    match = VERSION.search(version)
    if not match:
        raise BinaryMissingError(f"{path} did not tell its version.")
    major, minor, patch = (int(part) for part in match.groups())
    if (major, minor) != SERIES or patch < OLDEST_PATCH:
        wanted = ".".join(str(part) for part in (*SERIES, OLDEST_PATCH))
        raise BinaryMissingError(
            f"{path} is version {match[0]}; the studio works with {wanted} and later of that series."
        )
    return Binary(path=path, version=match[0])


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
        raise BinaryMissingError(f"{path} cannot be run ({type(error).__name__}).") from error
    return answer.stdout[:200]
