"""Making a commit that git wrote known to jj, which finds commits only through git's branches."""

from __future__ import annotations

from pathlib import Path

from workspaces.vcs.git_command import git, name
from workspaces.vcs.jj_command import jj
from workspaces.vcs.jj_inspect import git_store, import_refs, root

PASSING = "refs/heads/studio-import/"  # branches that exist only while jj looks


def learn(repository: Path, commit: str) -> None:
    """Make `commit` and what it comes from known to jj, without a bookmark on it. Again, or twice at once, is harmless."""
    if not _is_known(repository, commit):
        git(git_store(repository), "update-ref", f"{PASSING}{commit}", commit)
        import_refs(root(repository))
    _forget_known(repository, commit)


def _is_known(repository: Path, commit: str) -> bool:
    return jj(repository, "log", "--no-graph", "-r", commit, "-T", '""', ok=(0, 1)).code == 0


def _forget_known(repository: Path, commit: str) -> None:
    """Take the passing branches away that jj has seen: that of `commit`, and those of a crash; not one that was made just now."""
    commits = git_store(repository)
    left = [name(row) for row in git(commits, "for-each-ref", "--format=%(refname)", PASSING).stdout.splitlines()]
    seen = [ref for ref in left if ref == f"{PASSING}{commit}" or _is_known(repository, ref.removeprefix(PASSING))]
    for ref in seen:
        git(commits, "update-ref", "-d", ref)
    if seen:
        import_refs(root(repository))
