"""Celery jobs: each loads by id and calls one service. Delivered twice, they do the same as once."""

from __future__ import annotations

from celery import shared_task

from studio.queue import Names
from workspaces import services
from workspaces.commands import ending, launch
from workspaces.setup import servers
from workspaces.setup import services as setups


@shared_task(name=Names.MERGE)
def merge(attempt_id: str) -> None:
    """Carry out a merge."""
    services.run_merge(attempt_id)


@shared_task(name=Names.REMOVE_WORKSPACE)
def remove(workspace_id: str) -> None:
    """Remove a workspace whose removal was requested."""
    services.remove_workspace(workspace_id, requested=True)


@shared_task(name=Names.MAKE_WORKSPACE)
def make(workspace_id: str) -> None:
    """Make the checkout of a workspace that begins at kept work."""
    services.make_workspace(workspace_id)


@shared_task(name=Names.LOOK_AT_WORKSPACE)
def look_at(workspace_id: str) -> None:
    """Measure a workspace and see whether it is whole."""
    services.look_at(workspace_id)


@shared_task(name=Names.SYNC_PULL_REQUEST)
def sync_pull_request(pull_request_id: str) -> None:
    """Open, push or read a pull request."""
    services.sync_pull_request(pull_request_id)


@shared_task(name=Names.START_COMMAND)
def start_command(command_id: str) -> None:
    """Start a command in the background."""
    launch.start(command_id)


@shared_task(name=Names.END_COMMAND)
def end_command(command_id: str) -> None:
    """End a command in the background."""
    ending.end(command_id)


@shared_task(name=Names.RUN_SETUP)
def run_setup(workspace_id: str) -> None:
    """Run the setup of a checkout that somebody has asked for again."""
    setups.run_asked(workspace_id)


@shared_task(name=Names.ADVANCE_SERVER)
def advance_server(workspace_id: str) -> None:
    """Bring a dev server towards what is wanted, and look how it is."""
    servers.advance_server(workspace_id)


@shared_task(name=Names.SWEEP_WORKSPACES)
def sweep() -> None:
    """Ring for due merges, removals, pull requests and commands."""
    services.sweep()
