"""Trying again: which errors pass by themselves, how often and after how long; and what a person does when nobody knows.

A turn that is tried again keeps its ids: the server goes on from what it has stored, so no finished step is asked again.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Case, F, Value, When

from agents.backend import LogEntry
from sessions_app import log as session_log
from sessions_app.models import AgentSession, Turn, TurnOutcome, TurnState
from sessions_app.services import ask_rows, clock
from sessions_app.services.pause import RELEASED
from sessions_app.services.settle import settle
from sessions_app.services.turns import lock_session
from sessions_app.signals import turn_changed
from studio.kernel.clock import later, now
from studio.kernel.errors import Conflict, NotFound
from studio.kernel.ids import derived_id
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue

log = structlog.get_logger(__name__)

LOST_NOTE = (
    "\n\nAn earlier try of this was cut off and its record is lost. Part of the work may already be done in this directory: "
    "look at its state first, then go on from there."
)


@dataclass(frozen=True, slots=True)
class Policy:
    """How often an error is tried again, and after how many seconds: doubled each time, up to a cap, with jitter."""

    tries: int
    first: float
    cap: float


# The server itself asks the provider five times before it gives up (opencode.md, section 7); these come on top of it.
POLICIES: dict[str, Policy] = {
    "rate_limited": Policy(tries=8, first=60, cap=1800),
    "provider_error": Policy(tries=3, first=15, cap=120),
    "server_unreachable": Policy(tries=3, first=5, cap=60),
    "stalled": Policy(tries=1, first=5, cap=5),
}


def delay_for(policy: Policy, retries: int) -> float:
    """Seconds until the next try after `retries` of them."""
    jitter = random.uniform(0.75, 1.25)  # noqa: S311 -- so that many turns do not come back at the same moment
    return min(policy.cap, policy.first * 2.0**retries) * jitter


def plan_retry(turn: Turn, code: str, message: str, *, answered_until: str = "") -> bool:
    """Plan the next try of a running turn that failed with `code`; False when its tries are used up or there are none.

    Nothing changes, and nothing is to be concluded (True), when somebody else has moved the turn on since it was read, or
    when its end is wanted for another reason by now.
    The plan is visible: `next_try_at`, `retry_code`, a log entry, and the signal `turn_changed`.
    """
    policy = POLICIES.get(code)
    if policy is None or turn.retries >= policy.tries:
        return False
    at = later(delay_for(policy, turn.retries))
    with transaction.atomic():
        lock_session(turn.session_id)
        mine = Turn.objects.filter(pk=turn.pk, state=TurnState.RUNNING, lease_epoch=turn.lease_epoch)
        planned = mine.filter(abort_reason=turn.abort_reason).update(
            state=TurnState.ADMITTED,
            hold=Case(When(hold=RELEASED, then=Value("")), default=F("hold")),
            retries=F("retries") + 1,
            retry_code=code,
            error_message=clean(message),
            answered_until=answered_until,
            next_try_at=at,
            retry_note="",
            retry_at=None,
            abort_requested_at=None,
            abort_reason="",
            attempts=0,
            lease_epoch=F("lease_epoch") + 1,
        )
        if planned:
            ask_rows.lose(turn.pk)
            clock.hold(turn.pk)
            data = {"turn": turn.number, "error_code": code, "message": cut(clean(message), 2000)}
            data |= {"next_at": at.isoformat(), "attempt": turn.retries + 1, "of": policy.tries}
            note(turn, "turn.retrying", f"{turn.retries}", data)
            log.info("turn_retry_planned", turn=str(turn.pk), code=code, at=at.isoformat())
    return True


def try_now(*, turn_id: uuid.UUID | str) -> bool:
    """A person does not want to wait for the planned try; False when none is planned."""
    with transaction.atomic():
        waiting = Turn.objects.filter(pk=turn_id, state=TurnState.ADMITTED, hold="").exclude(retry_code="")
        if not waiting.update(next_try_at=now()):
            return False
        enqueue(Names.DISPATCH_TURN, turn_id)
    return True


def note_wait(session_id: uuid.UUID, message: str, at: datetime | None) -> None:
    """The server itself waits until `at` to ask the provider again: whoever shows the turn hears of it."""
    with transaction.atomic():
        turn = _at_work(session_id)
        if turn is not None and (turn.retry_note, turn.retry_at) != (message, at):
            Turn.objects.filter(pk=turn.pk).update(retry_note=message, retry_at=at)
            turn_changed.send(sender=Turn, turn=turn)


def wait_is_over(session_id: uuid.UUID) -> None:
    """The provider was asked again. Idempotent."""
    with transaction.atomic():
        turn = _at_work(session_id)
        if turn is not None and (turn.retry_note or turn.retry_at):
            Turn.objects.filter(pk=turn.pk).update(retry_note="", retry_at=None)
            turn_changed.send(sender=Turn, turn=turn)


def _at_work(session_id: uuid.UUID) -> Turn | None:
    working = Turn.objects.filter(session_id=session_id, state__in=[TurnState.DISPATCHING, TurnState.RUNNING])
    return working.defer("prompt", "system").first()


def mark_unknown(turn: Turn, message: str) -> bool:
    """The server's data of the turn is gone: a person decides. False when the turn went on otherwise meanwhile."""
    with transaction.atomic():
        lock_session(turn.session_id)
        marked = Turn.objects.filter(
            pk=turn.pk, state__in=[TurnState.DISPATCHING, TurnState.RUNNING], lease_epoch=turn.lease_epoch
        ).update(
            state=TurnState.UNKNOWN,
            error_code="session_lost",
            error_message=clean(message),
            retry_note="",
            retry_at=None,
            next_try_at=None,
            lease_owner="",
            lease_until=None,
            lease_epoch=F("lease_epoch") + 1,
        )
        if marked:
            # However the turn ends, nothing follows it in a conversation that the server does not know.
            AgentSession.objects.filter(pk=turn.session_id).update(broken="session_lost")
            ask_rows.lose(turn.pk)
            clock.hold(turn.pk)
            note(turn, "turn.unknown", str(turn.resumes), {"turn": turn.number, "message": cut(clean(message), 2000)})
            log.warning("turn_unknown", turn=str(turn.pk), message=message)
    return bool(marked)


