"""The news that travels upwards. Sent inside the transaction that makes it true; a receiver may only enqueue."""

from __future__ import annotations

from django.dispatch import Signal

merge_settled = Signal()  # attempt_id: UUID, settled: merged, conflicted, refused or failed
pull_request_changed = Signal()  # pull_request: PullRequest, whose state, checks, comments or error are new
command_settled = Signal()  # command: Command, ended or lost
# project: Project, about to be removed with all it has. The one exception: a receiver may raise Conflict to prevent it.
removing_project = Signal()
workspace_changed = Signal()  # workspace: Workspace, of whose checkout or kept work something is new
workspace_leaving = Signal()  # workspace: Workspace, whose removal has been requested
# workspace: Workspace, about to be deleted. A receiver may answer with a sentence that says who is at work in it: then it stays.
workspace_needed = Signal()
