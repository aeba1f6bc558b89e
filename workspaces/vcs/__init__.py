"""Version control systems by name."""

from __future__ import annotations

from studio.kernel.errors import Upstream
from workspaces.vcs.base import Vcs
from workspaces.vcs.git import GitVcs

SYSTEMS: dict[str, Vcs] = {"git": GitVcs()}


def vcs_named(name: str) -> Vcs:
    """The version control system called `name`. Raises Upstream for one that this studio does not have."""
    try:
        return SYSTEMS[name]
    except KeyError:
        raise Upstream(f"This studio cannot work with the version control system {name!r}.") from None
