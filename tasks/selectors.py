"""Reading tasks: what a person may see, lists and searches, the queue, and everything about one task."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db.models import Case, Exists, IntegerField, OuterRef, Prefetch, Q, QuerySet, Value, When

from sessions_app.models import AgentSession, Turn, TurnState
from studio.kernel.errors import NotFound
from tasks.choices import ERRORS, AtWork, ErrorText, FindingState, Phase, RunPhaseState, Severity, Status
from tasks.models import Finding, PhaseRun, Plan, Review, Task, TaskHistory
from workspaces.models import MergeAttempt, MergeKind, MergeState, Project
from workspaces.selectors import projects_visible_to

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

KEY = re.compile(r"[A-Za-z][A-Za-z0-9]{0,9}-[0-9]{1,9}")

# Queued runs begin with what is most urgent, then with what is nearest to done, then as they stand on the board.
NEAREST_TO_DONE = [Status.AI_REVIEW, Status.IN_PROGRESS, Status.PLANNING]


@dataclass(frozen=True, slots=True)
class TaskDetail:
    """Everything that the page of one task shows. Lists are in the order of their making."""

    task: Task
    plan: Plan | None  # the newest version
    plans: list[Plan]
    runs: list[PhaseRun]  # of all attempts, with session and turn
    reviews: list[Review]  # with their findings prefetched
    findings: list[Finding]
    history: list[TaskHistory]
    merge: MergeAttempt | None  # the newest
    error: ErrorText | None  # what to do about the card's failure
    queue_position: int | None


def tasks_visible_to(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Task]:
    """The tasks of the projects that `user` may see."""
    tasks: QuerySet[Task] = Task.objects.filter(project__in=projects_visible_to(user))
    return with_agents(tasks.select_related("project", "workspace"))


def with_agents(tasks: QuerySet[Task]) -> QuerySet[Task]:
    """`tasks` with what `at_work` says of each, read along."""
    here = Turn.objects.filter(session__workspace=OuterRef("workspace")).exclude(state=TurnState.SETTLED)
    somebody = When(Exists(here.filter(abort_requested_at__isnull=True)), then=Value(AtWork.SOMEBODY))
    stopping = When(Exists(here), then=Value(AtWork.STOPPING))
    return tasks.annotate(at_work=Case(somebody, stopping, default=Value(AtWork.NOBODY)))


def at_work(task: Task) -> AtWork:
    """Whether a turn in the task's checkout has not ended: its run's, or one that a message opened."""
    if task.workspace_id is None:
        return AtWork.NOBODY
    if (known := task.__dict__.get("at_work")) is not None:
        return AtWork(known)
    asked = list(unsettled_turns(task).values_list("abort_requested_at", flat=True))
    if not asked:
        return AtWork.NOBODY
    return AtWork.STOPPING if all(asked) else AtWork.SOMEBODY


def unsettled_turns(task: Task) -> QuerySet[Turn]:
    """The turns in the task's checkout that have not ended, oldest first."""
    turns = Turn.objects.filter(session__workspace=task.workspace_id).exclude(state=TurnState.SETTLED)
    return turns.order_by("created_at")


def by_ref(user: AbstractBaseUser | AnonymousUser | None, ref: Task | uuid.UUID | str) -> Task:
    """The task with the key (`DEMO-12`) or id `ref`, read anew. `user` None is the studio itself.

    Raises NotFound when there is none or `user` may not see it.
    """
    all_tasks = Task.objects.select_related("project", "workspace")
    tasks = with_agents(all_tasks) if user is None else tasks_visible_to(user)
    if isinstance(ref, Task):
        ref = ref.pk
    try:
        where = Q(key=ref.upper()) if isinstance(ref, str) and KEY.fullmatch(ref) else Q(pk=ref)
        return tasks.get(where)
    except (Task.DoesNotExist, ValidationError, ValueError):
        raise NotFound("There is no such task.") from None


def list_tasks(
    user: AbstractBaseUser | AnonymousUser,
    *,
    project: Project | None = None,
    status: str = "",
    run_state: str = "",
    needs: str = "",
    q: str = "",
) -> QuerySet[Task]:
    """The tasks that `user` may see, narrowed down; newest first. `q` looks into key, title and description."""
    tasks = tasks_visible_to(user).order_by("-created_at", "-number")
    if project is not None:
        tasks = tasks.filter(project=project)
    if status:
        tasks = tasks.filter(status=status)
    if run_state:
        tasks = tasks.filter(run_state=run_state)
    if needs:
        tasks = tasks.filter(needs=needs)
    return search(tasks, q)


