"""Version control systems by name."""

from __future__ import annotations

from pathlib import Path

from studio.kernel.errors import Upstream
from workspaces.vcs import jj_inspect
from workspaces.vcs.base import Vcs
from workspaces.vcs.git import GitVcs
from workspaces.vcs.git_reading import GitReading
from workspaces.vcs.jj import JjVcs
from workspaces.vcs.jj_reading import JjReading
from workspaces.vcs.reading import Reading

SYSTEMS: dict[str, Vcs] = {"git": GitVcs(), "jj": JjVcs()}
READINGS: dict[str, Reading] = {"git": GitReading(), "jj": JjReading()}


def detect(path: Path) -> Vcs:
    """The system that works at `path`. Where both do it is jj, unless that is not installed: git's half is complete."""
    with_jj = jj_inspect.is_here(path) and (jj_inspect.is_usable() or not jj_inspect.is_colocated(path))
    return SYSTEMS["jj" if with_jj else "git"]


def vcs_named(name: str) -> Vcs:
    """The version control system called `name`. Raises Upstream for one that this studio does not have."""
    try:
        return SYSTEMS[name]
    except KeyError:
        raise Upstream(f"This studio cannot work with the version control system {name!r}.") from None


def reading_of(name: str) -> Reading:
    """How files are read of the version control system called `name`. Raises Upstream for one that cannot be shown."""
    try:
        return READINGS[name]
    except KeyError:
        raise Upstream(f"This studio cannot show the files of the version control system {name!r}.") from None
