"""What happens when a budget is used up: people are told, are asked and the turn waits, or the turn ends.

Looked at after each step (a job), in the bridge's ticks, and before a turn is sent. Looking twice does nothing twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from decimal import Decimal

import structlog
from django.db import transaction

from agents.backend import LogEntry
from sessions_app import log as session_log
from sessions_app.budget_state import Reached, barring, reached_by, used_for
from sessions_app.models import (
    Ask,
    AskKind,
    AskReply,
    AskState,
    BudgetAction,
    BudgetHit,
    BudgetScope,
    Turn,
    TurnState,
)
from sessions_app.services import ask_rows
from sessions_app.services.abort import request_abort
from sessions_app.services.pause import NOT_HELD, pause_turn, release_turn
from sessions_app.services.turns import lock_session
from sessions_app.signals import ask_opened
from sessions_app.usage import today
from studio import outbox
from studio.kernel.clock import now
from studio.queue import Names, enqueue

log = structlog.get_logger(__name__)

HOLD = "budget"
EXCEEDED = "budget_exceeded"
STUDIO = "OpenCode Studio"
GO_ON = ": go on?"
NO_LONGER = "The question is void: no budget holds the turn any more."
AT_ONCE = 500  # asks that one pass looks at
HEAVY = ("prompt", "system", "result_text")


def check_sessions(session_ids: Iterable[uuid.UUID | str]) -> int:
    """Hold the newest turns of these sessions against their budgets; how many acted. Idempotent."""
    turns = Turn.objects.filter(session_id__in=list(session_ids)).order_by("number")
    return check(dict(turns.values_list("session_id", "pk")).values())


def check(turn_ids: Iterable[uuid.UUID | str]) -> int:
    """Hold turns against their budgets; how many turns a budget acted on. Idempotent.

    The number of queries does not depend on the number of turns, but for those that a budget acts on.
    """
    turns = list(Turn.objects.filter(pk__in=list(turn_ids)).select_related("session").defer(*HEAVY))
    found = reached_by(turns)
    known = _known(found)
    return sum(_act(turn, found[turn.pk], known) for turn in turns if turn.pk in found)


def bars(turn: Turn) -> bool:
    """Whether a budget keeps a turn from being sent now; it then waits for a person, or ends."""
    found = barring(turn)
    if found:
        _act(turn, found, _known({turn.pk: found}))
    return bool(found) and found[0].budget.action != BudgetAction.WARN


def _known(found: dict[uuid.UUID, list[Reached]]) -> set[tuple[uuid.UUID, str]]:
    """Which of these budgets are noted as reached already, by what they count."""
    reached = {(one.budget.pk, one.counted) for many in found.values() for one in many}
    hits = BudgetHit.objects.filter(budget__in={pk for pk, _ in reached}, counted__in={name for _, name in reached})
    return set(hits.values_list("budget_id", "counted"))


def _act(turn: Turn, reached: list[Reached], known: set[tuple[uuid.UUID, str]]) -> bool:
    """Note what is reached for the first time, then let the strictest budget act; whether anything was done."""
    first, action = reached[0], reached[0].budget.action
    free = turn.state not in (TurnState.SETTLED, TurnState.UNKNOWN) and not turn.abort_requested_at
    free = free and turn.hold in NOT_HELD
    acts = free and action != BudgetAction.WARN
    new = [one for one in reached if (one.budget.pk, one.counted) not in known]
    if not (new or acts):
        return False
    with transaction.atomic():
        lock_session(turn.session_id)
        for one in new:
            _note(turn, one)
        if acts and action == BudgetAction.STOP:
            request_abort(turn_id=turn.pk, reason=EXCEEDED, message=f"{first.sentence}.")
        elif acts:
            _ask(turn, first)
    return True


def _note(turn: Turn, reached: Reached) -> None:
    """Remember that the budget is reached and say so, once."""
    budget = reached.budget
    hit, created = BudgetHit.objects.get_or_create(
        budget=budget, counted=reached.counted, defaults={"used": reached.used}
    )
    if not created:
        return
    data = {"scope": budget.scope, "metric": budget.metric, "amount": _plain(reached.limit)}
    data |= {"used": _plain(reached.used)}
    data |= {"action": budget.action, "message": f"{reached.sentence}."}
    session_log.append(turn.session_id, [LogEntry("budget.reached", f"budget.reached:{hit.pk}", data, now())])
    session = turn.session
    topic = f"task:{session.subject}" if session.subject else f"project:{session.project_id}"
    payload = {**data, "session": str(session.pk), "task": session.subject}
    outbox.publish(session.project_id, topic, "budget.reached", payload)
    log.info("budget_reached", budget=str(budget.pk), counted=reached.counted, used=str(reached.used))


def _plain(amount: Decimal) -> str:
    """An amount without the zeros that the database's arithmetic leaves behind it."""
    return f"{amount.normalize():f}"


