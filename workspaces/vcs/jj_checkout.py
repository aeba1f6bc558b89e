"""Checkouts of the studio in a jj repository: workspaces that are added, recognised, mended and forgotten.

A workspace is added first and the change is made in it, so that a person's own working copy is never moved. What the studio
keeps of its checkout lies in the folder `.jj/studio`, which is written last: without it the checkout is half made.
"""

from __future__ import annotations

import os
from pathlib import Path

from workspaces.vcs import git_checkout, git_kept
from workspaces.vcs.base import VcsError, readable
from workspaces.vcs.deleting import delete_tree, out_of_place
from workspaces.vcs.git_checkout import KEPT_REFS
from workspaces.vcs.git_command import commit_of, git
from workspaces.vcs.jj_command import LONG_TIMEOUT, JjError, jj, quoted, text
from workspaces.vcs.jj_commit import kept
from workspaces.vcs.jj_exclude import forget_exclude
from workspaces.vcs.jj_inspect import contains, git_store, is_here, places, position, root, store, tip
from workspaces.vcs.jj_learn import learn
from workspaces.vcs.jj_own import OWN_FOLDER, excluded_paths, keep_excluded

MARKER = "branch"  # in OWN_FOLDER: the bookmark of this checkout


def create_checkout(repository: Path, checkout: Path, branch: str, base: str) -> None:
    """Add a workspace for `branch`, which begins at `base` unless it exists. Finishes what a crash left half made."""
    if owns_checkout(repository, checkout):
        return
    if checkout.name in _workspaces(repository):
        jj(repository, "workspace", "forget", checkout.name)
    delete_tree(checkout)
    checkout.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = tip(repository, branch)
    start = there or base
    learn(repository, start)
    options = ("--name", checkout.name, "--sparse-patterns", "full", "-r", start)
    # jj says that it may not write files, as it was told: the new workspace's own commands do that.
    jj(repository, "workspace", "add", *options, "--", str(checkout), ok=(0, 1), timeout=LONG_TIMEOUT)
    if not is_here(checkout):
        raise JjError(f"jj made no workspace in {readable(checkout)}.")
    jj(checkout, "workspace", "update-stale", files=True, timeout=LONG_TIMEOUT)
    if position(checkout).parents != (start,):
        jj(checkout, "new", start, files=True, timeout=LONG_TIMEOUT)
    if there is None:
        jj(repository, "bookmark", "set", branch, "-r", start)
    _mark(checkout, branch)


def _mark(checkout: Path, branch: str) -> None:
    own = checkout / ".jj" / OWN_FOLDER
    own.mkdir(exist_ok=True)
    (own / MARKER).write_text(branch)


def owns_checkout(repository: Path, checkout: Path) -> bool:
    """Whether `checkout` is a complete checkout of this repository; repairs its link when only that is missing."""
    folder = checkout / ".jj"
    if not _is_ours(folder) or not (folder / OWN_FOLDER / MARKER).is_file():
        return False
    link = folder / "repo"
    if not os.path.lexists(link):
        _link(repository, checkout)
    if link.is_symlink() or not link.is_file() or checkout.name not in _workspaces(repository):
        return False
    try:
        return store(checkout) == store(repository)
    except VcsError:
        return False


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.getuid()


def _link(repository: Path, checkout: Path) -> None:
    (checkout / ".jj" / "repo").write_bytes(os.fsencode(store(repository)))


def _workspaces(repository: Path) -> list[str]:
    return text(repository, "workspace", "list", "-T", 'name ++ "\\0"').split("\0")[:-1]


def is_unfinished(repository: Path, checkout: Path) -> bool:
    """Whether making `checkout` was begun and not ended, so that nobody has worked in it yet."""
    begun = checkout.name in _workspaces(repository)
    return begun and not os.path.lexists(checkout / ".jj" / OWN_FOLDER / MARKER) and is_here(checkout)


def remove_checkout(repository: Path, checkout: Path) -> None:
    """Forget and delete the checkout with all that is in it. A missing one is fine."""
    if owns_checkout(repository, checkout):
        forget_exclude(checkout)
    gone = out_of_place(checkout)  # see git_checkout.remove_checkout
    if checkout.name in _workspaces(repository):
        jj(repository, "workspace", "forget", checkout.name)
    delete_tree(gone)


