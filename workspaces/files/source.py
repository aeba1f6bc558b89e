"""Where the files of a workspace are read: in its checkout, or in its last commit once the checkout has been removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from studio.kernel.errors import NotFound
from workspaces.files.checkout import Checkout
from workspaces.files.commit import Commit
from workspaces.files.placed import Placed, placed_in
from workspaces.models import Workspace, WorkspaceState
from workspaces.services.checkouts import merged_range, opened
from workspaces.vcs import reading_of
from workspaces.vcs.reading import Entry, Reading

if TYPE_CHECKING:
    from workspaces.files.placed import Person


class Source(Protocol):
    """Files that can be read. Paths are relative to the root and keep any bytes; "" is the root.

    Raises NotFound for what is not there, for a path that a link leads through, and for the store of a version control system;
    and Forbidden for the content of what was placed there and is kept from the reader.
    """

    live: bool  # it is the checkout as it is now
    placed: Placed  # what the project's setup placed there

    def names(self, path: str) -> tuple[list[tuple[str, bool]], bool]:
        """(name, whether it is a folder) of what stands in a folder, and whether names were left out."""
        ...

    def entries(self, path: str, names: list[str]) -> list[Entry]:
        """What stands under these names in a folder."""
        ...

    def entry(self, path: str) -> Entry:
        """What stands at `path`."""
        ...

    def content(self, path: str) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a plain file, piece by piece."""
        ...


def source_of(workspace: Workspace, reader: Person | None = None) -> Source:
    """The files of the workspace, for `reader`. Raises NotFound when there are none, Upstream when its checkout is gone.

    Without a reader nothing is read of what the project's setup placed there.
    """
    if workspace.state == WorkspaceState.READY:
        with opened(workspace) as (_, path):
            return Checkout(path, placed_in(workspace, reader))
    reading, repository = reading_of(workspace.project.vcs), Path(workspace.project.path)
    return Commit(reading, repository, last_commit(workspace, reading, repository))


def last_commit(workspace: Workspace, reading: Reading, repository: Path) -> str:
    """What a removed workspace held, as a commit that the repository still has. Raises NotFound when there is none."""
    if workspace.state not in (WorkspaceState.REMOVING, WorkspaceState.REMOVED):
        raise NotFound(
            f"The workspace {workspace.label} is not ready: it has no files yet.", code="workspace_not_ready"
        )
    merged = merged_range(workspace)
    for commit in (workspace.head_commit, merged[1] if merged else ""):
        if commit and reading.folder(repository, commit, "") is not None:
            return commit
    kept = f" What was not merged is kept in {workspace.kept_patch}." if workspace.kept_patch else ""
    raise NotFound(
        f"The workspace {workspace.label} has been removed, and the repository no longer has its commit.{kept}",
        code="workspace_removed",
    )
