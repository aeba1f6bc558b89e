"""Moving a branch that people may have checked out: checked first, brought along, then moved with a compare-and-swap.

The order is: the clean checkouts that are on the branch are brought to the new commit, then the branch is moved. A crash in
between leaves a checkout whose files and index are the new commit's while the branch is still the old one; calling again
with `resuming` recognises that and goes on. When the branch cannot be moved after all, the checkouts are taken back.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from studio.kernel.text import ended
from workspaces.vcs.base import Blocked, Raced, readable
from workspaces.vcs.git_checkout import worktrees
from workspaces.vcs.git_command import LONG_TIMEOUT, GitError, git, git_folder, listed, names
from workspaces.vcs.git_commit import HOOK_TIMEOUT
from workspaces.vcs.git_inspect import dirty_files, operation, tip
from workspaces.vcs.merging import BranchCheckout

log = structlog.get_logger(__name__)

PATIENCE = 3.0  # seconds to wait for another git command in a person's checkout
NAMED = 10  # files that a refusal names


def advance_branch(
    repository: Path, branch: str, old: str, new: str, *, reason: str, resuming: bool, hooks: bool = False
) -> list[Path]:
    """Move `branch` from `old` to `new` and bring along the clean checkouts that are on it; their paths.

    `resuming`: an earlier call may have died half-way. Raises Raced when the branch is elsewhere and Blocked when a
    checkout, or a hook about branches, is in the way; then nothing has moved.
    """
    checkouts = _checkouts_on(repository, branch)
    if tip(repository, branch) != old:
        raise Raced
    moved: list[Path] = []
    try:
        for checkout in checkouts:
            _require_free(checkout, old, new, resuming=resuming)
        for checkout in checkouts:
            _bring(checkout, old, new)
            moved.append(checkout)
        _move(repository, branch, old, new, reason, hooks=hooks)
    except (Blocked, GitError) as error:
        now = tip(repository, branch)
        if now == new:
            return checkouts
        for checkout in checkouts if resuming else moved:
            _take_back(checkout, new, now or old)
        if now != old:
            raise Raced from error
        raise
    if hooks:
        for checkout in checkouts:
            _after_merge(checkout)
    return checkouts


def checkouts_on(repository: Path, branch: str) -> list[BranchCheckout]:
    """The checkouts that follow `branch`, and what stands in the way there. Nothing is touched."""
    full = f"refs/heads/{branch}"
    rows = [row for row in worktrees(repository) if row.get("branch") == full]
    return [
        BranchCheckout(Path(row["worktree"]), dirty_files(Path(row["worktree"])), operation(Path(row["worktree"])))
        for row in rows
    ]


def _move(repository: Path, branch: str, old: str, new: str, reason: str, *, hooks: bool) -> None:
    """Move the branch with a compare-and-swap. Raises Blocked when the repository's hook refuses."""
    command = ("update-ref", "-m", f"opencode-studio: {reason}", f"refs/heads/{branch}", new, old)
    try:
        git(repository, *command, as_configured=hooks, timeout=HOOK_TIMEOUT)
    except GitError as error:
        if hooks and "hook" in error.said:
            raise Blocked(
                f"The repository's hook reference-transaction refused the new commit: {ended(error.said)}"
            ) from error
        raise


def _after_merge(checkout: Path) -> None:
    """Run the post-merge hook in a person's checkout that now shows the merge, as `git merge` would. It cannot refuse."""
    try:
        git(
            checkout,
            *("hook", "run", "--ignore-missing", "post-merge", "--", "0"),
            ok=range(256),
            timeout=HOOK_TIMEOUT,
            as_configured=True,
        )
    except GitError as error:
        log.warning("post_merge_hook_failed", checkout=str(checkout), error=error.message)


def moved_note(repository: Path, branch: str, new: str) -> str:
    """Nothing: the checkouts on the branch were brought along, and that is said of each."""
    del repository, branch, new
    return ""


def _checkouts_on(repository: Path, branch: str) -> list[Path]:
    """The checkouts that are on `branch`. Raises Blocked when one of them is in the middle of something."""
    full = f"refs/heads/{branch}"
    found = []
    for row in worktrees(repository):
        checkout = Path(row["worktree"])
        if row.get("branch", full) != full:
            continue
        begun = operation(checkout)
        if "branch" in row:
            if begun:
                raise Blocked(f"In {readable(checkout)} a {begun} of {branch} has been begun and not ended.")
            found.append(checkout)
        elif begun == "rebase" and _rebased_branch(checkout) == full:
            raise Blocked(f"In {readable(checkout)} a rebase of {branch} has been begun and not ended.")
    return found


def _rebased_branch(checkout: Path) -> str:
    for begun in ("rebase-merge", "rebase-apply"):
        with contextlib.suppress(OSError):
            return os.fsdecode((git_folder(checkout) / begun / "head-name").read_bytes().strip())
    return ""


