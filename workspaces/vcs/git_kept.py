"""The way back for what was kept of a branch in a bundle."""

from __future__ import annotations

from pathlib import Path

from workspaces.vcs.base import VcsError, readable
from workspaces.vcs.git_command import LONG_TIMEOUT, GitError, git, name


def bring_back(repository: Path, bundle: Path) -> str:
    """Bring the commits of a bundle that `export` made back into the repository; the newest. No branch points at them."""
    listing = name(git(repository, "bundle", "list-heads", str(bundle)).stdout).splitlines()
    heads = [(ref, commit) for commit, _, ref in (row.partition(" ") for row in listing)]
    chosen = next((head for head in heads if head[0].startswith("refs/heads/")), heads[0] if heads else None)
    if chosen is None:
        raise VcsError(f"{readable(bundle)} holds no commit.")
    try:
        git(repository, "bundle", "unbundle", str(bundle), timeout=LONG_TIMEOUT)
    except GitError as error:
        if "prerequisite" not in error.said:
            raise
        raise VcsError(
            "The repository no longer has the commit on which the kept work builds, so its commits cannot be brought back. "
            f"The patch beside it may still apply: git apply --3way {readable(bundle.with_suffix('.patch'))}"
        ) from error
    return chosen[1]
