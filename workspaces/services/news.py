"""Telling a project's feed what became of checkouts and of kept work, so that pages show it without being loaded again."""

from __future__ import annotations

from studio import outbox
from workspaces.models import KeptWork, Workspace
from workspaces.signals import workspace_changed


def tell(workspace: Workspace) -> None:
    """The workspace's row has changed. Inside the transaction that makes it true."""
    outbox.publish(
        workspace.project_id, f"workspace:{workspace.pk}", "workspace.updated", {"workspace": str(workspace.pk)}
    )
    workspace_changed.send(sender=Workspace, workspace=workspace)


def tell_kept(kept: KeptWork) -> None:
    """Something is new about kept work, or it is gone. Inside the transaction that makes it true."""
    if kept.project_id is not None:
        outbox.publish(kept.project_id, f"project:{kept.project_id}", "kept.updated", {"kept": str(kept.pk)})
        if kept.workspace is not None:
            workspace_changed.send(sender=Workspace, workspace=kept.workspace)
