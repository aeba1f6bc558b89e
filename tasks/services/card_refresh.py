"""What the card of a running run shows, from what its turn does: it works, waits for a person, or waits to try again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.db import transaction
from django.utils import timezone

from sessions_app.models import Ask, AskState, Turn, TurnState
from sessions_app.services.retries import next_try
from tasks.choices import Needs, RunPhaseState, RunState
from tasks.models import PhaseRun
from tasks.services.follow_up import tell_at_work
from tasks.services.moves import RUNNING, Card, lock, show

LOST = "Nobody can say how far the agent came: its server lost the session."
STOPPING = Card(RunState.RUNNING, reason="Stopping.")
# Why something is tried again later, in two or three words.
WAITS = {
    "rate_limited": "Rate limit",
    "provider_error": "The model provider failed",
    "server_unreachable": "The agent server was away",
    "stalled": "No sign of life",
}


def refresh_card(turn_id: uuid.UUID | str) -> bool:
    """Let the card of the turn's run show how things are; whether anything changed. Idempotent.

    A run that is not running any more shows its own end.
    """
    found = PhaseRun.objects.filter(turn_id=turn_id, state=RunPhaseState.RUNNING).only("pk", "task_id").first()
    if found is None:
        _tell_of_follow_up(turn_id)
        return False
    with transaction.atomic():
        task = lock(found.task_id)
        run = PhaseRun.objects.select_related("turn").filter(pk=found.pk, state=RunPhaseState.RUNNING).first()
        if run is None or run.turn is None or run.turn.state == TurnState.SETTLED:
            return False  # `advance` draws the conclusion
        card = STOPPING if run.stop_requested_at else card_of(run.turn, _pending(run.turn))
        if card == Card(task.run_state, task.needs, task.reason, task.error_code):
            return False
        show(task, card, run=run)
    return True


def _tell_of_follow_up(turn_id: uuid.UUID | str) -> None:
    """A turn without a run changes nothing of its task; card and page show it beside what they say of the task."""
    turn = Turn.objects.filter(pk=turn_id, run__isnull=True).exclude(state=TurnState.SETTLED).first()
    if turn is not None:
        tell_at_work(turn)


def _pending(turn: Turn) -> list[Ask]:
    return list(Ask.objects.filter(turn=turn, state=AskState.PENDING).order_by("created_at")[:2])


def card_of(turn: Turn, pending: Sequence[Ask]) -> Card:
    """The card of an unsettled turn, which waits for the answers to `pending`, oldest first. Pure."""
    if pending:
        more = " There is more than that." if len(pending) > 1 else ""
        said = pending[0].title if pending[0].title.endswith("?") else f"{pending[0].title}."
        return Card(RunState.WAITING, Needs.ANSWER, f"{pending[0].asker}: {said}{more}")
    if turn.state == TurnState.UNKNOWN:
        return Card(RunState.WAITING, Needs.UNKNOWN, LOST, "session_lost")
    at = next_try(turn)
    if at is not None:
        why = WAITS.get(turn.retry_code, "The model provider asks to wait")
        return Card(RunState.RUNNING, reason=f"{why}: next try at {timezone.localtime(at):%H:%M:%S}")
    return RUNNING
