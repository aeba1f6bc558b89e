"""Checkouts of the studio: git worktrees that are made, committed in, kept and removed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import structlog

from workspaces.vcs import git_exclude
from workspaces.vcs.base import VcsError
from workspaces.vcs.deleting import delete_tree, out_of_place
from workspaces.vcs.git_command import (
    LONG_TIMEOUT,
    GitError,
    authored,
    commit_of,
    git,
    git_folder,
    line,
    listed,
    name,
    names,
)
from workspaces.vcs.git_exclude import drop_excluded, excluded_paths, forget_exclude, place_of, places_of
from workspaces.vcs.git_inspect import contains, operation, store, tip
from workspaces.vcs.git_submodules import ignored_inside, worked_in
from workspaces.vcs.merging import Person

log = structlog.get_logger(__name__)

LOCK_PATIENCE = 10.0  # seconds until a lock in our own checkout counts as left behind by a killed process
KEPT_REFS = "refs/studio/kept"


def create_checkout(repository: Path, checkout: Path, branch: str, base: str) -> None:
    """Make `checkout` on `branch`, which begins at `base` unless it exists. Finishes what a crash left half made."""
    if owns_checkout(repository, checkout):
        _put_submodules_back(repository, checkout)
        return
    _put_submodules_aside(repository, checkout)
    delete_tree(checkout)
    checkout.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if tip(repository, branch) is None:
        target = ["--no-track", "-b", branch, "--end-of-options", str(checkout), base]
    else:
        if elsewhere := _checkout_on(repository, branch, checkout):
            raise VcsError(f"The branch {branch} is checked out in {elsewhere}.")
        target = ["--end-of-options", str(checkout), branch]
    # Forced twice, because an earlier try that was killed left its entry, and locked.
    git(repository, "worktree", "add", "--quiet", "--force", "--force", *target, timeout=LONG_TIMEOUT)
    _put_submodules_back(repository, checkout)


def _put_submodules_aside(repository: Path, checkout: Path) -> None:
    """Save the commits of submodules from git, which makes its folder for the checkout anew when the checkout was deleted."""
    admin, aside = admin_folder(repository, checkout), _aside(repository, checkout)
    if admin is not None and (admin / "modules").is_dir() and not aside.exists():
        (admin / "modules").rename(aside)


def _put_submodules_back(repository: Path, checkout: Path) -> None:
    admin, aside = admin_folder(repository, checkout), _aside(repository, checkout)
    if admin is not None and aside.exists() and not (admin / "modules").exists():
        aside.rename(admin / "modules")


def _aside(repository: Path, checkout: Path) -> Path:
    return store(repository) / f"studio-modules-{checkout.name}"


def owns_checkout(repository: Path, checkout: Path) -> bool:
    """Whether `checkout` is a complete checkout of this repository; repairs its link when only that is missing."""
    admin = admin_folder(repository, checkout)
    if admin is None or _begun(admin) or not checkout.is_dir():
        return False
    link = checkout / ".git"
    if not os.path.lexists(link):
        git(repository, "worktree", "repair", ok=(0, 1))
    if link.is_symlink() or not link.is_file() or link.stat().st_uid != os.getuid():
        return False
    pointer = name(link.read_bytes()[:4096].strip()).removeprefix("gitdir: ")
    return Path(checkout, pointer).resolve() == admin.resolve()


def is_unfinished(repository: Path, checkout: Path) -> bool:
    """Whether making `checkout` was begun and not ended, so that nobody has worked in it yet."""
    admin = admin_folder(repository, checkout)
    return admin is not None and _begun(admin)


def _begun(admin: Path) -> bool:
    """git marks a worktree as locked, with this word as the reason, until its files are complete."""
    lock = admin / "locked"
    return not (admin / "index").exists() or (lock.exists() and lock.read_bytes().startswith(b"initializing"))


def admin_folder(repository: Path, checkout: Path) -> Path | None:
    """Where the repository keeps the state of this checkout; None when it does not know it."""
    folder = store(repository) / "worktrees"
    if not folder.is_dir():
        return None
    for entry in folder.iterdir():
        pointer = entry / "gitdir"
        if pointer.is_file() and Path(name(pointer.read_bytes().strip())) == checkout / ".git":
            return entry
    return None


def worktrees(repository: Path) -> list[dict[str, str]]:
    """Every checkout of the repository that exists on disk: its path under `worktree`, `HEAD`, `branch`, …"""
    found = []
    for block in git(repository, "worktree", "list", "--porcelain", "-z").stdout.split(b"\0\0"):
        rows = dict(row.partition(" ")[::2] for row in names(block))
        if rows and "bare" not in rows and Path(rows["worktree"]).is_dir():
            found.append(rows)
    return found


def _checkout_on(repository: Path, branch: str, besides: Path) -> str:
    for row in worktrees(repository):
        if row.get("branch") == f"refs/heads/{branch}" and Path(row["worktree"]) != besides:
            return row["worktree"]
    return ""


def remove_checkout(repository: Path, checkout: Path) -> None:
    """Forget and delete the checkout with all that is in it. A missing one is fine.

    It goes out of its place whole: one that is half deleted would be taken for somebody's work by the next try.
    """
    gone = out_of_place(checkout)
    admin = admin_folder(repository, checkout)
    if admin is not None:
        forget_exclude(repository, admin)
        git(repository, "worktree", "remove", "--force", "--force", "--end-of-options", str(checkout))
    delete_tree(gone)


def delete_branch(repository: Path, branch: str, at: str) -> None:
    """Delete `branch` and what was kept beside it, if it still points at `at`."""
    if tip(repository, branch) == at:
        git(repository, "update-ref", "-d", f"refs/heads/{branch}", at)
    for ref, commit in _kept(repository, branch):
        git(repository, "update-ref", "-d", ref, commit)


def _kept(repository: Path, branch: str) -> list[tuple[str, str]]:
    """Former tips of the branch that its present one does not contain, as (ref, commit)."""
    listing = git(repository, "for-each-ref", "--format=%(refname) %(objectname)", f"{KEPT_REFS}/{branch}").stdout
    return [(ref, commit) for ref, _, commit in (name(row).partition(" ") for row in listing.splitlines())]


def commit_all(checkout: Path, branch: str, message: str, author: Person) -> str:
    """Commit everything that is in the checkout, if anything, onto `branch`; the commit that holds all of it.

    What is in the checkout counts, whatever git operation was left unfinished in it. Repositories inside the checkout are
    left out: their files could not be merged. So is what the studio put there (see `git_exclude`).
    """
    unlock(checkout)
    if clean := _clean_head(checkout, branch):
        return clean
    excluded = [f":(top,exclude,literal){path.rstrip('/')}" for path in _left_out(checkout)]
    options = ("--all", "--pathspec-from-file=-", "--pathspec-file-nul")
    git(checkout, "add", *options, given=listed([":/", *excluded]), timeout=LONG_TIMEOUT)
    before = commit_of(checkout, "HEAD")
    if before is not None and _branch_of(checkout) not in ("", branch):
        # The agent switched to another branch, perhaps a person's: that one is not ours to commit to.
        git(checkout, "update-ref", "--no-deref", "-m", "opencode-studio: off the branch", "HEAD", before)
    tree = line(checkout, "write-tree")
    merging = (git_folder(checkout) / "MERGE_HEAD").exists()
    if merging or before is None or line(checkout, "rev-parse", f"{before}^{{tree}}") != tree:
        given = os.fsencode(message.strip() or "Work in progress") + b"\n"
        how = ("--quiet", "--no-verify", "--no-gpg-sign", "--allow-empty", "--cleanup=whitespace", "--file=-")
        git(checkout, "commit", *how, given=given, env=authored(author), timeout=LONG_TIMEOUT)
    head = line(checkout, "rev-parse", "HEAD")
    _attach(checkout, branch, head)
    return head


def _clean_head(checkout: Path, branch: str) -> str:
    """The commit of a checkout that is on `branch` with nothing to commit and nothing begun; empty for any other.

    One look in place of the ten that committing takes: most checkouts are clean when they are merged.
    """
    if operation(checkout):
        return ""
    asked = ("--porcelain=v2", "--branch", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=dirty")
    rows = names(git(checkout, "status", *asked, timeout=LONG_TIMEOUT).stdout)
    facts = dict(row[2:].split(" ", 1) for row in rows if row.startswith("# "))
    head = facts.get("branch.oid", "")
    clean = len(facts) == len(rows) and facts.get("branch.head") == branch
    return head if clean and head.isalnum() else ""  # "(initial)" before the first commit


def _branch_of(checkout: Path) -> str:
    """The branch that the checkout is on; empty when it is on none."""
    return name(git(checkout, "symbolic-ref", "--quiet", "HEAD", ok=(0, 1)).stdout.strip()).removeprefix("refs/heads/")


def _attach(checkout: Path, branch: str, head: str) -> None:
    """Put the checkout back on its branch, at `head`. A former tip that `head` does not contain is kept under a ref."""
    if _branch_of(checkout) == branch:
        return
    full = f"refs/heads/{branch}"
    for begun in ("rebase-merge", "rebase-apply"):
        if (git_folder(checkout) / begun).exists():
            git(checkout, "rebase", "--quit")
    former = tip(checkout, branch)
    if former is not None and not contains(checkout, head, former):
        git(checkout, "update-ref", f"{KEPT_REFS}/{branch}/{former[:12]}", former)
    git(checkout, "update-ref", "-m", "opencode-studio: what is in the checkout counts", full, head)
    git(checkout, "symbolic-ref", "-m", "opencode-studio: back on its branch", "HEAD", full)


def unlock(checkout: Path) -> None:
    """Remove an index lock that a killed process left in our checkout; wait for one that is in use."""
    lock = git_folder(checkout) / "index.lock"
    deadline = time.monotonic() + LOCK_PATIENCE
    while lock.exists():
        if time.time() - lock.stat().st_mtime > LOCK_PATIENCE:
            log.warning("stale_index_lock", path=str(lock))
            lock.unlink(missing_ok=True)
        elif time.monotonic() > deadline:
            raise GitError("Another git command holds the lock of the checkout's index.", transient=True)
        else:
            time.sleep(0.1)


def _left_out(checkout: Path) -> list[str]:
    """What is untracked and not to be committed. git refuses to be told of what it ignores anyway, even to leave it out."""
    own = drop_excluded(checkout)
    others = names(git(checkout, "ls-files", "--others", "--exclude-standard", "-z").stdout)
    seen, among = places_of(others, own), set(own)
    return [*seen, *(path for path in others if path.endswith("/") and not place_of(path, among))]


def nested_repositories(checkout: Path) -> list[str]:
    """Folders whose work no commit of the checkout can hold, each ending with a slash.

    Untracked ones that are repositories of their own, and submodules with something that none of their remotes has.
    """
    listing = git(checkout, "ls-files", "--others", "--exclude-standard", "-z").stdout
    own = set(excluded_paths(checkout))
    untracked = [path for path in names(listing) if path.endswith("/") and path.rstrip("/") not in own]
    return [*untracked, *worked_in(checkout)]


def ignored(checkout: Path) -> list[str]:
    """What is ignored in the checkout: files, and folders that are ignored whole, ending with a slash."""
    return [*git_exclude.ignored(checkout), *ignored_inside(checkout)]


def export(
    repository: Path, branch: str, base: str, head: str, folder: Path, stem: str, *, merged: bool
) -> Path | None:
    """Keep what would be lost with the branch, below `folder`, as a patch and a bundle; one of the two, None without any."""
    refs = [ref for ref, _ in _kept(repository, branch)]
    unmerged = not merged and head != base
    if not (unmerged or refs):
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    patch, bundle = folder / f"{stem}.patch", folder / f"{stem}.bundle"
    wanted = [f"refs/heads/{branch}", *refs] if head != base else refs
    options = ("bundle", "create", "--quiet", str(bundle), *wanted, f"^{base}")
    git(repository, *options, timeout=LONG_TIMEOUT)
    if not unmerged:
        return bundle
    form = ("--binary", "--full-index", "--src-prefix=a/", "--dst-prefix=b/", "--no-ext-diff", "--no-textconv")
    git(repository, "diff", "--no-color", *form, f"--output={patch}", base, head, timeout=LONG_TIMEOUT)
    return patch
