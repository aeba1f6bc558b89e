"""The page of one task, its tabs, and every action that a person can take on it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from sessions_app import transcripts
from sessions_app.budget_use import use_of_task
from sessions_app.overview import context_of
from sessions_app.usage import of_task
from studio import outbox
from studio.kernel.errors import Invalid, NotFound, StudioError
from studio.kernel.markdown import render as markdown
from studio.kernel.pages import is_fragment, say, status_of
from tasks import selectors, task_page
from tasks.choices import Status
from tasks.models import Plan, Task
from tasks.services.board import edit_task
from tasks.services.completion import default_message
from tasks.services.lifecycle import act, allowed_actions
from tasks.services.pull_requests import pull_request_of
from tasks.task_page import TaskPage
from tasks.views import merge, pull_request
from tasks.views.board import PRIORITIES, cards_response
from tasks.views.start import checkout_context
from workspaces.commands.selectors import active_in
from workspaces.commands.views import panel as command_panel
from workspaces.diff_looks import round_token
from workspaces.models import MergeKind, MergeState
from workspaces.selectors import role_in
from workspaces.services import instructions, revert_instructions
from workspaces.setup.views import strip_of

SAID = {
    "start": "Started.",
    "approve_plan": "Plan approved. An agent makes the change now.",
    "reject_plan": "Sent back. The planner plans again with your words.",
    "replan": "The planner plans again with your words.",
    "skip_ai_review": "The AI review was skipped.",
    "request_changes": "Sent back. An agent works on it now.",
    "resolve": "An agent resolves it now.",
    "abort": "The merge is given up.",
    "complete": "Approved.",
    "revert": "The merge is being taken back.",
    "retry": "Tried again.",
    "resume": "Resumed.",
    "stop": "Stopping.",
    "cancel": "Cancelled. What was done is kept.",
    "reopen": "Open again: a new attempt.",
}


@require_GET
def task(request: HttpRequest, ref: str) -> HttpResponse:
    """The page; for its own script only the part that moves."""
    return _page(request, ref)


@require_POST
def task_act(request: HttpRequest, ref: str, action: str) -> HttpResponse:
    """Do an action. What is refused is said on the page, which then shows the task as it is."""
    from_board = request.GET.get("from") == "board"
    posted = request.POST
    status = 200
    wrong: dict[str, Any] = {}
    try:
        found = act(
            actor=request.user,
            task_ref=ref,
            action=action,
            feedback=posted.get("feedback", ""),
            reason=posted.get("reason", ""),
            how=posted.get("how", ""),
            plan=posted.get("plan", ""),
            target=posted.get("target", ""),
            message=posted.get("message", ""),
            markers_meant=merge.meant_of(posted),
            title=posted.get("title", ""),
            body=posted.get("body", ""),
            draft=posted.get("draft") == "1" if "title" in posted else None,
        )
        if not from_board or not is_fragment(request):
            messages.success(request, f"{found.key}: {SAID[action]}")
    except NotFound:
        raise
    except StudioError as error:
        status = status_of(error)
        if isinstance(error, Invalid) and error.detail.get("field"):
            field = error.detail["field"]
            words = posted.get(field, "")
            wrong = {"action": action, "field": field, "message": error.message, "words": words}
        else:
            say(request, error)
    if from_board:
        return _after_board_action(request, ref, status)
    if status == 200 and not is_fragment(request):
        return redirect("task", ref=ref)
    return _page(request, ref, status=status, wrong=wrong)


@require_POST
def task_edit(request: HttpRequest, ref: str) -> HttpResponse:
    """Change title, description, priority and labels."""
    posted = request.POST
    status = 200
    wrong: dict[str, Any] = {}
    try:
        found = selectors.by_ref(request.user, ref)
        edit_task(actor=request.user, task=found, version=_version(posted.get("version", "")), **_fields(posted))
        messages.success(request, "Saved.")
    except NotFound:
        raise
    except StudioError as error:
        status = status_of(error)
        wrong = {"action": "edit", "field": error.detail.get("field", ""), "message": error.message}
    if status == 200 and not is_fragment(request):
        return redirect(f"{reverse('task', kwargs={'ref': ref})}?tab=task")
    return _page(request, ref, tab="task", status=status, wrong=wrong)


def _fields(posted: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {name: posted[name] for name in ("title", "description") if name in posted}
    if "priority" in posted:
        priority = posted["priority"].strip()
        if not priority.removeprefix("-").isdecimal():
            raise Invalid("The priority is a whole number.", detail={"field": "priority"})
        fields["priority"] = int(priority)
    if "labels" in posted:
        fields["labels"] = [label for label in (one.strip() for one in posted["labels"].split(",")) if label]
    return fields


def _version(value: str) -> int | None:
    return int(value) if value.isdecimal() else None


def _after_board_action(request: HttpRequest, ref: str, status: int) -> HttpResponse:
    found = selectors.by_ref(request.user, ref)
    if not is_fragment(request):
        return redirect("board", key=found.project.key)
    return cards_response(request, found.project, role_in(request.user, found.project), [found.key], status=status)


def _page(
    request: HttpRequest, ref: str, *, tab: str = "", status: int = 200, wrong: dict[str, Any] | None = None
) -> HttpResponse:
    found = selectors.by_ref(request.user, ref)
    # The cursor is read before the rows: what happens in between is told again, never missed. It is the topic's own: the
    # project's is beyond the topic's end as soon as something has happened to another task.
    cursor = outbox.topic_head(f"task:{found.pk}")
    asked = tab or request.GET.get("tab", "")
    detail = selectors.detail(request.user, found)
    page = task_page.page_of(detail, request.user, allowed_actions(detail.task, request.user), tab=asked)
    context = {
        "page": page,
        "task": page.task,
        "project": page.task.project,
        "cursor": cursor,
        "tabs": _tabs(page),
        "used": of_task(page.task.pk),
        **pull_request.context_of(page.task),
        "budgets": use_of_task(page.task.project, str(page.task.pk)),
        "fragment": is_fragment(request),
        # In a fragment the strip looks after itself.
        "strip": strip_of(request, page.task.workspace) if page.task.workspace and not is_fragment(request) else None,
        "ways": merge.WAYS,
        "priorities": _priorities(page.task),
        **_merge_context(page),
        "wrong": wrong or {},
        "posted": request.POST if wrong else {},
        **checkout_context(request, page),
        **_tab_context(request, page),
    }
    template = "tasks/_task.html" if is_fragment(request) else "tasks/task.html"
    response = render(request, template, context, status=status)
    if status == 200 and request.method == "POST":
        response["HX-Trigger"] = "acted"
    return response


def _merge_context(page: TaskPage) -> dict[str, Any]:
    """What the forms about the merge begin with."""
    task, last = page.task, page.detail.merge
    if task.workspace is None:
        return {}
    if (revert := selectors.failed_revert(task)) is not None:
        return {"commands": revert_instructions(revert)}
    if task.status != Status.REVIEW:
        return {}
    target = last.target_branch if last is not None else task.workspace.base_branch
    found = {"message": default_message(task), "commands": instructions(task.workspace, target)}
    if last is not None and last.kind == MergeKind.MERGE and last.state in (MergeState.REFUSED, MergeState.FAILED):
        # Nothing was merged: whoever tries again means the same.
        found |= {"message": last.message, "merge_how": last.how, "merge_target": last.target_branch}
    return found


def _tabs(page: TaskPage) -> list[tuple[str, str, str]]:
    """(name, label, badge) of each tab."""
    plans, reviews = page.detail.plans, page.detail.reviews
    running = active_in(page.task.workspace) if page.task.workspace else 0
    badges = {
        "commands": f"{running} running" if running else "",
        "plan": f"v{plans[-1].version}" if plans else "",
        "transcript": str(len(page.sessions)) if page.sessions else "",
        "review": f"{page.open_findings} open" if page.open_findings else (str(len(reviews)) if reviews else ""),
    }
    row = pull_request_of(page.task)
    badges["pull_request"] = f"#{row.number}" if row is not None and row.number else ""
    shown = [name for name in task_page.TABS if name != "pull_request" or row is not None]
    return [(name, task_page.TABS[name], badges.get(name, "")) for name in shown]


def _priorities(found: Task) -> list[tuple[int, str]]:
    """The choices of the priority, with the task's own when it is none of them."""
    known = dict(PRIORITIES)
    own = [] if found.priority in known else [(found.priority, str(found.priority))]
    return sorted([*PRIORITIES, *own])


