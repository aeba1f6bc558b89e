"""Celery jobs: each loads by id and calls one service. Delivered twice, they do the same as once."""

from __future__ import annotations

from celery import shared_task
from django.db import transaction

from sessions_app.services import abort as aborting
from sessions_app.services import (
    ask_timeouts,
    asks,
    budgets,
    commands,
    disposal,
    follow_up,
    pause,
    steer,
    stopping,
    warming,
)
from sessions_app.services import dispatch as dispatching
from sessions_app.services import reconcile as reconciling
from sessions_app.services import sweep as sweeping
from studio.queue import Names


@shared_task(name=Names.DISPATCH_TURN)
def dispatch_turn(turn_id: str) -> None:
    """Send the turn's prompt."""
    dispatching.dispatch(turn_id)


@shared_task(name=Names.RECONCILE_TURN)
def reconcile_turn(turn_id: str) -> None:
    """Hold the turn against the server."""
    reconciling.reconcile(turn_id)


@shared_task(name=Names.ABORT_TURN)
def abort_turn(turn_id: str) -> None:
    """End a turn whose end was asked for."""
    aborting.abort(turn_id)


@shared_task(name=Names.PAUSE_TURN)
def pause_turn(turn_id: str) -> None:
    """Stop what a held turn runs on the server."""
    pause.stop_on_server(turn_id)


@shared_task(name=Names.DELIVER_MESSAGES)
def deliver_messages(session_id: str) -> None:
    """Send what steers the session's running turn."""
    steer.deliver(session_id)


@shared_task(name=Names.OPEN_NEXT_TURN)
def open_next_turn(session_id: str) -> None:
    """Open the session's next turn from its inbox."""
    with transaction.atomic():
        follow_up.open_next(session_id)


@shared_task(name=Names.CONFIRM_STOPPED)
def confirm_stopped(turn_id: str) -> None:
    """Make sure that nothing of a stopped turn runs any more."""
    stopping.confirm_stopped(turn_id)


@shared_task(name=Names.CHECK_BUDGETS)
def check_budgets(*session_ids: str) -> None:
    """Hold the sessions' turns against their budgets."""
    budgets.check_sessions(session_ids)


@shared_task(name=Names.RECONSIDER_BUDGETS)
def reconsider_budgets() -> None:
    """Let turns go on that no budget holds any more."""
    budgets.reconsider()


@shared_task(name=Names.DELIVER_ANSWER)
def deliver_answer(ask_id: str) -> None:
    """Send a person's answer to the agent that waits for it."""
    asks.deliver(ask_id)


@shared_task(name=Names.RECONSIDER_ASKS)
def reconsider_asks(project_id: str) -> None:
    """Answer what waits in a project and a rule decides by now."""
    asks.reconsider(project_id)


@shared_task(name=Names.DELIVER_COMMAND)
def deliver_command(command_id: str) -> None:
    """Tell a session that a command which its agent started has ended."""
    commands.deliver(command_id)


@shared_task(name=Names.WARM_WORKSPACE)
def warm_workspace(server_id: str, workspace_id: str) -> None:
    """Let a server load a workspace in which a turn is about to begin."""
    warming.warm_workspace(server_id, workspace_id)


@shared_task(name=Names.DISPOSE_DIRECTORY)
def dispose_directory(loaded_id: str) -> None:
    """Let a server forget a directory that nobody works in."""
    disposal.dispose_directory(loaded_id)


@shared_task(name=Names.RELEASE_WORKSPACE)
def release_workspace(workspace_id: str) -> None:
    """Put away the sessions of a workspace that goes."""
    disposal.release_workspace(workspace_id)


@shared_task(name=Names.SWEEP_SESSIONS)
def sweep() -> None:
    """Ring for due turns, and act on asks whose time is over."""
    sweeping.sweep()
    ask_timeouts.sweep_asks()
