"""What an attempt comes to: the commit that its branch should move to, or why there is none. No branch moves here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from studio.kernel.text import cut
from workspaces.locks import held
from workspaces.models import MergeAttempt, MergeKind, MergeState, WorkspaceState
from workspaces.services.checkouts import AGENT_EMAIL, commit_locked, opened
from workspaces.services.merges import markers
from workspaces.vcs.base import Vcs, readable
from workspaces.vcs.merging import MergeRequest, MergeResult, Person, RevertRequest

LOCK_PATIENCE = 5.0  # seconds to wait for whoever else is in the workspace
CONFLICTS_KEPT = 200
REFUSED = "merge_refused"
CONFLICT = "merge_conflict"


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an attempt ends. `commits` are fields of the row that the end is the first to know."""

    state: MergeState
    error_code: str = ""
    error: str = ""
    conflicts: tuple[str, ...] = ()
    note: str = ""
    commits: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Computed:
    """What is to be recorded before the branch moves."""

    source: str
    result: str


def compute(attempt: MergeAttempt, vcs: Vcs, repository: Path, tip: str) -> Computed | Settlement:
    """Compute the attempt's result on top of `tip`, the target branch's present commit."""
    author = _author_of(attempt, vcs, repository)
    if attempt.kind == MergeKind.REVERT:
        return _revert(attempt, vcs, repository, tip, author)
    return _merge(attempt, vcs, repository, tip, author)


def _merge(attempt: MergeAttempt, vcs: Vcs, repository: Path, tip: str, author: Person) -> Computed | Settlement:
    workspace = attempt.workspace
    if workspace.state != WorkspaceState.READY:
        return Settlement(MergeState.REFUSED, REFUSED, workspace.absence)
    with held(f"workspace:{workspace.pk}", patience=LOCK_PATIENCE), opened(workspace, to_commit=True) as (_, path):
        # What is shown as the change is what is merged: nothing may be left uncommitted.
        source = commit_locked(workspace, vcs, path, attempt.message, author)
    if source == workspace.base_commit:
        text = f"There is nothing to merge: {workspace.label} does not differ from {attempt.target_branch}."
        return Settlement(MergeState.REFUSED, REFUSED, text)
    request = MergeRequest(
        how=attempt.how,
        target=tip,
        source=source,
        message=attempt.message,
        author=author,
        committer=author,
        at=attempt.created_at,
        hooks=workspace.project.trusted,
    )
    result = vcs.compute_merge(repository, request)
    if result.commit not in ("", tip):
        left = markers.marked_files(workspace, vcs, repository, tip, result.commit)
        if left := [file for file in left if file not in attempt.meant]:
            return Settlement(MergeState.REFUSED, markers.MARKED, markers.refusal(left))
    return _judged(attempt, result, source, tip)


def _revert(attempt: MergeAttempt, vcs: Vcs, repository: Path, tip: str, author: Person) -> Computed | Settlement:
    merge = attempt.reverts
    if merge is None:
        return Settlement(MergeState.REFUSED, REFUSED, "What was merged is not known any more.")
    request = RevertRequest(
        target=tip,
        before=merge.target_before,
        after=merge.result_commit,
        message=attempt.message,
        author=author,
        committer=author,
        at=attempt.created_at,
        hooks=attempt.workspace.project.trusted,
    )
    return _judged(attempt, vcs.compute_revert(repository, request), merge.result_commit, tip)


def _judged(attempt: MergeAttempt, result: MergeResult, source: str, tip: str) -> Computed | Settlement:
    if result.conflicts:
        files = tuple(cut(readable(file), 1_000) for file in result.conflicts)
        count = "1 file conflicts" if len(files) == 1 else f"{len(files)} files conflict"
        text = f"{count} with {attempt.target_branch}; nothing was moved."
        commits = {"source_commit": source, "target_before": tip}
        return Settlement(MergeState.CONFLICTED, CONFLICT, text, files[:CONFLICTS_KEPT], commits=commits)
    if result.refusal:
        return Settlement(MergeState.REFUSED, REFUSED, result.refusal)
    return Computed(source, result.commit)


def restore(attempt: MergeAttempt) -> Settlement:
    """Put the workspace's checkout back to the attempt's commit; what it held since then stays reachable."""
    workspace = attempt.workspace
    if workspace.state != WorkspaceState.READY:
        return Settlement(MergeState.REFUSED, REFUSED, workspace.absence)
    author = Person("OpenCode Studio", AGENT_EMAIL)
    with held(f"workspace:{workspace.pk}", patience=LOCK_PATIENCE), opened(workspace) as (vcs, path):
        vcs.restore_checkout(path, workspace.branch, attempt.source_commit, author)
        commit_locked(workspace, vcs, path, "", author)
    return Settlement(MergeState.MERGED)


def _author_of(attempt: MergeAttempt, vcs: Vcs, repository: Path) -> Person:
    """Who merges: the account where it has an e-mail address, else whom the repository's configuration names."""
    if attempt.author_email:
        return Person(attempt.author_name, attempt.author_email)
    return vcs.identity(repository) or Person(attempt.author_name, AGENT_EMAIL)
