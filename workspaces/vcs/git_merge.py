"""Merging without a checkout: `git merge-tree` computes trees, commits are written from them, no branch moves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from workspaces.vcs.git_command import LONG_TIMEOUT, git, line, name, names
from workspaces.vcs.git_commit import Refused, commit_tree, demands, people, signs, write_commit
from workspaces.vcs.git_inspect import common
from workspaces.vcs.merging import MergeRequest, MergeResult

REPLAY_LIMIT = 500  # commits that one rebase takes on
SHOWN = "--format=format:%an%x00%ae%x00%ad%x00%B"


class Conflicted(Exception):
    """Two sides changed the same place. `ours` and `theirs` are the commits of it; empty when it has none."""

    def __init__(self, files: list[str], ours: str = "", theirs: str = "") -> None:
        super().__init__(", ".join(files))
        self.files = files
        self.ours = ours
        self.theirs = theirs


def compute_merge(repository: Path, request: MergeRequest) -> MergeResult:
    """Merge without a checkout: objects are written, no branch moves. The same request gives the same commit.

    A signature is the exception: made again it may differ, so the caller keeps the commit it got first.
    """
    try:
        return merge_or_raise(repository, request)
    except Conflicted as conflict:
        return MergeResult(conflicts=tuple(conflict.files))
    except Refused as refused:
        return MergeResult(refusal=str(refused))


def merge_or_raise(repository: Path, request: MergeRequest) -> MergeResult:
    """The same, but raises Conflicted and Refused."""
    if request.how == "rebase":
        needless = _needless(request, common(repository, request.target, request.source))
        return needless or rebased(repository, request, sign=request.signed and signs(repository))
    with ThreadPoolExecutor() as at_once:  # three questions of which none needs another's answer
        shared = at_once.submit(common, repository, request.target, request.source)
        merged = at_once.submit(merged_tree, repository, request.target, request.source)
        demanded = at_once.submit(demands, repository, request)
    if needless := _needless(request, shared.result()):
        return needless
    tree = merged.result()
    if request.how == "squash" and tree == tree_of(repository, request.target):
        return MergeResult(commit=request.target)
    parents = [request.target] if request.how == "squash" else [request.target, request.source]
    return MergeResult(commit=write_commit(repository, request, demanded.result(), tree, parents))


def _needless(request: MergeRequest, base: str | None) -> MergeResult | None:
    """The result where nothing is to be merged, or nothing can be; `base` is the newest commit that both sides have."""
    if base == request.source:
        return MergeResult(commit=request.target)
    if not base:
        return MergeResult(refusal="The workspace's branch and its target have no commit in common.")
    return None


def rebased(repository: Path, request: MergeRequest, *, sign: bool) -> MergeResult:
    """Replay the commits of the source that the target lacks, one by one, as `git rebase` does: merges are left out.

    Raises Conflicted.
    """
    between = f"{request.target}..{request.source}"
    order = ("rev-list", "--reverse", "--topo-order")
    commits = git(repository, *order, "--no-merges", between).stdout.decode().split()
    if len(commits) > REPLAY_LIMIT:
        return MergeResult(refusal=f"{len(commits)} commits are too many to rebase; use merge or squash.")
    tip = request.target
    for commit in commits:
        tip = _replay(repository, request, commit, tip, sign=sign)
    has_merges = bool(git(repository, "rev-list", "--merges", "--max-count=1", between).stdout)
    if has_merges and tree_of(repository, tip) != merged_tree(repository, request.target, request.source):
        return MergeResult(
            refusal="The branch contains merges whose content a rebase would lose; use merge or squash instead."
        )
    return MergeResult(commit=tip)


def _replay(repository: Path, request: MergeRequest, commit: str, onto: str, *, sign: bool) -> str:
    """`commit` again on top of `onto`, with its own author and message; `onto` when it brings nothing new."""
    parents = line(repository, "rev-list", "--parents", "--max-count=1", commit).split()[1:]
    if not parents:
        raise Conflicted(["(a commit without a parent cannot be rebased)"])
    tree = merged_tree(repository, stand_in(repository, onto, parents[0], people(request)), commit)
    if tree == tree_of(repository, onto):
        return onto
    raw = git(
        repository, "show", "--no-patch", "--no-show-signature", "--date=raw", "--encoding=UTF-8", SHOWN, commit
    ).stdout
    author, email, date, message = raw.split(b"\0", 3)
    identity = {
        **people(request),
        "GIT_AUTHOR_NAME": name(author),
        "GIT_AUTHOR_EMAIL": name(email),
        "GIT_AUTHOR_DATE": f"@{date.decode()}",
    }
    return commit_tree(repository, tree, [onto], message.rstrip(b"\n") + b"\n", identity, sign=sign)


def stand_in(repository: Path, content: str, base: str, identity: dict[str, str]) -> str:
    """A commit with the tree of `content` that counts as made from `base`.

    merge-tree takes the common ancestor from the history, and older ones cannot be told another: merged with what
    descends from `base`, this commit makes `base` the common ancestor.
    """
    return line(repository, "commit-tree", f"{content}^{{tree}}", "-p", base, "-m", "-", env=identity)


def merged_tree(repository: Path, ours: str, theirs: str) -> str:
    """The tree of a merge without conflict. Raises Conflicted."""
    options = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages")
    done = git(repository, *options, ours, theirs, ok=(0, 1), timeout=LONG_TIMEOUT)
    tree, *files = names(done.stdout)
    if done.code == 1:
        raise Conflicted(list(dict.fromkeys(files)), ours, theirs)
    return tree.strip()


def tree_of(repository: Path, commit: str) -> str:
    """The tree of a commit."""
    return line(repository, "rev-parse", f"{commit}^{{tree}}")
