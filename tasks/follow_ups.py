"""Turns at work in a task's checkout beside its runs, as card and page show them: a message opened one, or its run is over
and it still ends."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.db.models import Prefetch

from sessions_app.models import Ask, AskState, InboxItem, Turn, TurnState
from tasks.choices import ACTIVE_RUN_STATES
from tasks.models import Task
from tasks.services.card_refresh import card_of
from tasks.services.moves import STUDIO, Card

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

# The checkouts in which somebody is asked something, and those in which a turn without a run has not ended.
ASKING = Ask.objects.filter(state=AskState.PENDING).values("session__workspace")
UNSETTLED = [state for state in TurnState if state != TurnState.SETTLED]
BESIDE = Turn.objects.filter(state__in=UNSETTLED, run__isnull=True).values("session__workspace")
WORKING = BESIDE.exclude(state=TurnState.UNKNOWN)  # nobody has to decide there


@dataclass(frozen=True, slots=True)
class FollowUp:
    """One such turn. `card`: what the card of a run would show of it."""

    turn: Turn
    card: Card
    messages: list[InboxItem]  # that the turn took, in their order

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        return self.turn.abort_requested_at is not None

    @property
    def asks(self) -> bool:
        """Whether it cannot go on without a person."""
        return bool(self.card.needs) and not self.stopping

    @property
    def said(self) -> str:
        """What people wrote to it, in one line."""
        return " ".join(" ".join(one.text for one in self.messages).split())

    @property
    def since(self) -> datetime:
        """When it began."""
        return self.turn.started_at or self.turn.created_at

    def about(self, user: AbstractBaseUser | AnonymousUser) -> str:
        """What it is about, for `user`: "your message", "ada’s message"; empty when no message opened it."""
        if not self.messages:
            return ""
        first = self.messages[0]
        if first.author_name == STUDIO:
            return "a message of the studio"
        return "your message" if first.author_id == user.pk else f"{first.author_name}’s message"


def follow_ups(tasks: Iterable[Task]) -> dict[uuid.UUID, FollowUp]:
    """What is at work beside the runs of `tasks`, by task: of several the one that needs a person, else the oldest.

    One query, and two more when there is something; however many tasks they are.
    """
    places = {task.workspace_id: task.pk for task in tasks if task.workspace_id is not None}
    asks = Ask.objects.filter(state=AskState.PENDING).only("turn", "asker", "title").order_by("created_at")
    messages = InboxItem.objects.only("turn", "text", "author", "author_name").order_by("position")
    turns = (
        Turn.objects.filter(session__workspace__in=places, state__in=UNSETTLED)
        .exclude(run__state__in=ACTIVE_RUN_STATES)
        .select_related("session")
        .defer("prompt", "system", "result_text")
        .prefetch_related(Prefetch("asks", asks), Prefetch("messages", messages))
        .order_by("created_at")
    )
    found: dict[uuid.UUID, FollowUp] = {}
    for turn in turns:
        one = FollowUp(turn, card_of(turn, list(turn.asks.all())), list(turn.messages.all()))
        task_id = places[turn.session.workspace_id]
        if task_id not in found or (one.asks and not found[task_id].asks):
            found[task_id] = one
    return found
