"""Bringing a workspace's change onto a branch: looked at first, asked for, carried out, conflicts, and taken back."""

from __future__ import annotations

from workspaces.services.merges.conflicts import (
    bring_up_to_date,
    conflicted_files,
    instructions,
    left_markers,
    revert_instructions,
    take_back_update,
)
from workspaces.services.merges.preview import preview_merge
from workspaces.services.merges.request import (
    check_target,
    request_merge,
    request_restore,
    request_revert,
    retry_merge,
)
from workspaces.services.merges.run import run_merge

__all__ = [
    "bring_up_to_date",
    "check_target",
    "conflicted_files",
    "instructions",
    "left_markers",
    "preview_merge",
    "request_merge",
    "request_restore",
    "request_revert",
    "retry_merge",
    "revert_instructions",
    "run_merge",
    "take_back_update",
]
