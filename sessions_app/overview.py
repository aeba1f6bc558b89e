"""What stands above and below a session's transcript: where it is, what it used, and what it waits for from people."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from django.db.models import Sum

from agents.models import ModelCatalog
from sessions_app import selectors
from sessions_app.ask_cards import AskCard
from sessions_app.models import AgentSession, Delivery, InboxItem, InboxState, Turn, TurnState
from sessions_app.services.retries import next_try
from sessions_app.transcripts import Transcript
from studio.kernel.clock import now
from studio.kernel.permissions import Role, at_least
from workspaces.selectors import role_in

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

MAY_SEND = Role.MAINTAINER
MAY_ANSWER = Role.MAINTAINER
WARN_AT = 80  # per cent of the model's context
SILENT_SECONDS = 45  # without a sign of life of the model before the page says so
CHAIN_SHOWN = 5  # sessions that went on from this one
STATES = {
    TurnState.ADMITTED: "Being sent",
    TurnState.DISPATCHING: "Being sent",
    TurnState.RUNNING: "At work",
    TurnState.UNKNOWN: "Unknown",
}


@dataclass(frozen=True, slots=True)
class State:
    """Where the session is: a word, its tone, and whether something turns."""

    word: str
    tone: str
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Overview:
    """Where a session is. `turn` is the one that is not settled, `last` the newest of all."""

    session: AgentSession
    turn: Turn | None
    last: Turn | None
    state: State
    model: str
    context_limit: int
    todo: Sequence[Mapping[str, Any]]
    steps: int
    turns: int
    successors: list[AgentSession]

    @property
    def alive(self) -> bool:
        """Whether the agent is, or will be, at work by itself: what runs in the transcript may still end."""
        return self.turn is not None and self.turn.state != TurnState.UNKNOWN

    @property
    def done(self) -> int:
        """How many items of the todo list are finished."""
        return sum(1 for item in self.todo if item.get("status") in ("completed", "cancelled"))

    @property
    def context_part(self) -> int | None:
        """How much of the model's context the last step filled, in per cent; None where that is not known."""
        if not self.context_limit or not self.session.context_tokens:
            return None
        return min(100, round(100 * self.session.context_tokens / self.context_limit))

    @property
    def context_tone(self) -> str:
        """amber when the context is nearly full."""
        return "amber" if (self.context_part or 0) > WARN_AT else ""

    @property
    def next_try(self) -> datetime | None:
        """When the turn is tried again by itself."""
        return next_try(self.turn) if self.turn else None

    @property
    def heard(self) -> datetime | None:
        """The last sign of life of a turn at work; None while nobody waits for one."""
        if self.turn is None or self.turn.state != TurnState.RUNNING or self.turn.retry_note:
            return None
        return None if self.turn.waiting_since or self.turn.hold else self.turn.last_event_at or self.turn.started_at

    @property
    def silent(self) -> bool:
        """Whether a page that is not alive should say that the model has been silent for long."""
        return self.heard is not None and (now() - self.heard).total_seconds() > SILENT_SECONDS


@dataclass(frozen=True, slots=True)
class Pending:
    """What a session waits for from people, and the messages that wait for it."""

    session: AgentSession
    asks: list[AskCard]
    messages: list[InboxItem]
    unknown: Turn | None
    busy: bool
    may_send: bool
    may_answer: bool

    @property
    def may_rise(self) -> set[uuid.UUID]:
        """The messages that have one of their kind before them, with which they may change places."""
        return {after.pk for _, after in self._neighbours()}

    @property
    def may_sink(self) -> set[uuid.UUID]:
        """The messages that have one of their kind after them."""
        return {before.pk for before, _ in self._neighbours()}

    def _neighbours(self) -> Iterable[tuple[InboxItem, InboxItem]]:
        movable = [one for one in self.messages if one.state == InboxState.WAITING and not one.message_id]
        return (pair for pair in pairwise(movable) if pair[0].delivery == pair[1].delivery)


def context_of(user: Person, transcript: Transcript) -> dict[str, Any]:
    """The template context of a transcript with everything around it."""
    session = transcript.session
    turn = selectors.active_turn(session)
    role = role_in(user, session.project)
    return {
        "transcript": transcript,
        "overview": overview(session, turn),
        "pending": pending(session, turn, role),
        "silent_seconds": SILENT_SECONDS,
    }


def overview(session: AgentSession, turn: Turn | None) -> Overview:
    """Where `session` is, whose unsettled turn is `turn`."""
    last = turn or selectors.light_turns(session).order_by("-number").first()
    model = (turn.model if turn else "") or session.model or session.server.default_model
    return Overview(
        session=session,
        turn=turn,
        last=last,
        state=state_of(turn, last),
        model=model,
        context_limit=context_limit(session, model),
        todo=selectors.todo_list(session),
        steps=session.turns.aggregate(steps=Sum("steps"))["steps"] or 0,
        turns=last.number if last else 0,
        successors=list(session.successors.order_by("created_at")[:CHAIN_SHOWN]),
    )


def state_of(turn: Turn | None, last: Turn | None) -> State:
    """Where a session is whose unsettled turn is `turn` and whose newest is `last`."""
    if turn is None:
        return State("Idle", "grey") if last else State("Not begun", "grey")
    if turn.state == TurnState.UNKNOWN:
        return State("Nobody knows how it ended", "red")
    if turn.abort_requested_at:
        return State("Being stopped", "grey", busy=True)
    if turn.hold:
        return State("Paused", "amber")
    if turn.waiting_since and turn.state == TurnState.RUNNING:
        return State("Waiting for you", "amber")
    if turn.retry_note or (turn.state == TurnState.ADMITTED and turn.retry_code):
        return State("Waiting for the next try", "amber")
    return State(STATES[TurnState(turn.state)], "accent", busy=True)


def context_limit(session: AgentSession, model: str) -> int:
    """How many tokens the model takes; 0 where the server does not say."""
    provider, _, name = model.partition("/")
    rows = ModelCatalog.objects.filter(server=session.server_id, provider=provider, model=name)
    return rows.values_list("context_limit", flat=True).first() or 0


def pending(session: AgentSession, turn: Turn | None, role: Role | None) -> Pending:
    """What waits in `session`, for somebody with `role` in its project."""
    may_answer = at_least(role, MAY_ANSWER)
    return Pending(
        session=session,
        asks=[AskCard(ask, may_answer) for ask in selectors.pending_asks(session)],
        messages=sorted(selectors.open_messages(session), key=lambda one: one.delivery != Delivery.STEER),
        unknown=turn if turn is not None and turn.state == TurnState.UNKNOWN else None,
        busy=turn is not None,
        may_send=at_least(role, MAY_SEND),
        may_answer=may_answer,
    )
