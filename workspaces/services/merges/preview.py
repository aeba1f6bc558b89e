"""What a merge would be, before anybody asks for it. Nothing moves; objects that no branch reaches may be written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Invalid
from studio.kernel.text import clean, cut
from workspaces.models import Workspace, WorkspaceState
from workspaces.services.checkouts import opened
from workspaces.services.merges.conflicts import STUDIO
from workspaces.services.merges.markers import marked_files
from workspaces.services.merges.request import WAYS, check_target
from workspaces.vcs.base import Vcs, readable
from workspaces.vcs.merging import MergeRequest

NAMED = 20  # files that are named of each kind
BRANCHES_SHOWN = 200

UNTRUSTED = "does not run: the project is not marked as trusted in its settings."


@dataclass(frozen=True, slots=True)
class TargetCheckout:
    """A person's checkout that is on the target branch. It is brought along when it is clean, and else in the way."""

    path: str
    files: list[str]  # changed there and not committed; the first of them
    count: int
    operation: str

    @property
    def is_clean(self) -> bool:
        """Whether the merge can bring it along."""
        return not (self.count or self.operation)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a merge would be. `files`, `additions` and `deletions` are what the target would change by."""

    how: str
    target: str
    branches: list[str]
    ahead: int
    behind: int
    uncommitted: int  # files in the workspace that are committed first
    files: int = 0
    additions: int = 0
    deletions: int = 0
    conflicts: list[str] = field(default_factory=list)
    refusal: str = ""
    marked: list[str] = field(default_factory=list)  # files to which it would add lines of an unresolved conflict
    nothing: bool = False  # the target has all of it already
    checkouts: list[TargetCheckout] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)

    @property
    def blocked(self) -> list[TargetCheckout]:
        """The checkouts that stand in the way."""
        return [checkout for checkout in self.checkouts if not checkout.is_clean]

    @property
    def possible(self) -> bool:
        """Whether the merge would go through as things are."""
        return not self.marked and self.markers_alone

    @property
    def markers_alone(self) -> bool:
        """Whether nothing stands against it but lines of a conflict, which may be meant."""
        return not (self.conflicts or self.refusal or self.blocked)


def preview_merge(workspace: Workspace, *, target: str = "", how: str = "merge") -> Preview:
    """What a merge of the workspace into `target` (else where it came from) would be. Reads only; hooks do not run.

    Raises Invalid for a way or a target that there is not, and Conflict when the workspace is not there.
    """
    if how not in WAYS:
        raise Invalid(f"“{cut(clean(how), 40)}” is not a way to merge; there are {', '.join(WAYS)}.")
    if workspace.state != WorkspaceState.READY:
        raise Conflict(workspace.absence, allowed=[])
    chosen = target or workspace.base_branch
    if target:
        check_target(workspace.project, target)
    repository = Path(workspace.project.path)
    with opened(workspace) as (vcs, path):
        status = vcs.status(path, chosen)
        tip = vcs.tip(repository, chosen)
        branches = vcs.branches(repository)[:BRANCHES_SHOWN]
        uncommitted = len({*status.staged, *status.unstaged, *status.untracked, *status.conflicted})
        begin = Preview(how, chosen, branches, status.ahead, status.behind, uncommitted)
        if tip is None:
            refusal = f"There is no branch “{chosen}” any more; choose another one."
            return replace(begin, refusal=refusal)
        found = _computed(begin, workspace, vcs, repository, tip, status.head)
        if uncommitted and not (found.conflicts or found.refusal):
            # What is committed first may bring such lines, or take them away.
            base = vcs.common(repository, tip, status.head) or tip
            found = replace(found, marked=marked_files(workspace, vcs, path, base))
        return found


def _computed(begin: Preview, workspace: Workspace, vcs: Vcs, repository: Path, tip: str, source: str) -> Preview:
    request = MergeRequest(begin.how, tip, source, "Preview", STUDIO, STUDIO, now(), signed=False)
    result = vcs.compute_merge(repository, request)
    checkouts = [
        TargetCheckout(
            readable(one.path), [readable(file) for file in one.dirty[:NAMED]], len(one.dirty), one.operation
        )
        for one in vcs.checkouts_on(repository, begin.target)
    ]
    rules = vcs.message_rules(repository)
    if not workspace.project.trusted:
        rules = [
            rule.removesuffix("runs.") + UNTRUSTED if rule.startswith("The hook") and rule.endswith("runs.") else rule
            for rule in rules
        ]
    begin = replace(begin, checkouts=checkouts, rules=rules)
    if not result.commit:
        conflicts = [cut(readable(file), 1_000) for file in result.conflicts]
        return replace(begin, conflicts=conflicts, refusal=result.refusal)
    changed = vcs.changes(repository, tip, result.commit, patches=False).files
    return replace(
        begin,
        files=len(changed),
        additions=sum(file.additions or 0 for file in changed),
        deletions=sum(file.deletions or 0 for file in changed),
        marked=marked_files(workspace, vcs, repository, tip, result.commit) if changed else [],
        nothing=result.commit == tip and not begin.uncommitted,
    )
