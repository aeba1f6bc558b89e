"""Taking a merge back without a checkout: the reverse of what it changed, as a new commit on top of the target."""

from __future__ import annotations

from pathlib import Path

from workspaces.vcs.git_commit import Refused, demands, people, write_commit
from workspaces.vcs.git_inspect import contains
from workspaces.vcs.git_merge import Conflicted, merged_tree, stand_in, tree_of
from workspaces.vcs.merging import MergeResult, RevertRequest


def compute_revert(repository: Path, request: RevertRequest) -> MergeResult:
    """Take a merge back without a checkout, as a new commit on the target. The same request gives the same commit.

    It is a merge of the target with "the merge's result, made into what was before it". The commit is the target itself
    when nothing of the merge is left to take back.
    """
    if not contains(repository, request.target, request.after):
        return MergeResult(refusal="The branch does not contain this merge any more: somebody has moved it back.")
    try:
        reverse = stand_in(repository, request.before, request.after, people(request))
        tree = merged_tree(repository, request.target, reverse)
        if tree == tree_of(repository, request.target):
            return MergeResult(commit=request.target)
        asked = demands(repository, request)
        return MergeResult(commit=write_commit(repository, request, asked, tree, [request.target]))
    except Conflicted as conflict:
        return MergeResult(conflicts=tuple(conflict.files))
    except Refused as refused:
        return MergeResult(refusal=str(refused))
