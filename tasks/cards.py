"""The board as people see it: columns of cards, each with one mark that says what it needs or what happens to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Count, Q, QuerySet

from studio.kernel.permissions import Role, at_least
from studio.kernel.text import cut
from tasks import selectors
from tasks.choices import (
    ACTIVE_RUN_STATES,
    BOARD_COLUMNS,
    ERRORS,
    CompletionWay,
    Needs,
    Phase,
    RunPhaseState,
    RunState,
    Status,
)
from tasks.follow_ups import ASKING, BESIDE, FollowUp, follow_ups
from tasks.models import PhaseRun, Task
from workspaces.models import Project

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = 20  # cards of a column at first, and with each "Show more": a full board stays below 100 kB
REASON_SHOWN = 90  # characters of a failure's sentence on a card
LABELS_SHOWN = 3

# The filter of the board by what is going on.
STATES: dict[str, tuple[str, Q]] = {
    "needs": ("Needs you", ~Q(needs="") | Q(workspace__in=ASKING)),
    "running": ("At work", Q(run_state__in=[RunState.QUEUED, RunState.RUNNING]) | Q(workspace__in=BESIDE)),
    "failed": ("Failed", Q(run_state=RunState.FAILED)),
    "cancelled": ("Cancelled", Q(status=Status.CANCELLED)),
}

# What an empty column says: what will be there, and who acts.
TEACH: dict[str, str] = {
    Status.TODO: "What should change? Write it down, in a sentence or a page.",
    Status.PLANNING: "An agent reads the repository and writes a plan.",
    Status.PLANNING_REVIEW: "You approve the plan, or say what to change.",
    Status.IN_PROGRESS: "An agent works in a checkout of its own.",
    Status.AI_REVIEW: "A second agent checks the change.",
    Status.REVIEW: "You read the change, and merge it.",
    Status.DONE: "What was merged, newest first.",
    Status.CANCELLED: "What was given up.",
}

AT_WORK: dict[str, str] = {
    Phase.PLANNING: "Planning",
    Phase.IMPLEMENTATION: "Working",
    Phase.REVIEW: "Reviewing",
    Phase.FIX: "Fixing",
}
SETTING_UP = "The setup script runs."  # the reason of a task whose run waits for its checkout's setup
WAITS_FOR: dict[str, str] = {
    Needs.PLAN_APPROVAL: "Approve plan",
    Needs.REVIEW: "Review change",
    Needs.DECISION: "Your decision",
    Needs.CONFLICT: "Merge conflict",
    Needs.PULL_REQUEST: "Pull request open",
    Needs.ANSWER: "Answer the agent",
    Needs.UNKNOWN: "Lost track: decide",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """The one line below a card's title. `since` (epoch seconds): a clock runs from there."""

    tone: str  # amber: you are needed; red: failed; accent: an agent works; grey
    icon: str  # an icon's name, or "spin"
    text: str
    title: str = ""
    since: int | None = None
    whole: str = ""  # what is read aloud instead of a text that was shortened


@dataclass(frozen=True, slots=True)
class CardView:
    """One card."""

    key: str
    title: str
    column: str
    order: float  # ascending within the column
    mark: Mark | None
    urgency: str  # "", high, higher, low
    labels: str
    age: int  # epoch seconds of the last change
    startable: bool


@dataclass(frozen=True, slots=True)
class ColumnView:
    """One column; `more` counts what is not shown."""

    status: str
    label: str
    teach: str
    total: int
    cards: list[CardView]
    needs_you: bool

    @property
    def more(self) -> int:
        """How many cards the column holds besides those shown."""
        return self.total - len(self.cards)


@dataclass(frozen=True, slots=True)
class Filter:
    """What of the board is shown."""

    q: str = ""
    state: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """The filter of a page's query; what is not understood does not filter."""
        state = query.get("state", "")
        return cls(q=query.get("q", "").strip()[:200], state=state if state in STATES else "")

    @property
    def columns(self) -> list[Status]:
        """The columns that are shown: what was cancelled is seen only by itself."""
        return [Status.CANCELLED] if self.state == "cancelled" else list(BOARD_COLUMNS)

    def __bool__(self) -> bool:
        return bool(self.q or self.state)

    def tasks(self, project: Project) -> QuerySet[Task]:
        """The project's tasks that it lets through."""
        tasks = selectors.search(Task.objects.filter(project=project), self.q)
        return tasks.filter(STATES[self.state][1]) if self.state else tasks


def read_board(project: Project, role: str | None, only: Filter) -> list[ColumnView]:
    """All columns with their first cards. The number of queries does not depend on the number of tasks."""
    totals = read_totals(project, only)
    rows = {status: read_column(project, status, only) for status in only.columns}
    cards = card_views(project, role, [task for tasks in rows.values() for task in tasks])
    return [
        ColumnView(
            status=status,
            label=status.label,
            teach=TEACH[status],
            total=totals[status][0],
            cards=[cards[task.pk] for task in rows[status]],
            needs_you=totals[status][1],
        )
        for status in only.columns
    ]