def retry_unknown(*, turn_id: uuid.UUID | str, actor: Any = None) -> Turn:
    """Send an unknown turn's prompt again, into a fresh session on the server. Raises Conflict when it is not unknown."""
    with transaction.atomic():
        turn = _unknown(turn_id)
        again = turn.resumes + 1
        session = AgentSession.objects.select_for_update().get(pk=turn.session_id)
        session.external_id, session.upstream_seq, session.broken = "", -1, ""
        session.save(update_fields=["external_id", "upstream_seq", "broken"])
        turn.state, turn.hold, turn.error_code, turn.error_message = TurnState.ADMITTED, "", "", ""
        turn.resumes, turn.attempts, turn.retry_code, turn.started_at = again, 0, "session_lost", None
        turn.message_id = derived_id("msg", turn.pk, now(), 2 * again + 1)
        turn.part_id = derived_id("prt", turn.pk, now(), 2 * again + 2)
        turn.prompt = turn.prompt if turn.prompt.endswith(LOST_NOTE) else turn.prompt + LOST_NOTE
        turn.answered_until = ""
        turn.save()
        note(
            turn,
            "turn.retrying",
            f"lost-{again}",
            {"turn": turn.number, "error_code": "session_lost", "by": _name(actor)},
        )
        enqueue(Names.DISPATCH_TURN, turn.pk)
    return turn


def abandon_unknown(*, turn_id: uuid.UUID | str, actor: Any = None) -> Turn:
    """Give an unknown turn up: it counts as failed. Raises Conflict when it is not unknown."""
    with transaction.atomic():
        turn = _unknown(turn_id)
        by = f"Given up by {_name(actor)}." if actor is not None else ""
        settle(turn.pk, TurnOutcome.FAILED, error_code="session_lost", error_message=by)
    turn.refresh_from_db()
    return turn


def note(turn: Turn, kind: str, key: str, data: dict[str, Any]) -> None:
    """Write what changed in the life of an unsettled turn, and tell it upwards; inside the caller's transaction."""
    session_log.append(turn.session_id, [LogEntry(kind=kind, key=f"{kind}:{turn.pk}:{key}", data=data, at=now())])
    turn_changed.send(sender=Turn, turn=turn)


def next_try(turn: Turn) -> datetime | None:
    """When the turn is tried again by itself, by the studio or by the server; None when nothing is planned."""
    if turn.state == TurnState.ADMITTED and turn.retry_code:
        return turn.next_try_at
    return turn.retry_at if turn.state == TurnState.RUNNING else None


def _unknown(turn_id: uuid.UUID | str) -> Turn:
    turn = Turn.objects.select_for_update().filter(pk=turn_id).first()
    if turn is None:
        raise NotFound("There is no such turn.")
    if turn.state != TurnState.UNKNOWN:
        raise Conflict("This turn is not lost: there is nothing to decide.", allowed=[])
    return turn


def _name(actor: Any) -> str:
    return str(actor.get_username()) if actor is not None else "studio"
