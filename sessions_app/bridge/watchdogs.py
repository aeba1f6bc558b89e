"""The limits that the agent server does not have: wall time, silence, steps of one turn, and answers without content."""

from __future__ import annotations

import uuid
from datetime import timedelta

import structlog

from sessions_app.models import SessionEvent, Turn, TurnState
from sessions_app.services.abort import request_abort
from studio.kernel.clock import now

log = structlog.get_logger(__name__)

# A provider that sends rubbish is asked again at once, some twice a second, without end (opencode.md, section 7).
EMPTY_STEPS = 5
ANSWERS = ["text", "reasoning", "tool.started", "tool.finished"]


def overrun(turn: Turn) -> str:
    """The error code of the limit that `turn` has passed, or the empty string.

    A turn that waits for the provider's rate limit until a known time is not silent before that time.
    """
    at = now()
    if turn.started_at is None:
        return ""
    if at - turn.started_at > timedelta(seconds=turn.wall_seconds):
        return "time_limit"
    if turn.steps > turn.max_steps:
        return "step_limit"
    heard = max(turn.started_at, turn.last_event_at or turn.started_at, turn.retry_at or turn.started_at)
    if at - heard > timedelta(seconds=turn.idle_seconds):
        return "stalled"
    return ""


def _unanswered(turn: Turn) -> bool:
    """Whether the provider has answered step after step with nothing: the server would ask it for ever."""
    if turn.steps < EMPTY_STEPS:
        return False
    said = SessionEvent.objects.filter(session_id=turn.session_id, at__gte=turn.created_at)
    return not said.filter(kind__in=ANSWERS).exists()


def watch(server_id: uuid.UUID) -> int:
    """Ask for the end of each turn on the server that has passed a limit; how many."""
    ended = 0
    running = Turn.objects.filter(
        session__server_id=server_id, state=TurnState.RUNNING, abort_requested_at__isnull=True
    )
    for turn in running.defer("prompt", "system", "result_text"):
        code = "provider_error" if _unanswered(turn) else overrun(turn)
        if code and request_abort(turn_id=turn.pk, reason=code):
            log.warning("turn_overrun", turn=str(turn.pk), code=code)
            ended += 1
    return ended
