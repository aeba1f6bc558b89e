"""Bringing a target into a jj workspace. Conflicts are first-class: the working-copy commit has them, its files show markers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from workspaces.vcs import git_merge
from workspaces.vcs.git_command import authored, git, line, write_commit
from workspaces.vcs.jj_command import LONG_TIMEOUT, jj
from workspaces.vcs.jj_commit import commit_all, keep_former, set_bookmark
from workspaces.vcs.jj_inspect import conflicted_files, contains, git_store, position, root, tip
from workspaces.vcs.jj_learn import learn
from workspaces.vcs.merging import MergeRequest, Person, Update


def update_checkout(checkout: Path, branch: str, target: str, how: str, author: Person) -> Update:
    """Bring `target` (a commit) into the checkout by `how` (merge, rebase); what is uncommitted is committed first.

    Again while its conflicts wait gives them again. A rebase that conflicts brings the commits along as one, so that there is
    one place to resolve.
    """
    if (waiting := _waiting(checkout, branch, target)) is not None:
        return waiting
    head = commit_all(checkout, branch, f"Work before {branch} was brought up to date", author)
    if contains(checkout, head, target):
        return Update(head)
    learn(checkout, target)
    if how == "rebase":
        return _rebase(checkout, branch, head, target, author)
    words = f"Merge {target[:12]} into {branch}"
    jj(checkout, "new", head, target, "--message", words, files=True, person=author, timeout=LONG_TIMEOUT)
    at = position(checkout)
    if at.conflicted:
        return Update(head, tuple(conflicted_files(checkout)))
    return Update(commit_all(checkout, branch, words, author))


def take_back_update(checkout: Path, branch: str, author: Person) -> None:
    """Nothing: each step of an update is one operation of jj, and the next snapshot mends what a killed one left of its files."""
    del checkout, branch, author


def restore_checkout(checkout: Path, branch: str, commit: str, author: Person) -> str:
    """Put the checkout back to `commit`; what it held since, uncommitted too, stays under a ref of the studio. The commit."""
    held = commit_all(checkout, branch, "What was there before it was put back", author)
    if held != commit:
        learn(checkout, commit)
        jj(checkout, "new", commit, files=True, timeout=LONG_TIMEOUT)
        keep_former(checkout, branch, commit)
        set_bookmark(root(checkout), branch, commit)
    return commit


def _waiting(checkout: Path, branch: str, target: str) -> Update | None:
    """The conflicts of an update that was begun with this very target."""
    at = position(checkout)
    if not at.conflicted or target not in at.parents:
        return None
    return Update(tip(checkout, branch) or at.parents[0], tuple(conflicted_files(checkout)))


def _rebase(checkout: Path, branch: str, head: str, target: str, author: Person) -> Update:
    commits = git_store(checkout)
    stamp = int(line(commits, "show", "--no-patch", "--format=%ct", head))
    at = datetime.fromtimestamp(stamp, UTC)
    result = git_merge.compute_merge(
        commits, MergeRequest("rebase", target, head, "", author, author, at, signed=False)
    )
    if result.commit:
        learn(checkout, result.commit)
        jj(checkout, "new", result.commit, files=True, timeout=LONG_TIMEOUT)
        keep_former(checkout, branch, result.commit)
        set_bookmark(root(checkout), branch, result.commit)
        return Update(result.commit)
    base = line(commits, "merge-base", head, target)
    one = _folded(commits, base, head, author, stamp)
    learn(checkout, one)
    jj(checkout, "edit", one, files=True)
    jj(checkout, "rebase", "--source", "@", "--destination", target, files=True, timeout=LONG_TIMEOUT)
    files = tuple(conflicted_files(checkout))
    return Update(head, files) if files else Update(commit_all(checkout, branch, "", author))


def _folded(commits: Path, base: str, head: str, author: Person, stamp: int) -> str:
    """All commits from `base` to `head` as one, with their messages."""
    words = git(commits, "log", "--reverse", "--format=%B", f"{base}..{head}").stdout.strip() or b"Work"
    return write_commit(commits, f"{head}^{{tree}}", [base], words + b"\n", authored(author, date=f"@{stamp} +0000"))
