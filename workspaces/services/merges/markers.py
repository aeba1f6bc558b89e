"""Lines of a conflict that a merge or a pull request would bring onto its target: found, named, and whether somebody says that they are meant."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from studio.kernel.text import cut
from workspaces.models import MergeAttempt, MergeState, Workspace
from workspaces.services.checkouts import opened
from workspaces.services.merges.request import NAME_LIMIT
from workspaces.vcs.base import Vcs, readable

MARKED = "merge_marked"
NAMED = 20  # files that a refusal names


def marked_files(workspace: Workspace, vcs: Vcs, place: Path, base: str, head: str = "") -> list[str]:
    """The names of the files to which a change adds lines of an unresolved conflict; `head` empty: the checkout as it is.

    Of a file in which the workspace's last merge conflicted one such line is enough: who resolved it has forgotten it.
    """
    earlier = MergeAttempt.objects.filter(workspace=workspace, state=MergeState.CONFLICTED)
    conflicts = earlier.order_by("-created_at").values_list("conflicts", flat=True).first()
    found = vcs.marked_files(place, base, head, known=frozenset(conflicts or ()))
    return [cut(readable(file), NAME_LIMIT) for file in found]


def proposed_markers(workspace: Workspace) -> list[str]:
    """The files to which a pull request of the checkout, as it is now, would add lines of an unresolved conflict."""
    with opened(workspace) as (vcs, path):
        head = vcs.status(path, workspace.base_branch).head
        return marked_files(workspace, vcs, path, fork_of(workspace, vcs, head))


def fork_of(workspace: Workspace, vcs: Vcs, head: str) -> str:
    """Where the change that ends in `head` left the branch that the workspace came from."""
    repository = Path(workspace.project.path)
    tip = vcs.tip(repository, workspace.base_branch)
    return (vcs.common(repository, tip, head) if tip else None) or workspace.base_commit


def refusal(files: Collection[str]) -> str:
    """Why a merge or a pull request with such files is refused."""
    named = list(files)[:NAMED]
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return f"Lines of an unresolved conflict are left in {', '.join(named)}{more}."