def _require_free(checkout: Path, old: str, new: str, *, resuming: bool) -> None:
    """Raise Blocked unless the checkout can follow the branch from `old` to `new` without losing anything."""
    _wait_for_lock(checkout)
    with ThreadPoolExecutor() as at_once:
        added = at_once.submit(_added, checkout, old, new)
        dirty = dirty_files(checkout)
    in_the_way = _overwritten(checkout, added.result())
    if resuming and (dirty or in_the_way):
        other = _differing(checkout, new)
        arrived = [path for path in (*dirty, *in_the_way) if path not in other]
        if arrived:
            options = ("update-index", "--add", "--remove", "-z", "--stdin")
            git(checkout, *options, given=listed(arrived))
        dirty, in_the_way = ([path for path in paths if path in other] for paths in (dirty, in_the_way))
    if dirty:
        raise Blocked(
            f"{readable(checkout)} has the branch checked out, with changes that are not committed: {_some(dirty)}. "
            "Commit, stash or undo them, then try again.",
            dirty,
        )
    if in_the_way:
        raise Blocked(
            f"{readable(checkout)} has the branch checked out, and the merge would overwrite files there that git does not "
            f"track: {_some(in_the_way)}. Move or remove them, then try again.",
            in_the_way,
        )


def _some(files: list[str]) -> str:
    shown = ", ".join(readable(file) for file in files[:NAMED])
    return shown if len(files) <= NAMED else f"{shown} and {len(files) - NAMED} more"


def _wait_for_lock(checkout: Path) -> None:
    lock = git_folder(checkout) / "index.lock"
    deadline = time.monotonic() + PATIENCE
    while lock.exists():
        if time.monotonic() > deadline:
            raise Blocked(
                f"Another git command is at work in {readable(checkout)}, or one was killed there and left {readable(lock)} behind. "
                "Wait for it, or delete that file when no git runs there; then try again."
            )
        time.sleep(0.05)


def _added(checkout: Path, old: str, new: str) -> list[str]:
    """The files that the new commit has and the old one has not."""
    options = ("-r", "--no-renames", "--diff-filter=A", "--name-only", "-z")
    return names(git(checkout, "diff-tree", *options, old, new).stdout)


def _overwritten(checkout: Path, added: list[str]) -> list[str]:
    """Untracked files of the checkout, ignored ones too, in whose place the new commit puts something."""
    found: list[str] = []
    for path in added:
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            place = "/".join(parts[:end])
            there = checkout / place
            if not os.path.lexists(there):
                break
            if there.is_dir() and not there.is_symlink():
                if end == len(parts):
                    found += names(_untracked(checkout, place))
            else:
                found += names(_untracked(checkout, place))
                break
    return list(dict.fromkeys(found))


def _untracked(checkout: Path, place: str) -> bytes:
    return git(checkout, "ls-files", "--others", "-z", "--", place, env={"GIT_LITERAL_PATHSPECS": "1"}).stdout


def _differing(checkout: Path, commit: str) -> set[str]:
    """The paths whose files in the checkout are not what `commit` has, as far as that has them at all, or has them not."""
    with tempfile.TemporaryDirectory(prefix="studio-index-") as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(checkout, "read-tree", commit, env=env)
        git(checkout, "update-index", "-q", "--refresh", env=env, ok=(0, 1), timeout=LONG_TIMEOUT)
        changed = names(git(checkout, "diff-files", "--name-only", "-z", env=env).stdout)
        extra = names(git(checkout, "ls-files", "--others", "-z", env=env).stdout)
    return {*changed, *extra}


def _bring(checkout: Path, old: str, new: str) -> None:
    """Bring files and index of a clean checkout from `old` to `new`; git itself refuses when it is not clean any more.

    Files that were touched and not changed look changed to it until the index has looked at all of them again, which takes
    long in a large checkout: that is done when it refuses, not each time.
    """
    command = ("read-tree", "-m", "-u", old, new)
    try:
        if git(checkout, *command, ok=(0, 128), timeout=LONG_TIMEOUT).code:
            git(checkout, "update-index", "-q", "--refresh", ok=(0, 1), timeout=LONG_TIMEOUT)
            git(checkout, *command, timeout=LONG_TIMEOUT)
    except GitError as error:
        if error.transient:
            raise
        raise Blocked(f"{readable(checkout)} could not be brought along: {error.said}") from error


def _take_back(checkout: Path, new: str, to: str) -> None:
    """Undo `_bring`, as far as nobody has touched the checkout meanwhile."""
    try:
        git(checkout, "read-tree", "-m", "-u", new, to, timeout=LONG_TIMEOUT)
    except GitError as error:
        log.warning("checkout_not_taken_back", checkout=str(checkout), error=error.message)
