"""The page of one task, prepared: where it stands, what happens now, what can be done next, and which tab is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sessions_app.models import AgentSession
from studio.kernel.permissions import Role, at_least
from tasks.cards import AT_WORK, SETTING_UP
from tasks.choices import ACTIVE_RUN_STATES, BOARD_COLUMNS, FindingState, Phase, RunPhaseState, Severity, Status
from tasks.follow_ups import FollowUp, follow_ups
from tasks.models import PhaseRun, Task
from tasks.selectors import TaskDetail
from tasks.task_now import Now, now_of
from workspaces.models import MergeState
from workspaces.selectors import role_in

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

TABS = {
    "task": "Task",
    "plan": "Plan",
    "transcript": "Transcript",
    "changes": "Changes",
    "files": "Files",
    "review": "AI review",
    "commands": "Commands",
    "pull_request": "Pull request",
    "history": "History",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One column in the stepper; `state` is past, now or next."""

    label: str
    state: str


@dataclass(frozen=True, slots=True)
class SessionTab:
    """A session of the task, named by the run it belongs to."""

    session: AgentSession
    label: str
    live: bool
    failed: bool


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Everything that the templates of the task page read."""

    detail: TaskDetail
    role: str | None
    actions: list[str]
    steps: list[Step]
    now: Now
    tab: str
    run: PhaseRun | None  # the active one
    follow_up: FollowUp | None  # at work while no run is active
    sessions: list[SessionTab] = field(default_factory=list)

    @property
    def task(self) -> Task:
        """The task itself."""
        return self.detail.task

    @property
    def may_edit(self) -> bool:
        """Title and description may be changed while nothing has started."""
        return self.task.status == Status.TODO and at_least(self.role, Role.REVIEWER)

    @property
    def open_findings(self) -> int:
        """How many findings are open."""
        return sum(1 for finding in self.detail.findings if finding.state == FindingState.OPEN)

    @property
    def blocking_findings(self) -> int:
        """How many open findings are errors."""
        return sum(
            1
            for finding in self.detail.findings
            if finding.state == FindingState.OPEN and finding.severity == Severity.ERROR
        )

    @property
    def conflicts(self) -> Sequence[str]:
        """The files that stood against the newest merge."""
        merge = self.detail.merge
        return merge.conflicts if merge is not None and merge.state == MergeState.CONFLICTED else []


def page_of(
    detail: TaskDetail, user: AbstractBaseUser | AnonymousUser, actions: list[str], *, tab: str = ""
) -> TaskPage:
    """The page of a task for `user`; without a known `tab` the one that matters most in the task's state."""
    task = detail.task
    run = next((run for run in reversed(detail.runs) if run.state in ACTIVE_RUN_STATES), None)
    follow_up = follow_ups([task]).get(task.pk) if run is None else None
    role = role_in(user, task.project)
    sessions = session_tabs(detail.runs)
    return TaskPage(
        detail=detail,
        role=role,
        actions=actions,
        steps=steps_of(task),
        now=now_of(detail, run, follow_up, user, role),
        tab=tab if tab in TABS else default_tab(task, has_session=bool(sessions)),
        run=run,
        follow_up=follow_up,
        sessions=sessions,
    )


def steps_of(task: Task) -> list[Step]:
    """The life of the task, as far as it has come."""
    if task.status == Status.CANCELLED:
        return [Step(status.label, "next") for status in BOARD_COLUMNS]
    at = [status.value for status in BOARD_COLUMNS].index(task.status)
    return [Step(status.label, _state(index, at, task.status)) for index, status in enumerate(BOARD_COLUMNS)]


def _state(index: int, at: int, status: str) -> str:
    """A step of the stepper; the last one is behind you as soon as it is reached."""
    if index < at or status == Status.DONE:
        return "past"
    return "now" if index == at else "next"


def default_tab(task: Task, *, has_session: bool) -> str:
    """The tab that matters most now."""
    if task.reason == SETTING_UP or task.error_code == "setup_failed":
        return "commands"
    if task.status == Status.PLANNING_REVIEW:
        return "plan"
    if task.status == Status.REVIEW or (task.status == Status.DONE and task.workspace_id):
        return "changes"
    if task.status in (Status.PLANNING, Status.IN_PROGRESS, Status.AI_REVIEW) and has_session:
        return "transcript"
    return "task"


def session_tabs(runs: Sequence[PhaseRun]) -> list[SessionTab]:
    """The sessions of the runs, each once, oldest first, named by what its runs were."""
    found: dict[object, SessionTab] = {}
    for run in runs:
        if run.session is None:
            continue
        label = run_label(run)
        before = found.get(run.session_id)
        if before is not None and label not in before.label.split(" · "):
            label = f"{before.label} · {label}"
        found[run.session_id] = SessionTab(
            session=run.session,
            label=label,
            live=run.state in ACTIVE_RUN_STATES,
            failed=run.state == RunPhaseState.FAILED,
        )
    return list(found.values())


def run_label(run: PhaseRun) -> str:
    """A run in two or three words."""
    names = {Phase.PLANNING: "Plan", Phase.IMPLEMENTATION: "Work", Phase.REVIEW: "Review", Phase.FIX: "Fix"}
    label = names.get(Phase(run.phase), AT_WORK[run.phase])
    if run.round > 1:
        label += f" {run.round}"
    if run.retry:
        label += f", try {run.retry + 1}"
    return label if run.attempt == 1 else f"{label} (attempt {run.attempt})"


def rounds_of(detail: TaskDetail) -> list[tuple[PhaseRun, str]]:
    """The runs that changed something in the task's present checkout, with their names, oldest first."""
    here = detail.task.workspace_id
    return [
        (run, run_label(run))
        for run in detail.runs
        if run.session is not None
        and run.session.workspace_id == here
        and run.base_commit
        and run.head_commit
        and run.base_commit != run.head_commit
    ]
