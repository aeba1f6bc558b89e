"""Registered repositories, their members, the checkouts in which agents work, what is kept of them, merges, and commands in the background."""

from workspaces.models.command import Command, CommandState, RequestedBy
from workspaces.models.kept import KeptWork
from workspaces.models.merge import MergeAttempt, MergeKind, MergeState
from workspaces.models.project import Project, ProjectMembership
from workspaces.models.workspace import Workspace, WorkspaceState

__all__ = [
    "Command",
    "CommandState",
    "KeptWork",
    "MergeAttempt",
    "MergeKind",
    "MergeState",
    "Project",
    "ProjectMembership",
    "RequestedBy",
    "Workspace",
    "WorkspaceState",
]
