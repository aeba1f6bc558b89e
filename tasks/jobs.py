"""Celery jobs: each loads by id and calls one service. Delivered twice, they do the same as once."""

from __future__ import annotations

from celery import shared_task

from studio.queue import Names
from tasks.services import advance, card_refresh, prepare, pull_requests, setup
from tasks.services import schedule as scheduling
from tasks.services import sweep as sweeping


@shared_task(name=Names.SCHEDULE_RUNS)
def schedule() -> None:
    """Begin the queued runs that have a place."""
    scheduling.schedule()


@shared_task(name=Names.PREPARE_RUN)
def prepare_run(run_id: str) -> None:
    """Give a run its workspace and admit its turn."""
    prepare.prepare_run(run_id)


@shared_task(name=Names.CONTINUE_RUN)
def continue_run(workspace_id: str) -> None:
    """Go on with the run that waited for the setup of its workspace."""
    setup.continue_run(workspace_id)


@shared_task(name=Names.ADVANCE_TURN)
def advance_turn(turn_id: str) -> None:
    """Draw the conclusion from a settled turn."""
    advance.advance_turn(turn_id)


@shared_task(name=Names.REFRESH_CARD)
def refresh_card(turn_id: str) -> None:
    """Let a card show what its turn does or waits for."""
    card_refresh.refresh_card(turn_id)


@shared_task(name=Names.ADVANCE_MERGE)
def advance_merge(attempt_id: str) -> None:
    """Draw the conclusion from a settled merge."""
    advance.advance_merge(attempt_id)


@shared_task(name=Names.ADVANCE_PULL_REQUEST)
def advance_pull_request(pull_request_id: str) -> None:
    """Draw the conclusion from what became of a pull request."""
    pull_requests.advance_pull_request(pull_request_id)


@shared_task(name=Names.SWEEP_TASKS)
def sweep() -> None:
    """Ring for what is due."""
    sweeping.sweep()
