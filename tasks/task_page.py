"""The page of one task, prepared: where it stands, what happens now, what can be done next, and which tab is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from sessions_app.models import AgentSession, Turn
from studio.kernel.permissions import Role, at_least
from studio.kernel.text import cut
from tasks import selectors
from tasks.cards import AT_WORK, SETTING_UP
from tasks.choices import (
    ACTIVE_RUN_STATES,
    BOARD_COLUMNS,
    CompletionWay,
    FindingState,
    Needs,
    Phase,
    RunPhaseState,
    RunState,
    Severity,
    Status,
    Verdict,
)
from tasks.models import PhaseRun, Task
from tasks.selectors import TaskDetail
from workspaces.models import MergeState
from workspaces.selectors import role_in

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

SUMMARY_SHOWN = 240  # characters of a review's summary above the tabs
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
DOES = {
    Phase.PLANNING: "The planner reads the repository and writes a plan",
    Phase.IMPLEMENTATION: "An agent makes the change",
    Phase.REVIEW: "A reviewer checks the change",
    Phase.FIX: "An agent works on what was found",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One column in the stepper; `state` is past, now or next."""

    label: str
    state: str


@dataclass(frozen=True, slots=True)
class Now:
    """What is going on. `kind` decides which actions the panel offers; see templates/tasks/_now.html."""

    kind: str  # todo, queued, running, answer, stopping, merging, plan, review, decision, conflict, proposed, failed, stopped, done, cancelled, idle
    tone: str
    icon: str
    title: str
    text: str = ""
    next_step: str = ""
    since: datetime | None = None


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
    turn: Turn | None  # at work without a run: a message opened it, or its run is over and it still ends
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
    sessions = session_tabs(detail.runs)
    return TaskPage(
        detail=detail,
        role=role_in(user, task.project),
        actions=actions,
        steps=steps_of(task),
        now=now_of(detail, run),
        tab=tab if tab in TABS else default_tab(task, has_session=bool(sessions)),
        run=run,
        turn=selectors.unsettled_turns(task).first() if run is None else None,
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


def now_of(detail: TaskDetail, run: PhaseRun | None) -> Now:
    """What happens now, in words."""
    task = detail.task
    if task.status == Status.DONE:
        return _done(detail)
    if task.status == Status.CANCELLED:
        return Now("cancelled", "grey", "x", "Cancelled", task.reason)
    if task.needs == Needs.CONFLICT:
        target = detail.merge.target_branch if detail.merge else task.project.default_branch
        text = "Nothing was merged and no branch was moved."
        return Now("conflict", "amber", "merge", f"The change conflicts with {target}", text)
    if task.run_state == RunState.FAILED:
        return _failed(detail)
    if task.run_state == RunState.STOPPED:
        text = "What the agent had done is kept. Resume asks it to go on from there."
        return Now("stopped", "grey", "pause", "Stopped", text)
    if task.run_state == RunState.QUEUED:
        return _queued(detail, run)
    if task.run_state == RunState.RUNNING:
        return _running(task, run)
    return _waiting(detail)


def _done(detail: TaskDetail) -> Now:
    task, merge = detail.task, detail.merge
    if task.run_state == RunState.RUNNING:
        return Now("merging", "accent", "spin", task.reason)
    if task.completed_how == CompletionWay.NONE or not (
        task.completed_commit or task.completed_how == CompletionWay.PULL_REQUEST
    ):
        kept = task.workspace.kept_patch if task.workspace else ""
        text = f"{task.reason} What was not merged is kept as a patch: {kept}" if kept else task.reason
        return Now("done", "green", "check", "Finished without merging", text.strip())
    if task.completed_how == CompletionWay.PULL_REQUEST:
        text = f"{task.reason} Your own checkout has it after the next pull."
        return Now("done", "green", "check", f"Merged on the forge as {task.completed_commit[:10]}", text)
    target = merge.target_branch if merge else task.project.default_branch
    text = merge.checkout_note if merge else ""
    if task.reverted_commit:
        title = f"Merged into {target}, and taken back as {task.reverted_commit[:10]}"
        return Now("done", "grey", "refresh", title, text)
    if detail.error is not None:
        title = f"Merged into {target} as {task.completed_commit[:10]}, and not taken back"
        return Now("done", "amber", "alert", title, task.reason, detail.error.next_step)
    return Now("done", "green", "check", f"Merged into {target} as {task.completed_commit[:10]}", text)


def _failed(detail: TaskDetail) -> Now:
    task, error = detail.task, detail.error
    if error is None:
        return Now("failed", "red", "alert", "This failed", task.reason, "Press Retry.")
    said = task.reason.removeprefix(error.sentence).strip()
    return Now("failed", "red", "alert", error.sentence, said, error.next_step)


def _queued(detail: TaskDetail, run: PhaseRun | None) -> Now:
    place = detail.queue_position
    text = run.note if run is not None and run.note else ""
    if not text and place:
        most = detail.task.project.max_parallel_runs
        text = f"Number {place} in the queue. At most {most} agents work in this project at once."
    return Now("queued", "grey", "clock", "Waiting for a free place", text, since=run.created_at if run else None)


def _running(task: Task, run: PhaseRun | None) -> Now:
    if run is None:
        return Now("merging", "accent", "spin", task.reason or "Merging")
    since = run.started_at or run.created_at
    if run.stop_requested_at:
        text = "What the agent has done so far is kept."
        return Now("stopping", "accent", "spin", "Stopping", text, since=since)
    if run.state == RunPhaseState.PREPARING:
        title = "The checkout is being set up" if task.reason == SETTING_UP else "The checkout is being prepared"
        return Now("running", "accent", "spin", title, run.note, since=since)
    if run.state == RunPhaseState.FINISHING:
        return Now("running", "accent", "spin", "The agent has ended; its work is being read", run.note, since=since)
    if task.reason:
        return Now("running", "grey", "clock", task.reason, run.note, since=since)
    title = DOES[Phase(run.phase)] + (f" (round {run.round})" if run.round > 1 else "")
    return Now("running", "accent", "spin", title, run.note, since=since)


def _waiting(detail: TaskDetail) -> Now:
    task = detail.task
    if task.status == Status.TODO:
        gate = "Nothing is changed before you approve the plan." if task.project.plan_approval else ""
        checkout = "jj workspace" if task.project.vcs == "jj" else "git worktree"
        text = f"Start creates a {checkout} from {task.project.default_branch} and lets an agent plan. {gate}"
        return Now("todo", "grey", "play", "Not started", text.strip())
    if task.status == Status.PLANNING_REVIEW:
        text = "Read it, then approve it, change it, or say what should be different."
        return Now("plan", "amber", "hand", "The plan is ready for you", text)
    if task.needs == Needs.ANSWER:
        return Now("answer", "amber", "hand", "The agent waits for your answer", task.reason)
    if task.needs == Needs.UNKNOWN:
        return Now("answer", "red", "alert", "Nobody can say how the agent's turn ended", task.reason)
    if task.needs == Needs.DECISION:
        return Now("decision", "amber", "hand", "The AI review keeps asking for changes. You decide", task.reason)
    if task.needs == Needs.PULL_REQUEST:
        return Now("proposed", "accent", "merge", "The pull request is open", task.reason)
    if task.status == Status.REVIEW and detail.error is not None and task.reason.startswith(detail.error.sentence):
        said = task.reason.removeprefix(detail.error.sentence).strip()
        return Now("review", "amber", "alert", detail.error.sentence.rstrip("."), said, detail.error.next_step)
    if task.status == Status.REVIEW:
        return Now("review", "amber", "hand", "The change is ready for you", task.reason or _reviewed(detail))
    return Now("idle", "grey", "pause", "Nothing happens at the moment", task.reason)


def _reviewed(detail: TaskDetail) -> str:
    """What the newest AI review said, in a line."""
    review = detail.reviews[-1] if detail.reviews else None
    if review is None or not review.verdict:
        return ""
    begin = "Approved by the AI review" if review.verdict == Verdict.APPROVED else "The AI review asks for changes"
    summary = cut(" ".join(review.summary.split()), SUMMARY_SHOWN)
    return f"{begin}: {summary}" if summary else f"{begin}."


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
