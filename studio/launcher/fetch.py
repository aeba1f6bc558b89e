"""`python -m studio.launcher.fetch`: make sure that there is an OpenCode binary, by npm when there is none.

An `opencode` on PATH of a supported version, OPENCODE_BIN or OPENCODE_URL make the download unnecessary.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from agents.discovery import BinaryMissingError, find_binary
from studio.env import BASE_DIR
from studio.launcher.errors import LauncherError

PACKAGE = BASE_DIR / "node_modules" / "opencode-ai"
WITHOUT = (
    "Install Node.js with npm and try again, put `opencode` on PATH, name a binary with OPENCODE_BIN or a running "
    'server with OPENCODE_URL, or start without agents: make run ARGS="--no-agent"'
)


def ensure_opencode(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Fetch the pinned version unless none is needed. Raises LauncherError with what can be done."""
    if "--no-agent" in arguments or environ.get("OPENCODE_URL") or _found(environ):
        return
    if environ.get("OPENCODE_BIN"):
        find_named(environ["OPENCODE_BIN"])
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise LauncherError(f"OpenCode is not there, and neither is npm, which would fetch it. {WITHOUT}")
    print("Fetching OpenCode with npm …", flush=True)
    fetched = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund", "--loglevel", "error"],
        cwd=BASE_DIR,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if fetched.returncode != 0:
        raise LauncherError(f"npm could not fetch OpenCode; its own words are above. {WITHOUT}")
    if not _found(environ):
        # Where npm is told not to run the scripts of packages, the binary is still to be put in its place.
        subprocess.run([node, "postinstall.mjs"], cwd=PACKAGE, stdin=subprocess.DEVNULL, check=False)
    find_named("")


def find_named(name: str) -> None:
    """Raise LauncherError, with the reason, unless there is a binary that works."""
    try:
        find_binary(name)
    except BinaryMissingError as error:
        raise LauncherError(error.message) from error


def _found(environ: Mapping[str, str]) -> bool:
    try:
        find_binary(environ.get("OPENCODE_BIN", ""))
    except BinaryMissingError:
        return False
    return True


if __name__ == "__main__":
    try:
        ensure_opencode(sys.argv[1:], os.environ)
    except LauncherError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
