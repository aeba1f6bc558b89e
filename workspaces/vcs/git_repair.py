"""Mending a checkout of ours after damage from outside. No commit is lost: what gives way is kept under a ref of the studio."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from workspaces.vcs.base import VcsError, readable
from workspaces.vcs.deleting import delete_tree
from workspaces.vcs.git_checkout import KEPT_REFS, create_checkout, owns_checkout, unlock
from workspaces.vcs.git_command import LONG_TIMEOUT, GitError, commit_of, git, git_folder, name
from workspaces.vcs.git_inspect import contains, tip


def repair(repository: Path, checkout: Path, branch: str, head: str) -> list[str]:
    """Mend what was damaged from outside, without losing a commit; what was done, in words (empty: nothing was wrong).

    `head` is the last commit that the studio knows of. What lies in the checkout uncommitted is kept as it is. May be
    called again, also after it failed half-way.
    """
    done = _mend_branch(repository, branch, head)
    if not checkout.exists():
        create_checkout(repository, checkout, branch, head)
        return [*done, f"The folder was gone: it was made again from {branch}."]
    done += _mend_link(repository, checkout, branch, head)
    if (git_folder(checkout) / "index.lock").exists():
        unlock(checkout)
        done.append("A lock was left behind by a git command that was killed: it was removed.")
    done += _mend_index(checkout)
    return [*done, *_mend_position(repository, checkout, branch, head)]


def _mend_branch(repository: Path, branch: str, head: str) -> list[str]:
    if tip(repository, branch) is not None:
        return []
    if commit_of(repository, head) is None:
        raise VcsError(f"The branch {branch} is gone, and so is the last commit that was known of it ({head[:12]}).")
    git(repository, "update-ref", "-m", "opencode-studio: repaired", f"refs/heads/{branch}", head, "")
    return [f"The branch {branch} was gone: it was made again at {head[:12]}."]


def _mend_link(repository: Path, checkout: Path, branch: str, head: str) -> list[str]:
    """Make the checkout's .git lead to this repository again."""
    if owns_checkout(repository, checkout):
        return []
    done = []
    link = checkout / ".git"
    if os.path.lexists(link) and (link.is_symlink() or not link.is_file()):
        aside = checkout.parent / f".{checkout.name}.git-{datetime.now(UTC):%Y%m%d%H%M%S%f}"
        link.rename(aside)
        done.append(f"Its .git was not the studio's: it was moved to {readable(aside)}.")
    git(repository, "worktree", "repair", "--end-of-options", str(checkout), ok=(0, 1))
    if owns_checkout(repository, checkout):
        return [*done, "Its link to the repository was wrong: it was mended."]
    _adopt(repository, checkout, branch, head)
    return [*done, "The repository no longer knew the checkout: it was taken in again with its files as they are."]


def _adopt(repository: Path, checkout: Path, branch: str, head: str) -> None:
    """Make the checkout anew beside its files, and put the files into it: they are then changes that are not committed."""
    aside = checkout.parent / f".{checkout.name}.files"
    if aside.exists():
        raise VcsError(f"An earlier repair left {readable(aside)} behind: look at it, and move or delete it.")
    checkout.rename(aside)
    try:
        create_checkout(repository, checkout, branch, head)
        (aside / ".git").unlink(missing_ok=True)
        (checkout / ".git").rename(aside / ".git")
        delete_tree(checkout)
    finally:
        if not checkout.exists():
            aside.rename(checkout)


def _mend_index(checkout: Path) -> list[str]:
    """A missing or broken index is made from the last commit; the files are not touched."""
    index = git_folder(checkout) / "index"
    if index.exists() and not git(checkout, "ls-files", "-z", ok=(0, 128)).code:
        return []
    index.unlink(missing_ok=True)
    git(checkout, "read-tree", "HEAD", timeout=LONG_TIMEOUT)
    return ["Its index was broken: it was made again from the last commit."]


def _mend_position(repository: Path, checkout: Path, branch: str, head: str) -> list[str]:
    """A branch that somebody moved under the checkout: forward is followed, anything else is put back and kept beside it."""
    at, known = tip(repository, branch), _last_known(checkout) or head
    if at is None or at == known or git(checkout, "symbolic-ref", "-q", "HEAD", ok=(0, 1)).code:
        return []
    if commit_of(repository, known) is None:
        return []
    if contains(repository, at, known):
        try:
            git(checkout, "read-tree", "-m", "-u", known, at, timeout=LONG_TIMEOUT)
        except GitError:
            pass  # what is uncommitted stands in the way: it counts
        else:
            git(checkout, "update-ref", "-m", "opencode-studio: follows its branch", "HEAD", at)
            return [f"The branch {branch} was moved forward from outside: the checkout follows it."]
    git(repository, "update-ref", f"{KEPT_REFS}/{branch}/{at[:12]}", at)
    git(checkout, "update-ref", "-m", "opencode-studio: put back", f"refs/heads/{branch}", known, at)
    return [
        f"The branch {branch} was moved to {at[:12]} from outside: it was put back to {known[:12]}, which the checkout "
        f"shows, and the other commit is kept as {KEPT_REFS}/{branch}/{at[:12]}."
    ]


def _last_known(checkout: Path) -> str:
    """The commit that git last put this checkout on, from the log of its HEAD; empty when there is none."""
    try:
        rows = (git_folder(checkout) / "logs" / "HEAD").read_bytes().splitlines()
    except OSError:
        return ""
    return name(rows[-1].split(b" ")[1]) if rows and rows[-1].count(b" ") > 1 else ""
