"""Bringing a target branch into one of our checkouts, with conflicts left in the files for somebody to resolve."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import structlog

from studio.kernel.clock import now
from studio.kernel.text import clean, cut
from workspaces.vcs.base import VcsError
from workspaces.vcs.git_checkout import KEPT_REFS, commit_all
from workspaces.vcs.git_command import (
    LONG_TIMEOUT,
    SAID_LIMIT,
    authored,
    commit_of,
    configured,
    git,
    git_folder,
    line,
    names,
)
from workspaces.vcs.git_inspect import contains
from workspaces.vcs.git_merge import Conflicted, rebased
from workspaces.vcs.merging import MergeRequest, Person, Update

log = structlog.get_logger(__name__)

BEGUN = "studio-update"  # in the checkout's git folder: the commit that an update began at, until it is complete
BACK = "studio-update-back"  # that file, once it is certain that the checkout goes back to there
# Nothing of what a person's configuration may say about merges belongs into an agent's checkout.
QUIET = (
    "--ff", "--no-edit", "--no-stat", "--no-verify", "--no-verify-signatures", "--no-gpg-sign", "--no-autostash",
    "--no-rerere-autoupdate", "--strategy=ort",
)  # fmt: skip


def update_checkout(checkout: Path, branch: str, target: str, how: str, author: Person) -> Update:
    """Bring `target` (a commit) into the checkout by `how` (merge, rebase); what is uncommitted is committed first.

    Conflicts are left in the files with markers for somebody to resolve; `commit_all` then ends the operation. Again
    after a crash it gives the same; when it fails, the checkout is put back. A rebase whose commits conflict one by one
    becomes one commit on top of the target; the commits themselves stay under a ref of the studio.
    """
    take_back_update(checkout, branch, author)
    waiting = conflicted(checkout)
    if waiting and _is_under_way(checkout, target):
        return Update(line(checkout, "rev-parse", "HEAD"), tuple(waiting))
    head = commit_all(checkout, branch, "What was not committed before the update", author)
    if contains(checkout, head, target):
        return Update(head)
    _begin(checkout, head)
    try:
        if how == "rebase":
            _rebase(checkout, branch, head, target, author)
        else:
            _merge(checkout, target, author, f"Merge {target[:12]} into {branch}")
    except Exception:
        with contextlib.suppress(VcsError, OSError):  # whoever comes next tries again
            take_back_update(checkout, branch, author)
        raise
    found = conflicted(checkout)
    if not found:
        head = commit_all(checkout, branch, f"Bring {branch} up to date", author)
    (git_folder(checkout) / BEGUN).unlink(missing_ok=True)
    return Update(line(checkout, "rev-parse", "HEAD") if found else head, tuple(found))


def conflicted(checkout: Path) -> list[str]:
    """The files that are in conflict in the checkout's index."""
    rows = git(checkout, "ls-files", "--unmerged", "-z").stdout
    return list(dict.fromkeys(row.partition("\t")[2] for row in names(rows)))


def restore_checkout(checkout: Path, branch: str, commit: str, author: Person) -> str:
    """Put the checkout back to `commit`; what it held since then stays under a ref of the studio. The commit."""
    held = commit_all(checkout, branch, "What was there before it was put back", author)
    if held != commit:
        git(checkout, "update-ref", f"{KEPT_REFS}/{branch}/{held[:12]}", held)
        git(checkout, "reset", "--quiet", "--hard", commit, timeout=LONG_TIMEOUT)
    for marker in (BEGUN, BACK):
        (git_folder(checkout) / marker).unlink(missing_ok=True)
    return commit


def take_back_update(checkout: Path, branch: str, author: Person) -> None:
    """Put the checkout back to where an update began that failed or was killed half-way; nothing without one.

    What it held since then stays under a ref of the studio. Commits that somebody made on top meanwhile count, and stay.
    """
    begun, back = (git_folder(checkout) / marker for marker in (BEGUN, BACK))
    marker = next((one for one in (back, begun) if one.exists()), None)
    if marker is None:
        return
    head = marker.read_text().strip()
    if commit_of(checkout, head) is None:
        raise VcsError(f"{marker} does not name a commit; delete it by hand.")
    (git_folder(checkout) / "index.lock").unlink(missing_ok=True)
    if marker == begun:
        at = commit_of(checkout, "HEAD")
        if at is not None and at != head and contains(checkout, at, head):
            begun.unlink()
            return
        # What is there is committed before it goes: a crash after that must not take the commit for somebody's.
        begun.rename(back)
    log.warning("update_taken_back", path=str(checkout), head=head)
    restore_checkout(checkout, branch, head, author)


def _begin(checkout: Path, head: str) -> None:
    """Write down where an update begins, wholly or not at all."""
    begun = git_folder(checkout) / BEGUN
    scratch = begun.with_name(f"{BEGUN}.{os.getpid()}")
    scratch.write_text(head)
    scratch.replace(begun)


def _is_under_way(checkout: Path, target: str) -> bool:
    """Whether the conflicts in the checkout are those with `target`, by a merge or on top of it."""
    return commit_of(checkout, "MERGE_HEAD") == target or contains(checkout, "HEAD", target)


def _merge(checkout: Path, target: str, author: Person, message: str) -> None:
    command = ("merge", "--quiet", *QUIET, "-m", message, "--end-of-options", target)
    done = git(checkout, *command, ok=(0, 1, 2, 128), env=_environment(author), timeout=LONG_TIMEOUT)
    if done.code and not conflicted(checkout):
        said = cut(clean(done.stderr.decode("utf-8", "replace")).strip(), SAID_LIMIT)
        raise VcsError(f"The checkout could not be brought up to date: {said}")


def _rebase(checkout: Path, branch: str, head: str, target: str, author: Person) -> None:
    """On top of the target: the commits one by one where they do not conflict, else the whole change at once."""
    request = MergeRequest("rebase", target, head, "", author, author, now())
    try:
        onto = rebased(checkout, request, sign=False).commit
    except Conflicted:
        onto = ""
    git(checkout, "update-ref", f"{KEPT_REFS}/{branch}/{head[:12]}", head)
    git(checkout, "reset", "--quiet", "--hard", onto or target, timeout=LONG_TIMEOUT)
    if not onto:
        command = ("merge", "--quiet", "--squash", *QUIET, "--end-of-options", head)
        git(checkout, *command, ok=(0, 1), env=_environment(author), timeout=LONG_TIMEOUT)


def _environment(author: Person) -> dict[str, str]:
    return authored(author) | configured([("merge.conflictStyle", "zdiff3"), ("rerere.enabled", "false")])