def _tab_context(request: HttpRequest, page: TaskPage) -> dict[str, Any]:
    """What only the open tab needs."""
    if page.tab == "task":
        return {"description": markdown(page.task.description)}
    if page.tab == "plan":
        plan = _chosen_plan(request, page.detail.plans)
        return {"plan": plan, "plan_html": markdown(plan.text) if plan else ""}
    if page.tab == "transcript":
        return _transcript(request, page)
    if page.tab == "commands" and page.task.workspace:
        return command_panel(request, page.task.workspace)
    if page.tab == "changes" and page.task.workspace:
        return _rounds(request, page)
    if page.tab == "review":
        return {
            "reviews": [
                (review, markdown(review.summary), [(one, markdown(one.body)) for one in review.findings.all()])
                for review in reversed(page.detail.reviews)
            ]
        }
    if page.tab == "pull_request":
        return pull_request.tab_of(pull_request_of(page.task), page.role)
    return {}


def _rounds(request: HttpRequest, page: TaskPage) -> dict[str, Any]:
    """The rounds of the change, and the one that was asked for."""
    rounds = task_page.rounds_of(page.detail)
    asked = request.GET.get("round", "")
    chosen = next((run for run, _ in rounds if str(run.pk) == asked), None)
    workspace = page.task.workspace
    token = round_token(workspace, chosen.base_commit, chosen.head_commit) if workspace and chosen else ""
    return {"rounds": rounds, "chosen_round": chosen, "round_token": token}


def _chosen_plan(request: HttpRequest, plans: list[Plan]) -> Plan | None:
    asked = request.GET.get("version", "")
    chosen = next((plan for plan in plans if str(plan.version) == asked), None)
    return chosen or (plans[-1] if plans else None)


def _transcript(request: HttpRequest, page: TaskPage) -> dict[str, Any]:
    """The session asked for, else the one at work, else the newest."""
    if not page.sessions:
        return {}
    asked = request.GET.get("session", "")
    chosen = next((one for one in page.sessions if str(one.session.pk) == asked), None)
    chosen = chosen or next((one for one in page.sessions if one.live), page.sessions[-1])
    # Read anew: the log may have grown since the runs were read.
    chosen.session.refresh_from_db()
    found = context_of(request.user, transcripts.latest(chosen.session))
    back = f"{reverse('task', kwargs={'ref': page.task.key})}?tab=transcript&session={chosen.session.pk}"
    return {"chosen": chosen.session.pk, "back": back, **found}
