"""What the studio keeps of its jj workspace, in `.jj/studio`; and what of it jj is told with every look at the files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from workspaces.vcs.git_command import listed, names

OWN_FOLDER = "studio"  # inside .jj
PATHS = "excluded"  # there: the paths that belong into no commit, each ended with NUL
SPECIAL = re.compile(r'[\x00-\x1f"\\\x7f]')


def excluded_paths(checkout: Path) -> list[str]:
    """What the studio put into the workspace; empty when there is nothing."""
    try:
        return names((checkout / ".jj" / OWN_FOLDER / PATHS).read_bytes())
    except OSError:
        return []


def keep_excluded(checkout: Path, paths: Sequence[str]) -> None:
    """Remember `paths` in place of the last ones."""
    own = checkout / ".jj" / OWN_FOLDER
    own.mkdir(exist_ok=True)
    scratch = own / f"{PATHS}.{os.getpid()}"
    scratch.write_bytes(listed(paths))
    scratch.replace(own / PATHS)


def below(paths: Sequence[str]) -> list[str]:
    """Fileset expressions of paths and all that is inside; jj has no names that are not UTF-8, so those are left out."""
    storable = (path for path in paths if not any("\udc80" <= letter <= "\udcff" for letter in path))
    return ['root:"' + SPECIAL.sub(lambda one: f"\\x{ord(one[0]):02x}", path) + '"' for path in storable]


def auto_tracked(checkout: Path) -> str:
    """The fileset of new files that a snapshot takes in: all but what the studio put there."""
    own = below(excluded_paths(checkout))
    return f"~({' | '.join(own)})" if own else "all()"
