"""What can be done with repositories and workspaces. Adapters and other apps import from here."""

from __future__ import annotations

from workspaces.services.checkouts import (
    Away,
    commit_left,
    diff_for,
    ensure_workspace,
    find_text,
    has_change,
    read_text,
    require_repository,
    status_for,
)
from workspaces.services.inspection import LeftOut, left_out, look_at
from workspaces.services.kept import delete_kept, find_kept, hold_kept, mark_seen, open_kept
from workspaces.services.leaving import leaving_of
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
    revert_instructions,
    run_merge,
    take_back_update,
)
from workspaces.services.projects import checkout_note, register_project, remove_project, update_project
from workspaces.services.pull_requests import (
    refresh_pull_request,
    request_pull_request,
    sync_pull_request,
    withdraw_pull_request,
)
from workspaces.services.removal import remove_workspace, request_removal
from workspaces.services.repair import relocate_project, repair_workspace
from workspaces.services.retention import (
    discard_workspace,
    hold_workspace,
    let_go,
    look_before_removal,
    release_workspace,
    remove_confirmed,
)
from workspaces.services.starting import (
    make_workspace,
    restore_kept,
    start_at_branch,
    start_at_kept,
    start_at_worktree,
    start_choices,
    worktree_choices,
    write_started,
)
from workspaces.services.sweep import sweep

__all__ = [
    "Away",
    "LeftOut",
    "bring_up_to_date",
    "check_target",
    "checkout_note",
    "commit_left",
    "conflicted_files",
    "delete_kept",
    "diff_for",
    "discard_workspace",
    "ensure_workspace",
    "find_kept",
    "find_text",
    "has_change",
    "hold_kept",
    "hold_workspace",
    "instructions",
    "leaving_of",
    "left_markers",
    "left_out",
    "let_go",
    "look_at",
    "look_before_removal",
    "make_workspace",
    "mark_seen",
    "open_kept",
    "preview_merge",
    "read_text",
    "refresh_pull_request",
    "register_project",
    "release_workspace",
    "relocate_project",
    "remove_confirmed",
    "remove_project",
    "remove_workspace",
    "repair_workspace",
    "request_merge",
    "request_pull_request",
    "request_removal",
    "request_restore",
    "request_revert",
    "require_repository",
    "restore_kept",
    "retry_merge",
    "revert_instructions",
    "run_merge",
    "start_at_branch",
    "start_at_kept",
    "start_at_worktree",
    "start_choices",
    "status_for",
    "sweep",
    "sync_pull_request",
    "take_back_update",
    "update_project",
    "withdraw_pull_request",
    "worktree_choices",
    "write_started",
]