def read_totals(project: Project, only: Filter) -> dict[str, tuple[int, bool]]:
    """For each column: how many tasks it holds, and whether one of them needs a person."""
    rows = (
        only.tasks(project)
        .order_by()
        .values_list("status")
        .annotate(total=Count("pk"), waiting=Count("pk", filter=STATES["needs"][1]))
    )
    found = {status: (total, waiting > 0) for status, total, waiting in rows}
    return {status: found.get(status, (0, False)) for status in only.columns}


def read_column(project: Project, status: str, only: Filter, offset: int = 0) -> list[Task]:
    """The next cards of a column, in board order, without what a card does not show."""
    rows = only.tasks(project).filter(status=status).defer("description")
    return list(rows.order_by("position", "number")[offset : offset + PAGE])


def card_views(project: Project, role: str | None, tasks: Iterable[Task]) -> dict[uuid.UUID, CardView]:
    """The cards of `tasks`, by id; three queries, and two more when an agent is at work beside a run, however many they are."""
    rows = list(tasks)
    active = {
        run.task_id: run
        for run in PhaseRun.objects.filter(task__in=rows, state__in=ACTIVE_RUN_STATES).only(
            "task_id", "phase", "round", "state", "started_at", "created_at", "stop_requested_at"
        )
    }
    beside = follow_ups(rows)
    places = selectors.queue_positions(project)
    may_start = at_least(role, Role.MAINTAINER)
    return {
        task.pk: card_view(task, active.get(task.pk), places.get(task.pk), beside.get(task.pk), may_start=may_start)
        for task in rows
    }


def card_view(
    task: Task, run: PhaseRun | None, place: int | None, beside: FollowUp | None = None, *, may_start: bool
) -> CardView:
    """One card; `run` is the active one, `place` its place in the queue, `beside` what is at work without a run."""
    return CardView(
        key=task.key,
        title=task.title,
        column=task.status,
        order=task.position,
        mark=mark_of(task, run, place, beside),
        urgency=urgency(task.priority),
        labels=", ".join(task.labels[:LABELS_SHOWN]),
        age=int(task.updated_at.timestamp()),
        startable=may_start and task.status == Status.TODO and task.run_state == RunState.IDLE,
    )


def mark_of(
    task: Task, run: PhaseRun | None = None, place: int | None = None, beside: FollowUp | None = None
) -> Mark | None:
    """What a card says below its title: what it needs of a person outranks everything else.

    An agent beside the runs is seen before what waits until it has ended; a failure stays until it asks something.
    """
    if beside is not None and run is None and (beside.asks or task.run_state != RunState.FAILED):
        return _beside(beside)
    if task.run_state == RunState.FAILED:
        known = ERRORS.get(task.error_code)
        sentence = known.sentence if known else task.reason or "Failed."
        return Mark("red", "alert", cut(sentence, REASON_SHOWN), title=cut(task.reason, 300))
    if task.needs in WAITS_FOR:
        icon = "merge" if task.needs in (Needs.CONFLICT, Needs.PULL_REQUEST) else "hand"
        tone = "accent" if task.needs == Needs.PULL_REQUEST else "amber"  # people look at it elsewhere
        return Mark(tone, icon, WAITS_FOR[task.needs], title=cut(task.reason, 300))
    if task.run_state == RunState.STOPPED:
        return Mark("grey", "pause", "Stopped")
    if task.run_state == RunState.QUEUED:
        return Mark("grey", "clock", f"Queued, number {place}" if place else "Queued")
    if task.run_state == RunState.RUNNING:
        return _at_work(task, run)
    if task.reverted_commit:
        whole = f"Merged, then taken back as {task.reverted_commit[:10]}"
        return Mark("grey", "refresh", "Taken back", title=whole, whole=whole)
    if task.completed_how == CompletionWay.NONE:
        return Mark("grey", "info", "Not merged")
    return None


def _beside(beside: FollowUp) -> Mark:
    card, said = beside.card, cut(beside.said, 300)
    if beside.asks:
        return Mark("amber", "hand", WAITS_FOR[card.needs], title=cut(card.reason, 300))
    if card.reason and not beside.stopping:
        return Mark("grey", "clock", cut(card.reason, REASON_SHOWN), title=said)
    text = "Stopping" if beside.stopping else "On a message" if beside.messages else "At work"
    return Mark("accent", "spin", text, title=said, since=int(beside.since.timestamp()))


def _at_work(task: Task, run: PhaseRun | None) -> Mark:
    if run is None:
        merging = cut(task.reason.rstrip("."), REASON_SHOWN) or "Merging"
        doing = {Status.REVIEW: merging, Status.DONE: "Taking it back"}
        return Mark("accent", "spin", doing.get(Status(task.status), "At work"))
    text = AT_WORK[run.phase] + (f" ({run.round})" if run.round > 1 else "")
    if run.stop_requested_at:
        text = "Stopping"
    elif task.reason and run.state == RunPhaseState.RUNNING:
        return Mark("grey", "clock", cut(task.reason, REASON_SHOWN), title=text)
    elif run.state == RunPhaseState.PREPARING:
        text = "Setting up" if task.reason == SETTING_UP else "Preparing the checkout"
    since = run.started_at or run.created_at
    return Mark("accent", "spin", text, title=f"Round {run.round}", since=int(since.timestamp()))


def urgency(priority: int) -> str:
    """A priority in words for the eye."""
    if priority >= 50:
        return "higher"
    if priority > 0:
        return "high"
    return "low" if priority < 0 else ""