def _ask(turn: Turn, reached: Reached) -> None:
    """Let the turn wait, and ask once whether it may go on past this limit."""
    budget, session = reached.budget, turn.session
    hit = BudgetHit.objects.select_for_update().get(budget=budget, counted=reached.counted)
    if budget.amount + hit.allowance > reached.used:
        return  # a person has granted more meanwhile
    mine = Ask.objects.filter(session=session, external_id__startswith=f"budget:{hit.pk}:{turn.pk.hex}:")
    if not mine.filter(state=AskState.PENDING).exists():
        detail = {"hit": hit.pk, "scope": budget.scope, "metric": budget.metric}
        detail |= {
            "used": str(reached.used),
            "limit": str(reached.limit),
            "more": "" if reached.before else str(budget.amount),
        }
        ask = Ask.objects.create(
            session=session,
            turn=turn,
            kind=AskKind.BUDGET,
            external_id=f"budget:{hit.pk}:{turn.pk.hex}:{mine.count() + 1}",
            directory=session.directory,
            asker=STUDIO,
            title=f"{reached.sentence}{GO_ON}",
            detail=detail,
            due_at=ask_rows.due_from(session.project_id, now()),
        )
        BudgetHit.objects.filter(pk=hit.pk).update(ask=ask, used=reached.used)
        ask_rows.note(ask, "opened", {"title": ask.title, "asker": ask.asker, "turn": turn.number})
        ask_opened.send(sender=Ask, ask=ask)
    pause_turn(turn_id=turn.pk, reason=HOLD)


def answered(ask: Ask) -> None:
    """Draw the conclusion from an answered ask, in the transaction of its answer.

    "Once" grants the amount again to what the budget counts, so every turn that waits for the same goes on (a job lets the
    others go); anything else ends this turn.
    """
    if ask.reply not in (AskReply.ONCE, AskReply.ALWAYS):
        if ask.turn_id:
            message = f"{ask.title.removesuffix(GO_ON)}, and {_refusal(ask)}."
            request_abort(turn_id=ask.turn_id, reason=EXCEEDED, message=message)
        return
    hit = BudgetHit.objects.select_for_update().select_related("budget").filter(pk=ask.detail.get("hit")).first()
    if hit is not None:
        budget = hit.budget
        used = used_for(budget, hit.counted)
        hit.allowance = max(budget.amount + hit.allowance, used)  # so that one answer always buys the whole amount
        hit.used = used
        hit.save(update_fields=["allowance", "used", "at"])
        enqueue(Names.RECONSIDER_BUDGETS)
    _let_go(ask)


def _refusal(ask: Ask) -> str:
    if ask.state == AskState.EXPIRED:
        return "nobody answered in time"
    words = ask.message.rstrip(".")
    return f"{ask.answered_name} said no: {words}" if words else f"{ask.answered_name} said no"


def reconsider() -> int:
    """Let turns go on whose budget was granted more, raised, switched off or removed, or whose day is over; how many did.

    Idempotent; asked for with each such change, and by the sweeper for what that missed.
    """
    pending = Ask.objects.filter(kind=AskKind.BUDGET, state=AskState.PENDING).order_by("created_at")
    closed = 0
    for ask in pending.select_related("turn__session")[:AT_ONCE]:
        if _still_asked(ask):
            continue
        with transaction.atomic():
            lock_session(ask.session_id)
            if ask_rows.close_row(ask, AskState.WITHDRAWN, "withdrawn", {"reason": NO_LONGER}):
                _let_go(ask)
                closed += 1
    return closed


def _still_asked(ask: Ask) -> bool:
    turn = ask.turn
    if turn is None or turn.state == TurnState.SETTLED:
        return False
    hit = BudgetHit.objects.select_related("budget").filter(pk=ask.detail.get("hit")).first()
    if hit is None or not hit.budget.enabled or hit.budget.action != BudgetAction.ASK:
        return False
    if hit.budget.scope == BudgetScope.DAY and not hit.counted.endswith(today().isoformat()):
        return False
    return any(one.budget.pk == hit.budget_id for one in barring(turn))


def _let_go(ask: Ask) -> None:
    """Release the ask's turn; when another budget is used up too, that asks before the turn is sent."""
    if ask.turn_id is not None:
        release_turn(turn_id=ask.turn_id)
