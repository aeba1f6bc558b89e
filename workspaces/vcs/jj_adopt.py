"""Taking over what a person has in a jj workspace of their own. jj is not asked to look at its files: the workspace, its
working-copy commit and the operation log stay as they are. git sees the files as in `jj_changes`, through an index of its own.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from workspaces.vcs.base import VcsError, readable
from workspaces.vcs.git_adopt import changed_names, described, leave, refuse, require_small, store_tree
from workspaces.vcs.git_command import authored, line, write_commit
from workspaces.vcs.jj_changes import compared
from workspaces.vcs.jj_command import shown, text
from workspaces.vcs.jj_commit import set_bookmark
from workspaces.vcs.jj_inspect import STUDIO_BRANCHES, git_store, is_here, position, root, store
from workspaces.vcs.jj_learn import learn
from workspaces.vcs.merging import Person
from workspaces.vcs.taking import Leaving, Taken, Worktree, leave_nothing

LISTED = 'name ++ "\\0" ++ if(root, root) ++ "\\0"'


def worktrees(repository: Path) -> list[Worktree]:
    """The workspaces of the repository that are there, the one with which it began first."""
    home = root(repository)
    fields = text(repository, "workspace", "list", "-T", LISTED).split("\0")
    places = dict.fromkeys([home, *(Path(place) for place in fields[1::2] if place)])
    return [Worktree(place, _bookmark(place)) for place in places if _is_of(repository, place)]


def _is_of(repository: Path, place: Path) -> bool:
    try:
        return is_here(place) and store(place) == store(repository)
    except VcsError:
        return False


def _bookmark(place: Path) -> str:
    """A bookmark of people at or right below the working copy; empty when there is none."""
    found = shown(place, "(@ | @-) & bookmarks()", 'local_bookmarks.map(|b| b.name() ++ "\\0").join("")')
    return next((one for one in found if not one.startswith(STUDIO_BRANCHES)), "")


def take_over(checkout: Path, message: str, author: Person, leaving: Leaving = leave_nothing) -> Taken:
    """What is in the workspace as a commit of its own, beside the working-copy commit, which a person goes on to rewrite."""
    at, commits = position(checkout), git_store(checkout)
    if at.conflicted:
        raise refuse(
            "worktree_busy",
            f"The working copy in {readable(checkout)} has conflicts: resolve them (jj resolve), then try again.",
        )
    below = at.parents[0]
    with compared(checkout) as (env, nested):
        placed = leave(checkout, env, at.parents, leaving(below))
        require_small(checkout, changed_names(checkout, env, below))
        env["GIT_OBJECT_DIRECTORY"] = str(commits / "objects")
        tree = store_tree(checkout, env)
    same = tree == line(commits, "rev-parse", f"{below}^{{tree}}")
    commit = below
    if not same or len(at.parents) > 1:
        commit = write_commit(
            commits, tree, at.parents, os.fsencode(at.description or message) + b"\n", authored(author)
        )
    return replace(described(commits, checkout, below, commit, nested), placed=placed)


def put_branch(repository: Path, branch: str, commit: str) -> None:
    """Make the bookmark, which there is none of, at `commit`."""
    learn(repository, commit)
    set_bookmark(repository, branch, commit)
