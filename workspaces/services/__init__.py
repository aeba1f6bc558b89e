"""What can be done with repositories and workspaces. Adapters and other apps import from here."""

from __future__ import annotations

from workspaces.services.checkouts import (
    commit_left,
    diff_for,
    ensure_workspace,
    has_change,
    read_text,
    status_for,
)
from workspaces.services.merges import (
    bring_up_to_date,
    check_target,
    conflicted_files,
    instructions,
    left_markers,
    preview_merge,
    request_merge,
    request_restore,
    request_revert,
    retry_merge,
    run_merge,
)
from workspaces.services.projects import checkout_note, register_project, remove_project, update_project
from workspaces.services.removal import remove_workspace, request_removal
from workspaces.services.sweep import sweep

__all__ = [
    "bring_up_to_date",
    "check_target",
    "checkout_note",
    "commit_left",
    "conflicted_files",
    "diff_for",
    "ensure_workspace",
    "has_change",
    "instructions",
    "left_markers",
    "preview_merge",
    "read_text",
    "register_project",
    "remove_project",
    "remove_workspace",
    "request_merge",
    "request_removal",
    "request_restore",
    "request_revert",
    "retry_merge",
    "run_merge",
    "status_for",
    "sweep",
    "update_project",
]