def delete_branch(repository: Path, branch: str, at: str) -> None:
    """Delete the bookmark and what was kept beside it, if it still points at `at`.

    Commits that nothing else comes from are hidden with it, as git's would be; jj's operation log still has them.
    """
    if tip(repository, branch) == at:
        jj(repository, "bookmark", "forget", f"exact:{quoted(branch)}")
        others = "bookmarks() | remote_bookmarks() | tags() | working_copies()"
        only_here = f"(::{at} ~ ::(({others} | visible_heads()) ~ {at})) & mutable()"
        jj(repository, "abandon", only_here)
    for ref, commit in kept(repository, branch):
        git(git_store(repository), "update-ref", "-d", ref, commit)


def export(
    repository: Path, branch: str, base: str, head: str, folder: Path, stem: str, *, merged: bool
) -> Path | None:
    """Keep what would be lost with the bookmark, below `folder`, as a patch and a bundle; one of the two, or None."""
    commits, ref = git_store(repository), f"refs/heads/{branch}"
    if commit_of(commits, ref) is not None:
        return git_checkout.export(commits, branch, base, head, folder, stem, merged=merged)
    # jj keeps its bookmarks out of a git repository that nobody else works in: the bundle needs a name for its commits.
    git(commits, "update-ref", ref, head)
    try:
        return git_checkout.export(commits, branch, base, head, folder, stem, merged=merged)
    finally:
        git(commits, "update-ref", "-d", ref, head)


def bring_back(repository: Path, bundle: Path) -> str:
    """Bring the commits of a bundle that `export` made back into the repository; the newest. No bookmark points at them."""
    return git_kept.bring_back(git_store(repository), bundle)


def repair(repository: Path, checkout: Path, branch: str, head: str) -> list[str]:
    """Mend what was damaged from outside, without losing a commit; what was done, in words (empty: nothing was wrong).

    What lies in the checkout uncommitted is kept as it is. May be called again, also after it failed half-way.
    """
    done = _mend_bookmark(repository, branch, head)
    if not checkout.exists():
        create_checkout(repository, checkout, branch, head)
        return [*done, f"The folder was gone: it was made again from {branch}."]
    if _is_ours(checkout / ".jj") and not _leads_here(repository, checkout):
        (checkout / ".jj" / "repo").unlink(missing_ok=True)
        _link(repository, checkout)
        done.append("Its link to the repository was wrong: it was mended.")
    if not owns_checkout(repository, checkout):
        _adopt(repository, checkout, branch, head)
        done.append("The repository no longer knew the checkout: it was taken in again with its files as they are.")
    return done


def _leads_here(repository: Path, checkout: Path) -> bool:
    link = checkout / ".jj" / "repo"
    if link.is_symlink() or not link.is_file():
        return False
    try:
        return store(checkout) == store(repository)
    except VcsError:
        return False


def _adopt(repository: Path, checkout: Path, branch: str, head: str) -> None:
    """Make the checkout anew beside its files, and put the files into it: they are then changes that are not committed."""
    aside = checkout.parent / f".{checkout.name}.files"
    if os.path.lexists(aside):
        raise JjError(f"An earlier repair left {readable(aside)} behind: look at it, and move or delete it.")
    placed = excluded_paths(checkout)
    checkout.rename(aside)
    try:
        create_checkout(repository, checkout, branch, head)
        keep_excluded(checkout, placed)
        delete_tree(aside / ".jj")
        (checkout / ".jj").rename(aside / ".jj")
        delete_tree(checkout)
    finally:
        if not checkout.exists():
            aside.rename(checkout)


def _mend_bookmark(repository: Path, branch: str, head: str) -> list[str]:
    """Put the bookmark back where it was or was moved ahead from; a place that does not contain `head` is kept."""
    commits = git_store(repository)
    if commit_of(commits, head) is None:
        raise JjError(f"The commit {head[:12]} is gone from {readable(repository)}; it cannot be mended.")
    now = places(repository, branch)
    if len(now) == 1 and contains(repository, now[0], head):
        return []
    learn(repository, head)
    for other in now if len(now) > 1 else []:
        if not contains(repository, head, other):
            git(commits, "update-ref", f"{KEPT_REFS}/{branch}/{other[:12]}", other)
    jj(root(repository), "bookmark", "set", branch, "-r", head, "--allow-backwards")
    was = ("gone", "elsewhere", "in two places at once, and the others are kept")[min(len(now), 2)]
    return [f"The bookmark {branch} was {was}: it is at {head[:12]} again."]
