"""What a person may do with a task in a given state: one table, which pages, API, admin and tests read."""

from __future__ import annotations

from studio.kernel.permissions import Role
from tasks import selectors
from tasks.choices import AtWork, CompletionWay, Needs, RunState, Status
from tasks.models import Task

# Every action by name, with the role it takes.
ROLES: dict[str, Role] = {
    "start": Role.MAINTAINER,
    "approve_plan": Role.REVIEWER,
    "reject_plan": Role.REVIEWER,
    "replan": Role.MAINTAINER,
    "skip_ai_review": Role.REVIEWER,
    "request_changes": Role.REVIEWER,
    "resolve": Role.REVIEWER,
    "abort": Role.REVIEWER,
    "complete": Role.MAINTAINER,
    "revert": Role.MAINTAINER,
    "retry": Role.MAINTAINER,
    "resume": Role.MAINTAINER,
    "stop": Role.MAINTAINER,
    "cancel": Role.MAINTAINER,
    "reopen": Role.MAINTAINER,
}

RESTING: dict[str, list[str]] = {
    Status.TODO: ["start", "cancel"],
    Status.PLANNING_REVIEW: ["approve_plan", "reject_plan", "cancel"],
    Status.REVIEW: ["complete", "request_changes", "cancel"],
    Status.DONE: ["reopen"],
    Status.CANCELLED: ["reopen"],
}
# The columns in which an agent works, with the way past its run that a person has.
WORKING: dict[str, list[str]] = {
    Status.PLANNING: [],
    Status.IN_PROGRESS: ["replan"],
    Status.AI_REVIEW: ["skip_ai_review"],
}

# What takes the checkout as it lies there, and so waits until no agent writes in it.
AT_REST = ("complete", "abort")

CONFLICT = ["resolve", "complete", "request_changes", "abort", "cancel"]


def possible(
    status: str,
    run_state: str,
    *,
    needs: str = Needs.NOTHING,
    resolving: bool = False,
    merged: bool = False,
    at_work: str = AtWork.NOBODY,
) -> list[str]:
    """The actions that the state allows, the most likely one first. Roles are not considered.

    `resolving`: the agent's round is about a merge's conflicts; `merged`: the studio merged it and has not taken it back;
    `at_work`: an agent works in the checkout, be it for a run or because a message opened a turn after one.
    """
    if status in WORKING and run_state in (RunState.QUEUED, RunState.RUNNING, RunState.WAITING):
        return ["stop", *WORKING[status], "cancel"]
    if status in (Status.REVIEW, Status.DONE) and run_state == RunState.RUNNING:
        return []  # a merge, or its reverse, is on its way; it settles within seconds
    actions = _resting(status, run_state, needs=needs, resolving=resolving, merged=merged)
    if at_work:
        actions = [action for action in actions if action not in AT_REST]
    return ["stop", *actions] if at_work == AtWork.SOMEBODY else actions


def _resting(status: str, run_state: str, *, needs: str, resolving: bool, merged: bool) -> list[str]:
    """The same while no run is under way."""
    if status in WORKING:
        first = "resume" if run_state == RunState.STOPPED else "retry"
        return [first, *WORKING[status], *(["abort"] if resolving else []), "cancel"]
    if status == Status.REVIEW and needs == Needs.CONFLICT:
        return list(CONFLICT)
    return [*(["revert"] if merged and status == Status.DONE else []), *RESTING[status]]


def possible_for(task: Task) -> list[str]:
    """The same for a task as it is."""
    return possible(
        task.status,
        task.run_state,
        needs=task.needs,
        resolving=bool(task.resolving),
        # What was merged on the forge is taken back there.
        merged=bool(task.completed_commit)
        and not task.reverted_commit
        and task.completed_how != CompletionWay.PULL_REQUEST,
        at_work=selectors.at_work(task),
    )
