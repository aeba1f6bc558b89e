"""What of a workspace is merged: what its target branch contains, and what a merge that is written down brought there.

A squash or a rebase leaves other commits on the target than those of the branch, so ancestry alone would call finished work not
merged. A recorded merge counts for exactly the commits that it merged, as long as the branch that it went to still has its
result and nobody took it back. In doubt something is not merged: then it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.db.models import QuerySet

from workspaces.models import MergeAttempt, MergedHow, MergeKind, MergeState, PullRequestState, Workspace
from workspaces.vcs import vcs_named
from workspaces.vcs.base import Vcs, VcsError

RECENT = 20  # recorded merges that are looked at; a task has one or two


@dataclass(frozen=True, slots=True)
class Standing:
    """How a workspace stands against what is merged. `beyond`: its commits that are merged nowhere."""

    beyond: int
    how: MergedHow | None = None  # of the newest recorded merge that counts
    commit: str = ""  # what that one made of the target


@dataclass(frozen=True, slots=True)
class _Recorded:
    how: MergedHow
    source: str
    target: str  # a branch
    result: str


def standing_of(row: Workspace, head: str) -> Standing:
    """How the workspace stands whose last commit is `head`, a commit that is there."""
    vcs, repository = vcs_named(row.project.vcs), Path(row.project.path)
    counted = [one for one in _recorded(row) if _is_still_there(vcs, repository, one)]
    target = vcs.tip(repository, row.base_branch)
    merged = [row.base_commit, target, *(one.source for one in counted)]
    beyond = vcs.count_beyond(repository, head, [commit for commit in merged if commit])
    newest = counted[0] if counted else None
    if newest is not None:
        return Standing(beyond, newest.how, newest.result)
    if beyond == 0 and (taken_back := _merges(row).filter(reverted_by__state=MergeState.MERGED).first()):
        # Its commits are in the history of the target, so nothing is lost with the branch.
        return Standing(beyond, MergedHow.TAKEN_BACK, taken_back.result_commit)
    return Standing(beyond)


def _merges(row: Workspace) -> QuerySet[MergeAttempt]:
    return MergeAttempt.objects.filter(workspace=row, kind=MergeKind.MERGE, state=MergeState.MERGED).order_by(
        "-settled_at"
    )


def _recorded(row: Workspace) -> Iterator[_Recorded]:
    """The merges that are written down and were not taken back, the newest first; a merged pull request is one."""
    pulls = row.pull_requests.filter(state=PullRequestState.MERGED).exclude(head_commit="").exclude(merge_commit="")
    for pull in pulls.order_by("-settled_at")[:RECENT]:
        yield _Recorded(MergedHow.PULL_REQUEST, pull.head_commit, pull.base_branch, pull.merge_commit)
    merges = _merges(row).exclude(reverted_by__state=MergeState.MERGED)
    for merge in merges.exclude(source_commit="").exclude(result_commit="")[:RECENT]:
        yield _Recorded(MergedHow(merge.how), merge.source_commit, merge.target_branch, merge.result_commit)


def _is_still_there(vcs: Vcs, repository: Path, merge: _Recorded) -> bool:
    """Whether the branch that the merge went to has its result. One that was put back has lost it."""
    try:
        tip = vcs.tip(repository, merge.target)
        return tip is not None and vcs.contains(repository, tip, merge.result)
    except VcsError:
        return False
