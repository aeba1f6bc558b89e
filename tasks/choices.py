"""The closed lists of the board: columns, phases, run states, severities, and why a run failed."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import models


class Status(models.TextChoices):
    """A task's column. `cancelled` is hidden from the board by default."""

    TODO = "todo", "To do"
    PLANNING = "planning", "Planning"
    PLANNING_REVIEW = "planning_review", "Plan review"
    IN_PROGRESS = "in_progress", "In progress"
    AI_REVIEW = "ai_review", "AI review"
    REVIEW = "review", "Review"
    DONE = "done", "Done"
    CANCELLED = "cancelled", "Cancelled"


BOARD_COLUMNS = [status for status in Status if status != Status.CANCELLED]


class Phase(models.TextChoices):
    """What an agent is asked to do in a run."""

    PLANNING = "planning", "Planning"
    IMPLEMENTATION = "implementation", "Implementation"
    REVIEW = "review", "AI review"
    FIX = "fix", "Fix"


class RunPhaseState(models.TextChoices):
    """queued -> preparing -> running -> finishing -> succeeded | failed | stopped."""

    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    FINISHING = "finishing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


ACTIVE_RUN_STATES = [RunPhaseState.QUEUED, RunPhaseState.PREPARING, RunPhaseState.RUNNING, RunPhaseState.FINISHING]
OCCUPYING_RUN_STATES = [RunPhaseState.PREPARING, RunPhaseState.RUNNING, RunPhaseState.FINISHING]


class RunState(models.TextChoices):
    """What the card shows beside the column."""

    IDLE = "idle"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting", "Waiting for you"
    FAILED = "failed"
    STOPPED = "stopped"


class Needs(models.TextChoices):
    """What a task waits for from a person; empty when nothing."""

    NOTHING = "", "Nothing"
    PLAN_APPROVAL = "plan_approval", "Plan to approve"
    REVIEW = "review", "Changes to review"
    DECISION = "decision", "A decision"  # the review rounds are used up
    CONFLICT = "conflict", "Merge conflict"
    PULL_REQUEST = "pull_request", "Pull request open"  # people look at it on the forge
    FAILURE = "failure", "Failed: look and retry"
    RESUME = "resume", "Stopped: resume or cancel"
    ANSWER = "answer", "An answer"  # an agent asks something
    UNKNOWN = "unknown", "Lost track: decide"  # nobody can say how the turn ended


class AtWork(models.TextChoices):
    """Whether an agent works in a task's checkout, for a run or because of a message."""

    NOBODY = ""
    SOMEBODY = "somebody"
    STOPPING = "stopping"  # all of them were asked to end