def search(tasks: QuerySet[Task], q: str) -> QuerySet[Task]:
    """`tasks` in whose key, title or description each word of `q` occurs."""
    for word in q.replace("\x00", "").split()[:10]:
        tasks = tasks.filter(Q(key__icontains=word) | Q(title__icontains=word) | Q(description__icontains=word))
    return tasks


def queued_runs() -> QuerySet[PhaseRun]:
    """Queued runs in the order in which they begin."""
    rank = Case(
        *(When(task__status=status, then=Value(index)) for index, status in enumerate(NEAREST_TO_DONE)),
        default=Value(len(NEAREST_TO_DONE)),
        output_field=IntegerField(),
    )
    return (
        PhaseRun.objects.filter(state=RunPhaseState.QUEUED)
        .select_related("task__project")
        .annotate(rank=rank)
        .order_by("-task__priority", "rank", "task__position", "task__number", "created_at")
    )


def queue_positions(project: Project) -> dict[uuid.UUID, int]:
    """For each task of `project` that waits for an agent: its place in the project's queue, 1 is next."""
    waiting = queued_runs().filter(task__project=project).values_list("task_id", flat=True)
    return {task_id: place for place, task_id in enumerate(waiting, start=1)}


def detail(user: AbstractBaseUser | AnonymousUser | None, ref: Task | uuid.UUID | str) -> TaskDetail:
    """Everything about one task. Raises NotFound."""
    task = by_ref(user, ref)
    plans = list(task.plans.select_related("approved_by", "run"))
    merge = MergeAttempt.objects.filter(workspace=task.workspace_id).order_by("-created_at").first()
    return TaskDetail(
        task=task,
        plan=plans[-1] if plans else None,
        plans=plans,
        runs=list(runs(task)),
        reviews=list(reviews(task)),
        findings=list(task.findings.all()),
        history=list(task.history.select_related("actor")),
        merge=merge if task.workspace_id else None,
        error=ERRORS.get(task.error_code),
        queue_position=queue_positions(task.project).get(task.pk),
    )


def last_conflict(task: Task) -> MergeAttempt | None:
    """The newest merge of the task's workspace that conflicted."""
    attempts = MergeAttempt.objects.filter(workspace=task.workspace, kind=MergeKind.MERGE)
    return attempts.filter(state=MergeState.CONFLICTED).order_by("-created_at").first()


def failed_revert(task: Task) -> MergeAttempt | None:
    """The revert of the task's merge that could not be made because it conflicts; None when that is not how it stands."""
    if task.error_code != "revert_conflict":
        return None
    attempts = MergeAttempt.objects.filter(workspace=task.workspace, kind=MergeKind.REVERT)
    attempts = attempts.select_related("reverts", "workspace__project")
    return attempts.filter(state=MergeState.CONFLICTED).order_by("-created_at").first()


def runs(task: Task) -> QuerySet[PhaseRun]:
    """The task's runs with their session, server and turn, oldest first."""
    return task.runs.select_related("session__server", "turn", "server").order_by("created_at")


def reviews(task: Task) -> QuerySet[Review]:
    """The task's reviews with their findings, oldest first."""
    return task.reviews.select_related("run").prefetch_related(Prefetch("findings", Finding.objects.order_by("number")))


def sessions(task: Task) -> QuerySet[AgentSession]:
    """The sessions of the task's runs, oldest first."""
    return (
        AgentSession.objects.filter(runs__task=task)
        .select_related("server", "project")
        .order_by("created_at")
        .distinct()
    )


def attempt_findings(task: Task) -> QuerySet[Finding]:
    """The findings of the task's present attempt; those of earlier ones stay readable and bind nobody."""
    return task.findings.filter(review__attempt=task.attempt).order_by("number")


def open_findings(task: Task, *, severity: str | None = None) -> QuerySet[Finding]:
    """Findings of the present attempt that nobody has fixed or dismissed, in order."""
    found = attempt_findings(task).filter(state=FindingState.OPEN)
    return found if severity is None else found.filter(severity=Severity(severity))


def current_plan(task: Task) -> Plan | None:
    """The plan that was approved last, which the implementation follows."""
    return task.plans.filter(approved_at__isnull=False).order_by("-version").first()


def last_work(task: Task) -> PhaseRun | None:
    """The newest run of the present attempt that changed something: an implementation or a fix."""
    done = task.runs.filter(
        attempt=task.attempt, phase__in=[Phase.IMPLEMENTATION, Phase.FIX], state=RunPhaseState.SUCCEEDED
    )
    return done.order_by("-created_at").first()
