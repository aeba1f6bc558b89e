"""Celery jobs: each loads by id and calls one service. Delivered twice, they do the same as once."""

from __future__ import annotations

from celery import shared_task

from sessions_app.services import abort as aborting
from sessions_app.services import dispatch as dispatching
from sessions_app.services import settle as settling
from sessions_app.services import sweep as sweeping
from studio.queue import Names


@shared_task(name=Names.DISPATCH_TURN)
def dispatch_turn(turn_id: str) -> None:
    """Send the turn's prompt."""
    dispatching.dispatch(turn_id)


@shared_task(name=Names.RECONCILE_TURN)
def reconcile_turn(turn_id: str) -> None:
    """Hold the turn against the server."""
    settling.reconcile(turn_id)


@shared_task(name=Names.ABORT_TURN)
def abort_turn(turn_id: str) -> None:
    """End a turn whose end was asked for."""
    aborting.abort(turn_id)


@shared_task(name=Names.SWEEP_SESSIONS)
def sweep() -> None:
    """Ring for due turns."""
    sweeping.sweep()
