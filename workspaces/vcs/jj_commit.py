"""Committing what is in a jj workspace, and moving the studio's bookmark onto it.

jj takes a snapshot of the files with every command. That snapshot is the commit, unless it is not what is on the disk: jj leaves
out names that are no text and repositories' pointers, keeps unresolved conflicts as such, and a workspace may be stale. Then the
files as they are become the commit, because what is shown as the change must be what is merged.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from workspaces.vcs.git_checkout import KEPT_REFS
from workspaces.vcs.git_command import authored, git, line, name, write_commit
from workspaces.vcs.jj_changes import write_tree
from workspaces.vcs.jj_command import LONG_TIMEOUT, JjError, jj
from workspaces.vcs.jj_exclude import untrack
from workspaces.vcs.jj_inspect import Position, contains, git_store, position, root, tip
from workspaces.vcs.jj_learn import learn
from workspaces.vcs.merging import Person

log = structlog.get_logger(__name__)

DEFAULT_MESSAGE = "Work in progress"


def commit_all(checkout: Path, branch: str, message: str, author: Person) -> str:
    """Commit everything that is in the checkout, if anything, onto `branch`; the commit that holds all of it.

    The working-copy commit becomes it and a new, empty one is put on top. Conflicts that nobody resolved are committed as the
    files show them, with their markers, for whoever checks for these.
    """
    tree = write_tree(checkout)
    at = snapshot(checkout)
    commits = git_store(checkout)
    if at.conflicted or line(commits, "rev-parse", f"{at.commit}^{{tree}}") != tree:
        head = _commit_files(checkout, at, tree, message, author)
    elif at.holds_something:
        if not at.description:
            given = ("--update-author", "--message", message.strip() or DEFAULT_MESSAGE)
            jj(checkout, "metaedit", *given, "@", files=True, person=author)
        jj(checkout, "new", files=True, person=author, timeout=LONG_TIMEOUT)
        head = position(checkout).parents[0]
    else:
        head = at.parents[0]
    keep_former(checkout, branch, head)
    set_bookmark(root(checkout), branch, head)
    return head


def snapshot(checkout: Path) -> Position:
    """Have jj look at the files; the working-copy commit with them. A stale workspace is brought up to date first."""
    try:
        at = position(checkout, files=True)
    except JjError as error:
        if "stale" not in error.said:
            raise
        log.warning("stale_workspace", path=str(checkout))
        jj(checkout, "workspace", "update-stale", files=True, timeout=LONG_TIMEOUT)
        at = position(checkout, files=True)
    return position(checkout) if untrack(checkout, at) else at


def _commit_files(checkout: Path, at: Position, tree: str, message: str, author: Person) -> str:
    """A commit of the files as they are, in place of the working-copy commit."""
    commits = git_store(checkout)
    words = at.description or message.strip() or DEFAULT_MESSAGE
    head = write_commit(commits, tree, at.parents, os.fsencode(words) + b"\n", authored(author))
    learn(checkout, head)
    jj(checkout, "new", head, files=True, timeout=LONG_TIMEOUT)
    jj(checkout, "abandon", f"{at.commit} ~ ::@ & mutable()")
    return head


def set_bookmark(repository: Path, branch: str, commit: str) -> None:
    """Put the studio's own bookmark onto `commit`, wherever it was."""
    if tip(repository, branch) != commit:
        jj(repository, "bookmark", "set", branch, "-r", commit, "--allow-backwards")


def kept(repository: Path, branch: str) -> list[tuple[str, str]]:
    """Former places of the bookmark that its present one does not contain, as (ref, commit)."""
    listing = git(git_store(repository), "for-each-ref", "--format=%(refname) %(objectname)", f"{KEPT_REFS}/{branch}")
    return [(ref, commit) for ref, _, commit in (name(row).partition(" ") for row in listing.stdout.splitlines())]


def keep_former(checkout: Path, branch: str, head: str) -> None:
    """Keep the place the bookmark is at under a ref, unless `head` contains it."""
    former = tip(checkout, branch)
    if former is not None and not contains(checkout, head, former):
        git(git_store(checkout), "update-ref", f"{KEPT_REFS}/{branch}/{former[:12]}", former)
