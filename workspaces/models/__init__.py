"""Registered repositories, their members, the checkouts in which agents work, their setup, what is kept of them, merges, and
commands in the background."""

from workspaces.models.command import Command, CommandKind, CommandState, RequestedBy
from workspaces.models.kept import KeptWork
from workspaces.models.merge import MergeAttempt, MergeKind, MergeState
from workspaces.models.project import Project, ProjectMembership
from workspaces.models.setup import DevServer, ProjectSetup, ServerState, WorkspaceSetup
from workspaces.models.workspace import Workspace, WorkspaceState

__all__ = [
    "Command",
    "CommandKind",
    "CommandState",
    "DevServer",
    "KeptWork",
    "MergeAttempt",
    "MergeKind",
    "MergeState",
    "Project",
    "ProjectMembership",
    "ProjectSetup",
    "RequestedBy",
    "ServerState",
    "Workspace",
    "WorkspaceSetup",
    "WorkspaceState",
]
