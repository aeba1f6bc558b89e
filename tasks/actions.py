"""What a person may do with a task in a given state: pure, so that pages, API, admin and tests read one table."""

from __future__ import annotations

from studio.kernel.permissions import Role
from tasks.choices import RunState, Status

# Every action by name, with the role it takes.
ROLES: dict[str, Role] = {
    "start": Role.MAINTAINER,
    "approve_plan": Role.REVIEWER,
    "reject_plan": Role.REVIEWER,
    "replan": Role.MAINTAINER,
    "skip_ai_review": Role.REVIEWER,
    "request_changes": Role.REVIEWER,
    "complete": Role.MAINTAINER,
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


def possible(status: str, run_state: str) -> list[str]:
    """The actions that the state allows, the most likely one first. Roles are not considered."""
    if status in WORKING:
        if run_state in (RunState.QUEUED, RunState.RUNNING, RunState.WAITING):
            first = "stop"
        else:
            first = "resume" if run_state == RunState.STOPPED else "retry"
        return [first, *WORKING[status], "cancel"]
    if status == Status.REVIEW and run_state == RunState.RUNNING:
        return []  # a merge is on its way; it settles within seconds
    return list(RESTING[status])
