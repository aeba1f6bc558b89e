"""Registered repositories, their members and forges, the checkouts in which agents work, their setup, what is kept of them, merges,
pull requests, and commands in the background."""

from workspaces.models.command import Command, CommandKind, CommandState, RequestedBy
from workspaces.models.forge import (
    ChecksState,
    ForgeConnection,
    ForgeKind,
    PullRequest,
    PullRequestState,
    ReviewComment,
)
from workspaces.models.kept import KeptWork
from workspaces.models.merge import MergeAttempt, MergeKind, MergeState
from workspaces.models.project import Project, ProjectMembership
from workspaces.models.setup import DevServer, ProjectSetup, ServerState, WorkspaceSetup
from workspaces.models.workspace import MergedHow, Workspace, WorkspaceState

__all__ = [
    "ChecksState",
    "Command",
    "CommandKind",
    "CommandState",
    "DevServer",
    "ForgeConnection",
    "ForgeKind",
    "KeptWork",
    "MergeAttempt",
    "MergeKind",
    "MergeState",
    "MergedHow",
    "Project",
    "ProjectMembership",
    "ProjectSetup",
    "PullRequest",
    "PullRequestState",
    "RequestedBy",
    "ReviewComment",
    "ServerState",
    "Workspace",
    "WorkspaceSetup",
    "WorkspaceState",
]
