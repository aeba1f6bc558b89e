"""Merging in a jj repository: git computes on the store, so that no operation of a person's log tells of a mere preview."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from workspaces.vcs.base import Vcs
from workspaces.vcs.git import GitVcs
from workspaces.vcs.git_command import git
from workspaces.vcs.jj_inspect import CONFLICT_FOLDER, git_store, is_plain
from workspaces.vcs.merging import ConflictedFile, MergeRequest, MergeResult, RevertRequest

GIT: Vcs = GitVcs()
UNRESOLVED = (
    "The workspace's commits hold conflicts that nobody has resolved (jj log -r 'conflicts()' lists them). Resolve them there, "
    "then try again."
)


def compute_merge(repository: Path, request: MergeRequest) -> MergeResult:
    """Merge without a checkout: objects are written, no bookmark moves. The same request gives the same commit."""
    if not is_plain(repository, request.source) or (request.how != "squash" and _passes_conflicts(repository, request)):
        return MergeResult(refusal=UNRESOLVED)
    if not is_plain(repository, request.target):
        return MergeResult(refusal="The target's last commit holds conflicts that nobody has resolved.")
    return GIT.compute_merge(git_store(repository), replace(request, hooks=False, signed=False))


def conflicts(repository: Path, request: MergeRequest) -> list[ConflictedFile]:
    """The sides of each file in which the merge conflicts; empty when it does not. Nothing is moved."""
    return GIT.conflicts(git_store(repository), request)


def message_rules(repository: Path) -> list[str]:
    """In words, what of the repository's own rules for merges (hooks, signatures) the studio meets, for people to read."""
    del repository
    return ["jj runs no hooks, and the commits of the studio are not signed (jj sign does it afterwards)."]


def compute_revert(repository: Path, request: RevertRequest) -> MergeResult:
    """Take a merge back without a checkout, as a new commit on the target. The same request gives the same commit."""
    return GIT.compute_revert(git_store(repository), replace(request, hooks=False, signed=False))


def _passes_conflicts(repository: Path, request: MergeRequest) -> bool:
    """Whether a commit of the source was left with conflicts and mended only by a later one."""
    between = f"{request.target}..{request.source}"
    options = ("rev-list", "--max-count=1", between, "--", f"{CONFLICT_FOLDER}/")
    return bool(git(git_store(repository), *options).stdout)
