"""Remotes of a jj repository: git pushes from the store, which works with every git; jj then learns what the remote has."""

from __future__ import annotations

from pathlib import Path

from workspaces.vcs.base import Vcs
from workspaces.vcs.git import GitVcs
from workspaces.vcs.jj_inspect import git_store, import_refs, root

GIT: Vcs = GitVcs()


def remotes(repository: Path) -> dict[str, str]:
    """The names and fetch addresses of the remotes, without credentials in them."""
    return GIT.remotes(git_store(repository))


def push(
    repository: Path, remote: str, commit: str, branch: str, *, expected: str | None, header: str, hooks: bool = False
) -> None:
    """Make `branch` of the remote point at `commit`; refused (Raced) unless it is there or at `expected`, "" meaning absent."""
    del hooks  # jj runs none
    GIT.push(git_store(repository), remote, commit, branch, expected=expected, header=header)
    import_refs(root(repository))
