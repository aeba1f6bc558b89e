"""The projects, a project's board, its fragments, and new tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from studio import outbox
from studio.kernel.errors import Invalid, NotFound, StudioError
from studio.kernel.pages import is_fragment, number, status_of
from studio.kernel.permissions import Role, at_least
from studio.kernel.text import clean, cut
from studio.models import FeedHead
from tasks import cards
from tasks.choices import Needs, RunState, Status
from tasks.models import Task
from tasks.services.board import TITLE_LIMIT, create_task
from tasks.services.lifecycle import act
from tasks.services.starting import begin_at, find_start
from tasks.views.start import places
from workspaces.models import Project
from workspaces.selectors import NO_REGISTERING, may_register, project_by, projects_visible_to, role_in
from workspaces.storage import repository_trouble, stored_by

KEYS_LIMIT = 60  # cards that one request may ask for
START_FIELDS = ("worktree", "branch")  # what a new task may continue from, as errors name it
PRIORITIES = ((-10, "Low"), (0, "Normal"), (10, "High"), (50, "Urgent"))


@dataclass(frozen=True, slots=True)
class ProjectCard:
    """A project in the list, with what is going on in it. `cursor` was read before the counts."""

    project: Project
    cursor: int
    open: int
    at_work: int
    waiting: int


@require_GET
def projects(request: HttpRequest) -> HttpResponse:
    """Every project that the person may see."""
    rows = projects_visible_to(request.user).order_by("name", "key")
    cursors = dict(FeedHead.objects.filter(pk__in=rows.values("pk")).values_list("pk", "last_seq"))
    open_tasks = Task.objects.filter(project__in=rows).exclude(status__in=[Status.DONE, Status.CANCELLED])
    counts = {
        project: (total, at_work, waiting)
        for project, total, at_work, waiting in open_tasks.order_by()
        .values_list("project")
        .annotate(
            total=Count("pk"),
            at_work=Count("pk", filter=Q(run_state__in=[RunState.QUEUED, RunState.RUNNING])),
            waiting=Count("pk", filter=~Q(needs=Needs.NOTHING)),
        )
    }
    found = [ProjectCard(row, cursors.get(row.pk, 0), *counts.get(row.pk, (0, 0, 0))) for row in rows]
    template = "workspaces/_projects.html" if is_fragment(request) else "workspaces/projects.html"
    return render(
        request, template, {"projects": found, "may_register": may_register(request.user), "refusal": NO_REGISTERING}
    )


@require_GET
def project(request: HttpRequest, key: str) -> HttpResponse:
    """A project's address is its board's."""
    return redirect("board", key=_visible(request, key)[0].key)


@require_GET
def board(request: HttpRequest, key: str) -> HttpResponse:
    """The board. The feed's cursor is read before the rows: what happens in between is told again, never missed."""
    found, role = _visible(request, key)
    cursor = outbox.project_head(str(found.pk))
    only = cards.Filter.of(request.GET)
    columns = cards.read_board(found, role, only)
    context: dict[str, Any] = {
        "project": found,
        "cursor": cursor,
        "columns": columns,
        "only": only,
        "states": [(value, name) for value, (name, _) in cards.STATES.items()],
        "current": _current(request, columns),
        "page_size": cards.PAGE,
        "may_configure": role == Role.OWNER,
        "over_quota": stored_by(found).over if found.quota_mb is not None else False,
        "away": repository_trouble(found),
        "project_empty": not only and found.next_number == 1,
        **_create_context(found, role),
    }
    return render(request, "tasks/_board.html" if is_fragment(request) else "tasks/board.html", context)


@require_GET
def board_cards(request: HttpRequest, key: str) -> HttpResponse:
    """The named cards as they are now, and the counts of all columns. A card that is missing is not shown any more."""
    found, role = _visible(request, key)
    return cards_response(request, found, role, request.GET.getlist("key")[:KEYS_LIMIT])


def cards_response(
    request: HttpRequest, found: Project, role: str | None, keys: list[str], *, status: int = 200
) -> HttpResponse:
    """Cards, counts and messages for the board's script."""
    only = cards.Filter.of(request.GET)
    rows = only.tasks(found).filter(key__in=keys, status__in=only.columns).defer("description", "workspace")
    views = cards.card_views(found, role, rows)
    context = {"cards": views.values(), "totals": cards.read_totals(found, only)}
    return render(request, "tasks/_cards.html", context, status=status)


