"""What waits for people, over all projects: what agents ask first, then plans and changes that are ready."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from sessions_app import selectors as sessions
from sessions_app.ask_cards import AskCard
from sessions_app.models import Ask, AskState
from sessions_app.overview import MAY_ANSWER
from studio.kernel.pages import is_fragment
from studio.kernel.permissions import at_least
from tasks import cards, selectors
from tasks.choices import Needs, RunState
from tasks.follow_ups import WORKING, follow_ups
from tasks.models import Task
from workspaces.selectors import projects_visible_to, roles_in

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

ASKS_SHOWN = 50
TASKS_SHOWN = 100
PROJECTS_FOLLOWED = 150  # topics of a page: the server allows 200 a connection
WAITING = [RunState.WAITING, RunState.FAILED]


@dataclass(frozen=True, slots=True)
class WaitingAsk:
    """An ask with the task that it belongs to, if that is known."""

    card: AskCard
    task: Task | None


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """A task that a person must look at."""

    task: Task
    mark: cards.Mark | None


@require_GET
def waiting(request: HttpRequest) -> HttpResponse:
    """Everything that waits for a person, oldest first."""
    asks, tasks = pending_asks(request.user), waiting_tasks(request.user)
    shown = list(tasks[:TASKS_SHOWN])
    beside = follow_ups(shown)
    context = {
        "asks": _with_tasks(request.user, asks[:ASKS_SHOWN]),
        "tasks": [WaitingTask(one, cards.mark_of(one, beside=beside.get(one.pk))) for one in shown],
        "more": max(0, asks.count() - ASKS_SHOWN) + max(0, tasks.count() - TASKS_SHOWN),
        "back": reverse("waiting"),
    }
    return render(request, "tasks/_waiting.html" if is_fragment(request) else "tasks/waiting.html", context)


@require_GET
def waiting_count(request: HttpRequest) -> HttpResponse:
    """How much waits, and the projects whose feeds tell when that changes."""
    projects = projects_visible_to(request.user).values_list("pk", flat=True)[:PROJECTS_FOLLOWED]
    context = {
        "count": pending_asks(request.user).count() + waiting_tasks(request.user).count(),
        "projects": " ".join(map(str, projects)),
    }
    return render(request, "tasks/_waiting_count.html", context)


def pending_asks(user: Person) -> QuerySet[Ask]:
    """What agents wait for, oldest first."""
    return sessions.asks_visible_to(user).filter(state=AskState.PENDING)


def waiting_tasks(user: Person) -> QuerySet[Task]:
    """The tasks that rest until a person acts, oldest first; without those whose agents ask, which are listed as asks, and
    those in whose checkout an agent is at work on a message, unless they failed."""
    resting = selectors.tasks_visible_to(user).filter(run_state__in=WAITING)
    resting = resting.exclude(Q(workspace__in=WORKING), ~Q(run_state=RunState.FAILED))
    return resting.exclude(needs__in=[Needs.NOTHING, Needs.ANSWER]).order_by("updated_at").defer("description")


def _with_tasks(user: Person, asks: Iterable[Ask]) -> list[WaitingAsk]:
    found = list(asks)
    roles = roles_in(user, {ask.session.project for ask in found})
    subjects = {subject for ask in found if (subject := _uuid(ask.session.subject))}
    tasks = selectors.tasks_visible_to(user).defer("description").in_bulk(list(subjects))
    return [
        WaitingAsk(
            card=AskCard(ask, at_least(roles.get(ask.session.project_id), MAY_ANSWER)),
            task=tasks.get(_uuid(ask.session.subject)),
        )
        for ask in found
    ]


def _uuid(value: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(value)
    except ValueError:
        return None
