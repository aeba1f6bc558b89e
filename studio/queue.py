"""Jobs are requested here, and only here: after the commit, by name, with ids.

The broker is a doorbell: when it is down the error is logged, the row stays due and a sweeper finds it.
"""

from __future__ import annotations

from typing import Any

from celery import current_app
from django.db import transaction

from studio.kernel.faultpoints import reach


class Names:
    """Every job of the product by name. A test holds this list against the registered jobs."""

    SCHEDULE_RUNS = "tasks.schedule"
    PREPARE_RUN = "tasks.prepare_run"
    ADVANCE_TURN = "tasks.advance_turn"
    CONTINUE_RUN = "tasks.continue_run"
    REFRESH_CARD = "tasks.refresh_card"
    ADVANCE_MERGE = "tasks.advance_merge"
    ADVANCE_PULL_REQUEST = "tasks.advance_pull_request"
    SWEEP_TASKS = "tasks.sweep"
    DISPATCH_TURN = "sessions.dispatch_turn"
    RECONCILE_TURN = "sessions.reconcile_turn"
    ABORT_TURN = "sessions.abort_turn"
    PAUSE_TURN = "sessions.pause_turn"
    DELIVER_MESSAGES = "sessions.deliver_messages"
    OPEN_NEXT_TURN = "sessions.open_next_turn"
    CHECK_BUDGETS = "sessions.check_budgets"
    RECONSIDER_BUDGETS = "sessions.reconsider_budgets"
    CONFIRM_STOPPED = "sessions.confirm_stopped"
    DELIVER_ANSWER = "sessions.deliver_answer"
    RECONSIDER_ASKS = "sessions.reconsider_asks"
    DELIVER_COMMAND = "sessions.deliver_command"
    WARM_WORKSPACE = "sessions.warm_workspace"
    DISPOSE_DIRECTORY = "sessions.dispose_directory"
    RELEASE_WORKSPACE = "sessions.release_workspace"
    SWEEP_SESSIONS = "sessions.sweep"
    MERGE = "workspaces.merge"
    REMOVE_WORKSPACE = "workspaces.remove"
    MAKE_WORKSPACE = "workspaces.make"
    LOOK_AT_WORKSPACE = "workspaces.look_at"
    SYNC_PULL_REQUEST = "workspaces.sync_pull_request"
    START_COMMAND = "workspaces.start_command"
    END_COMMAND = "workspaces.end_command"
    RUN_SETUP = "workspaces.run_setup"
    ADVANCE_SERVER = "workspaces.advance_server"
    SWEEP_WORKSPACES = "workspaces.sweep"
    SYNC_SERVERS = "agents.sync_servers"
    PING = "studio.ping"


def enqueue(name: str, *ids: object) -> None:
    """Request the job `name` with `ids` once the current transaction has committed (at once when there is none).

    Never raises for a broker that is down. Jobs are idempotent, so a request may be repeated freely.
    """
    signature = current_app.signature(name, args=[str(one) for one in ids], immutable=True)
    transaction.on_commit(lambda: _ring(signature), robust=True)


def _ring(signature: Any) -> None:
    reach(signature.task)  # the work is committed, and nobody has heard of it yet
    signature.apply_async(retry=False)