@require_GET
def board_column(request: HttpRequest, key: str, status: str) -> HttpResponse:
    """The next cards of a column: they are appended, and the button moves on."""
    found, role = _visible(request, key)
    offset = number(request, "offset") or 0
    only = cards.Filter.of(request.GET)
    if status not in only.columns:
        raise NotFound("There is no such column.")
    rows = cards.read_column(found, status, only, offset)
    views = cards.card_views(found, role, rows)
    context = {
        "project": found,
        "status": status,
        "cards": [views[row.pk] for row in rows],
        "offset": offset + cards.PAGE,
        "rest": only.tasks(found).filter(status=status).count() - offset - len(rows),
        "only": only,
    }
    return render(request, "tasks/_column.html", context)


@require_http_methods(["GET", "POST"])
def create(request: HttpRequest, key: str) -> HttpResponse:
    """Write a task: one field, whose first line is the title; created, or created and started."""
    found, role = _visible(request, key)
    context = {"project": found, **_create_context(found, role)}
    if request.method == "GET":
        return render(request, "tasks/create.html", {**context, **_places(found, role), "posted": {}})
    try:
        task = _create(request, found)
    except StudioError as error:
        at_start = error.detail.get("field") in START_FIELDS
        wrong = {"start_wrong" if at_start else "wrong": error.message}
        context |= {"posted": request.POST, **wrong, **_places(found, role)}
        template = "tasks/_create.html" if is_fragment(request) else "tasks/create.html"
        return render(request, template, context, status=status_of(error))
    said = f"{task.key} has started." if task.status != Status.TODO else f"{task.key} is on the board."
    if not is_fragment(request):
        messages.success(request, said)
        return redirect("board", key=found.key)
    more = request.POST.get("more", "")
    context |= {"posted": {"more": more}, "created": task, "said": said}
    return render(request, "tasks/_created.html", context)


def _create(request: HttpRequest, found: Project) -> Task:
    title, description = split_prompt(request.POST.get("prompt", ""))
    priority = request.POST.get("priority", "") or "0"
    if not priority.removeprefix("-").isdecimal():
        raise Invalid("The priority is a whole number.")
    chosen, _, place = request.POST.get("start_at", "").partition(":")
    if chosen and (chosen not in START_FIELDS or not place):
        raise Invalid(
            f"A new task continues from a worktree or a branch, not from “{cut(clean(request.POST['start_at']), 100)}”. "
            "Choose one of the list.",
            detail={"field": START_FIELDS[0]},
        )
    wanted = {chosen: place} if chosen else {}
    # What is wrong with it is said before there is a task.
    begins = find_start(actor=request.user, project=found, **wanted)
    labels = [label for label in (one.strip() for one in request.POST.get("labels", "").split(",")) if label]
    start = request.POST.get("start") == "1"
    task = create_task(
        actor=request.user,
        project=found,
        title=title,
        description=description,
        priority=int(priority),
        labels=labels,
        start=start and begins is None,
    )
    if begins is None:
        return task
    task = begin_at(actor=request.user, task=task, start=begins)
    return act(actor=request.user, task_ref=task, action="start") if start else task


def _places(found: Project, role: str | None) -> dict[str, Any]:
    """What a new task may begin at, for who may choose it."""
    return places(found) if at_least(role, Role.MAINTAINER) else {}


def split_prompt(prompt: str) -> tuple[str, str]:
    """(title, description) of what somebody wrote: the first line is the title.

    A first line that is too long for one is cut there, and stays whole in the description.
    """
    prompt = prompt.replace("\r\n", "\n").strip()
    first, _, rest = prompt.partition("\n")
    first = first.strip().lstrip("#").strip()
    if len(first) <= TITLE_LIMIT:
        return first, rest.strip()
    head = cut(first, TITLE_LIMIT, mark="")
    words = head.rpartition(" ")[0] if " " in head[TITLE_LIMIT // 2 :] else head
    return cut(words, TITLE_LIMIT - 1, mark="") + "…", prompt


def _visible(request: HttpRequest, key: str) -> tuple[Project, str | None]:
    """The project and the person's role in it. Raises NotFound for a stranger."""
    found = project_by(key)
    role = role_in(request.user, found)
    if role is None:
        raise NotFound("There is no such project.")
    return found, role


def _create_context(found: Project, role: str | None) -> dict[str, Any]:
    return {
        "may_create": at_least(role, Role.REVIEWER),
        "may_start": at_least(role, Role.MAINTAINER),
        "priorities": PRIORITIES,
        "posted": {},
    }


def _current(request: HttpRequest, columns: list[cards.ColumnView]) -> str:
    """The column that a phone shows first: the one asked for, else where somebody is needed, else the first with cards."""
    asked = request.GET.get("column", "")
    if asked in [column.status for column in columns]:
        return asked
    waiting = [column.status for column in columns if column.needs_you]
    filled = [column.status for column in columns if column.total and column.status != Status.DONE]
    return next(iter(waiting + filled), columns[0].status)
