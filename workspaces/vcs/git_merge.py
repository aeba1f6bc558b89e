"""Merging without a checkout: `git merge-tree` computes trees, `git commit-tree` writes commits, no branch moves."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

from studio.kernel.text import clean
from workspaces.vcs.base import MergeRequest, MergeResult, Person
from workspaces.vcs.git_command import LONG_TIMEOUT, git, line, name, names
from workspaces.vcs.git_inspect import contains

REPLAY_LIMIT = 500  # commits that one rebase takes on


class Conflicted(Exception):
    """Two sides changed the same place."""

    def __init__(self, files: list[str]) -> None:
        super().__init__(", ".join(files))
        self.files = files


def compute_merge(repository: Path, request: MergeRequest) -> MergeResult:
    """Merge without a checkout: objects are written, no branch moves. The same request gives the same commit."""
    if contains(repository, request.target, request.source):
        return MergeResult(commit=request.target)
    if not git(repository, "merge-base", request.target, request.source, ok=(0, 1)).stdout:
        return MergeResult(refusal="The workspace's branch and its target have no commit in common.")
    try:
        if request.how == "rebase":
            return _rebase(repository, request)
        tree = _merged_tree(repository, request.target, request.source)
    except Conflicted as conflict:
        return MergeResult(conflicts=tuple(conflict.files))
    if request.how == "squash":
        if tree == _tree(repository, request.target):
            return MergeResult(commit=request.target)
        return MergeResult(commit=_commit(repository, request, tree, [request.target]))
    return MergeResult(commit=_commit(repository, request, tree, [request.target, request.source]))


def _rebase(repository: Path, request: MergeRequest) -> MergeResult:
    """Replay the commits of the source that the target lacks, one by one, as `git rebase` does: merges are left out."""
    between = f"{request.target}..{request.source}"
    order = ("rev-list", "--reverse", "--topo-order")
    commits = git(repository, *order, "--no-merges", between).stdout.decode().split()
    if len(commits) > REPLAY_LIMIT:
        return MergeResult(refusal=f"{len(commits)} commits are too many to rebase; use merge or squash.")
    tip = request.target
    for commit in commits:
        tip = _replay(repository, request, commit, tip)
    has_merges = bool(git(repository, "rev-list", "--merges", "--max-count=1", between).stdout)
    if has_merges and _tree(repository, tip) != _merged_tree(repository, request.target, request.source):
        return MergeResult(
            refusal="The branch contains merges whose content a rebase would lose; use merge or squash instead."
        )
    return MergeResult(commit=tip)


def _replay(repository: Path, request: MergeRequest, commit: str, onto: str) -> str:
    """`commit` again on top of `onto`, with its own author and message; `onto` when it brings nothing new."""
    parents = line(repository, "rev-list", "--parents", "--max-count=1", commit).split()[1:]
    if not parents:
        raise Conflicted(["(a commit without a parent cannot be rebased)"])
    # merge-tree takes the common ancestor from the history, and older ones cannot be told another: a commit with the tree
    # of `onto` and the parent of `commit` makes that parent the common ancestor.
    stand_in = line(repository, "commit-tree", f"{onto}^{{tree}}", "-p", parents[0], "-m", "-", env=_people(request))
    tree = _merged_tree(repository, stand_in, commit)
    if tree == _tree(repository, onto):
        return onto
    raw = git(
        repository, "show", "--no-patch", "--no-show-signature", "--date=raw", "--encoding=UTF-8", SHOWN, commit
    ).stdout
    author, email, date, message = raw.split(b"\0", 3)
    identity = {
        **_people(request),
        "GIT_AUTHOR_NAME": name(author),
        "GIT_AUTHOR_EMAIL": name(email),
        "GIT_AUTHOR_DATE": f"@{date.decode()}",
    }
    options = ("commit-tree", tree, "-p", onto, "-F", "-")
    done = git(repository, *options, given=message.rstrip(b"\n") + b"\n", env=identity)
    return done.stdout.decode().strip()


SHOWN = "--format=format:%an%x00%ae%x00%ad%x00%B"


def _merged_tree(repository: Path, ours: str, theirs: str) -> str:
    """The tree of a merge without conflict. Raises Conflicted."""
    options = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages")
    done = git(repository, *options, ours, theirs, ok=(0, 1), timeout=LONG_TIMEOUT)
    tree, *files = names(done.stdout)
    if done.code == 1:
        raise Conflicted(list(dict.fromkeys(files)))
    return tree.strip()


def _tree(repository: Path, commit: str) -> str:
    return line(repository, "rev-parse", f"{commit}^{{tree}}")


def _commit(repository: Path, request: MergeRequest, tree: str, parents: list[str]) -> str:
    flags = [part for parent in parents for part in ("-p", parent)]
    given = (request.message.strip() or "Merge").encode("utf-8", "replace") + b"\n"
    done = git(repository, "commit-tree", tree, *flags, "-F", "-", given=given, env=_people(request))
    return done.stdout.decode().strip()


def _people(request: MergeRequest) -> dict[str, str]:
    """Author and committer with the request's date, so that computing it again gives the same commit."""
    date = f"@{int(request.at.astimezone(UTC).timestamp())} +0000"
    author, committer = _signable(request.author), _signable(request.committer)
    return {
        "GIT_AUTHOR_NAME": author.name,
        "GIT_AUTHOR_EMAIL": author.email,
        "GIT_AUTHOR_DATE": date,
        "GIT_COMMITTER_NAME": committer.name,
        "GIT_COMMITTER_EMAIL": committer.email,
        "GIT_COMMITTER_DATE": date,
    }


def _signable(person: Person) -> Person:
    """git refuses names that are empty once it has taken out what has a meaning in a commit."""
    plain = clean(person.name).translate(str.maketrans("", "", "<>\n")).strip(" .,:;\"'\\") or "OpenCode Studio"
    return Person(
        plain, clean(person.email).translate(str.maketrans("", "", "<>\n ")) or "studio@opencode-studio.invalid"
    )
