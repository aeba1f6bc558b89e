"""What goes on with a task, in words: the heading of its page, for whoever reads it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from sessions_app.overview import MAY_ANSWER
from studio.kernel.permissions import Role, at_least
from studio.kernel.text import cut
from studio.kernel.unseen import escaped
from tasks.cards import SETTING_UP
from tasks.choices import CompletionWay, Needs, Phase, RunPhaseState, RunState, Status, Verdict
from tasks.follow_ups import FollowUp
from tasks.models import PhaseRun, Task
from tasks.selectors import TaskDetail

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

SUMMARY_SHOWN = 240  # characters of a review's summary, or of a message, above the tabs
MAY_DECIDE = Role.REVIEWER  # about a plan or a change: to send it back at least
# True whatever goes on beside it, and what to do stands there.
KEEP_HEADING = ("failed", "stopped", "cancelled", "merging")
DOES = {
    Phase.PLANNING: "The planner reads the repository and writes a plan",
    Phase.IMPLEMENTATION: "An agent makes the change",
    Phase.REVIEW: "A reviewer checks the change",
    Phase.FIX: "An agent works on what was found",
}


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
    beside: bool = False  # the heading is about an agent beside the task's runs


def now_of(
    detail: TaskDetail,
    run: PhaseRun | None,
    follow_up: FollowUp | None,
    user: AbstractBaseUser | AnonymousUser,
    role: str | None,
) -> Now:
    """What happens now, in words for `user`, who has `role`: an agent beside the runs comes first."""
    now = _of_task(detail, run, role)
    return now if follow_up is None else _beside(now, follow_up, user, role)


def _beside(now: Now, follow_up: FollowUp, user: AbstractBaseUser | AnonymousUser, role: str | None) -> Now:
    """`now` under the heading of what is at work beside the runs; what is offered stays that of the task's own state."""
    card = follow_up.card
    if follow_up.asks:
        return replace(_asks(card.needs, card.reason, role), kind=now.kind, beside=True)
    if now.kind in KEEP_HEADING:
        return now
    about = follow_up.about(user)
    tone, icon, title = "accent", "spin", f"An agent is at work on {about}" if about else "An agent is still at work"
    if follow_up.stopping:
        title = "The agent is being stopped"
    elif card.reason:
        tone, icon, title = "grey", "clock", card.reason
    text = f"“{cut(follow_up.said, SUMMARY_SHOWN)}”" if follow_up.said else ""
    if now.kind == "conflict":
        text = f"{text}\n{now.title}.".strip()
    return Now(now.kind, tone, icon, title, text, since=follow_up.since, beside=True)


def _of_task(detail: TaskDetail, run: PhaseRun | None, role: str | None) -> Now:
    task = detail.task
    if task.status == Status.DONE:
        return _done(detail)
    if task.status == Status.CANCELLED:
        return Now("cancelled", "grey", "x", "Cancelled", task.reason)
    if task.needs == Needs.CONFLICT:
        target = escaped(detail.merge.target_branch if detail.merge else task.project.default_branch)
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
    return _waiting(detail, role)


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
    target = escaped(merge.target_branch if merge else task.project.default_branch)
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


def _waiting(detail: TaskDetail, role: str | None) -> Now:
    task = detail.task
    decides = at_least(role, MAY_DECIDE)
    if task.status == Status.TODO:
        gate = "Nothing is changed before you approve the plan." if task.project.plan_approval else ""
        checkout = "jj workspace" if task.project.vcs == "jj" else "git worktree"
        text = f"Start creates a {checkout} from {escaped(task.project.default_branch)} and lets an agent plan. {gate}"
        return Now("todo", "grey", "play", "Not started", text.strip())
    if task.status == Status.PLANNING_REVIEW and not decides:
        text = "A reviewer or maintainer approves it, or says what should be different."
        return Now("plan", "amber", "hand", "The plan waits for approval", text)
    if task.status == Status.PLANNING_REVIEW:
        text = "Read it, then approve it, change it, or say what should be different."
        return Now("plan", "amber", "hand", "The plan is ready for you", text)
    if task.needs in (Needs.ANSWER, Needs.UNKNOWN):
        return _asks(task.needs, task.reason, role)
    if task.needs == Needs.DECISION:
        title = f"The AI review keeps asking for changes. {'You decide' if decides else 'A person decides'}"
        return Now("decision", "amber", "hand", title, task.reason)
    if task.needs == Needs.PULL_REQUEST:
        return Now("proposed", "accent", "merge", "The pull request is open", task.reason)
    if task.status == Status.REVIEW and detail.error is not None and task.reason.startswith(detail.error.sentence):
        said = task.reason.removeprefix(detail.error.sentence).strip()
        return Now("review", "amber", "alert", detail.error.sentence.rstrip("."), said, detail.error.next_step)
    if task.status == Status.REVIEW:
        title = "The change is ready for you" if decides else "The change waits for a reviewer or maintainer"
        return Now("review", "amber", "hand", title, task.reason or _reviewed(detail))
    return Now("idle", "grey", "pause", "Nothing happens at the moment", task.reason)


def _asks(needs: str, reason: str, role: str | None) -> Now:
    """An agent cannot go on without a person."""
    if needs == Needs.UNKNOWN:
        return Now("answer", "red", "alert", "Nobody can say how the agent's turn ended", reason)
    title = "The agent waits for your answer" if at_least(role, MAY_ANSWER) else "The agent waits for a maintainer"
    return Now("answer", "amber", "hand", title, reason)


def _reviewed(detail: TaskDetail) -> str:
    """What the newest AI review said, in a line."""
    review = detail.reviews[-1] if detail.reviews else None
    if review is None or not review.verdict:
        return ""
    approved, workspace = review.verdict == Verdict.APPROVED, detail.task.workspace
    begin = "Approved by the AI review" if approved else "The AI review asks for changes"
    if workspace is not None and review.head_commit and review.head_commit != workspace.head_commit:
        begin = "The change is newer than its AI review. That " + ("approved it" if approved else "asks for changes")
    summary = cut(" ".join(review.summary.split()), SUMMARY_SHOWN)
    return f"{begin}: {summary}" if summary else f"{begin}."