class Severity(models.TextChoices):
    """How much a finding matters. An open `error` blocks approval."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class FindingState(models.TextChoices):
    """open -> fixed (said by the implementer) -> verified (seen by a reviewer); or dismissed by a person."""

    OPEN = "open"
    FIXED = "fixed"
    VERIFIED = "verified"
    DISMISSED = "dismissed"


class ReviewSource(models.TextChoices):
    """Who reviewed."""

    AGENT = "agent"
    PULL_REQUEST = "pull_request", "Pull request"  # people on the forge


class Verdict(models.TextChoices):
    """What a review concluded. Anything else is not a verdict."""

    APPROVED = "approved"
    CHANGES_REQUESTED = "changes_requested"


class CompletionWay(models.TextChoices):
    """How a task was finished."""

    MERGE = "merge"
    SQUASH = "squash"
    REBASE = "rebase"
    PULL_REQUEST = "pull_request", "Pull request"  # merged on the forge
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ErrorText:
    """A failure for people: what happened, and what to do next."""

    sentence: str
    next_step: str


ERRORS: dict[str, ErrorText] = {
    "server_unreachable": ErrorText(
        "The agent server did not answer.", "Look at the server's state under Health; press Retry when it is ready."
    ),
    "model_not_found": ErrorText(
        "The agent server does not offer the chosen model or agent.",
        "Choose another model in the agent profile, then press Retry.",
    ),
    "provider_auth": ErrorText(
        "The model provider refused the credentials.",
        "Sign in again with OpenCode (`opencode auth login`), then press Retry.",
    ),
    "rate_limited": ErrorText("The model provider's rate limit did not lift.", "Wait a while, then press Retry."),
    "provider_error": ErrorText("The model provider failed.", "Read the provider's message, then press Retry."),
    "content_filtered": ErrorText(
        "The model provider's content filter stopped the answer.", "Rephrase the task, then press Retry."
    ),
    "output_limit": ErrorText(
        "The answer was cut off at the model's output limit.", "Make the task smaller, or press Retry."
    ),
    "stalled": ErrorText("The agent showed no sign of life for too long.", "Read the transcript, then press Retry."),
    "time_limit": ErrorText(
        "The turn took longer than the profile allows.", "Raise the limit in the agent profile, or press Retry."
    ),
    "step_limit": ErrorText(
        "The agent made more steps than the profile allows.", "Raise the limit in the agent profile, or press Retry."
    ),
    "looping": ErrorText(
        "The agent went round in circles: the same answer again and again.",
        "Read the transcript, then press Retry with a word to the agent, or choose another model in the agent profile.",
    ),
    "budget_exceeded": ErrorText(
        "A budget is used up.", "Raise the budget in the project's settings, then press Retry."
    ),
    "session_lost": ErrorText(
        "The agent server no longer knows this session.", "Press Retry: a fresh session starts in the same workspace."
    ),
    "agent_rejected": ErrorText(
        "The agent asked for something that is not allowed, and ended.", "Read the transcript, then press Retry."
    ),
    "ask_expired": ErrorText(
        "Nobody answered what the agent asked.", "Press Retry, and answer in time; or let the project's rules decide."
    ),
    "aborted": ErrorText("The turn was ended from outside the studio.", "Press Retry."),
    "plan_missing": ErrorText(
        "The planner ended without a plan.", "Press Retry, or add detail to the description first."
    ),
    "empty_change": ErrorText(
        "The agent ended without changing anything.", "Read what it said, then press Retry with feedback, or plan anew."
    ),
    "verdict_missing": ErrorText(
        "The reviewer ended without a clear verdict.",
        "Press Retry to review again, or skip the AI review and judge yourself.",
    ),
    "workspace_failed": ErrorText(
        "The workspace could not be prepared.", "Read the message, repair the repository, then press Retry."
    ),
    "setup_failed": ErrorText(
        "The checkout could not be set up.",
        "Read the setup's output under Commands, repair the script or the project's settings under Setup, then press Retry: the "
        "setup runs again.",
    ),
    "commit_failed": ErrorText(
        "What the agent left could not be committed.",
        "Read the message; the files are in the workspace. Then press Retry.",
    ),
    "merge_conflict": ErrorText(
        "The change conflicts with the target branch.",
        "Let an agent resolve it, or resolve it by hand and complete again.",
    ),
    "conflict_markers": ErrorText(
        "The agent left lines of a conflict unresolved.",
        "Press Retry, or give the merge up; the checkout then goes back to what it was before.",
    ),
    "revert_conflict": ErrorText(
        "The merge could not be taken back: later commits changed the same places.",
        "Revert it by hand, or write a task that does.",
    ),
    "revert_refused": ErrorText("The merge was not taken back.", "Read the reason, then press Revert again."),
    "merge_refused": ErrorText("The merge was refused and nothing was moved.", "Read the reason, then complete again."),
    "merge_marked": ErrorText(
        "The merge was refused and nothing was moved.",
        "Request changes, or take the lines out in the task's checkout, then merge again. If they are meant to stand there, tick "
        "that at the merge's preview (in the API: `markers_meant`).",
    ),
    "restore_failed": ErrorText(
        "The checkout could not be put back to what it was before the conflict.",
        "Read the reason; what the checkout holds is kept. Then merge it, or request changes.",
    ),
    "pull_request_failed": ErrorText(
        "The pull request could not be opened or brought up to date. The change is kept.",
        "Read the reason; “Check the connection” in the project's forge settings says what is missing. Then complete again.",
    ),
    "pull_request_marked": ErrorText(
        "The pull request was refused and nothing was pushed.",
        "Request changes, or take the lines out in the task's checkout, then open it again. If they are meant to stand there, tick "
        "that in its form (in the API: `markers_meant`).",
    ),
    "pull_request_closed": ErrorText(
        "The pull request was closed on the forge without being merged.",
        "Request changes, open it again there, or complete the task another way.",
    ),
    "merged_early": ErrorText(
        "The pull request was merged without what came after it.",
        "Look at the rest of the change, then open a new pull request for it or merge it here. If it is not wanted, finish without "
        "merging: it is kept as a patch.",
    ),
    "internal_error": ErrorText("The studio itself failed here.", "Look at the log, then press Retry."),
}
