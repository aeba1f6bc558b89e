"""The board as the API shows it and takes it in. No serializer reads the database: the views hand in complete rows."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from studio.kernel.api_input import StrictSerializer
from tasks import selectors
from tasks.actions import possible_for
from tasks.choices import ERRORS, AtWork, CompletionWay, Needs, RunState, Status, Verdict
from tasks.models import Finding, PhaseRun, Plan, Review, Task, TaskHistory
from workspaces.services.merges.request import MARKED_LIMIT, NAME_LIMIT

ORDERINGS = ("created_at", "updated_at", "priority", "position", "number", "title")


class TaskSerializer(serializers.ModelSerializer[Task]):
    """A task. `status` is its column: it changes only through actions."""

    project_key = serializers.CharField(source="project.key", read_only=True)
    labels = serializers.ListField(child=serializers.CharField(), read_only=True)
    completed_how = serializers.ChoiceField(choices=CompletionWay.choices, allow_blank=True, read_only=True)
    branch = serializers.SerializerMethodField(help_text="The branch of its workspace, empty when it has none.")
    next_step = serializers.SerializerMethodField(help_text="What to do about `error_code`, for people.")
    at_work = serializers.SerializerMethodField(
        help_text="Whether an agent works in its checkout, for a run or on a message, also while the task rests: empty, "
        "`somebody`, or `stopping`.",
    )
    actions = serializers.SerializerMethodField(
        help_text="The actions that the state allows, the most likely one first; the account's role is not considered."
    )

    class Meta:
        model = Task
        fields = [
            "id", "key", "number", "project", "project_key", "title", "description", "priority", "labels", "status",
            "run_state", "needs", "reason", "at_work", "error_code", "next_step", "actions", "position", "attempt", "version",
            "workspace", "branch", "completed_how", "completed_commit", "reverted_commit", "created_at",
            "updated_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_branch(self, task: Task) -> str:
        """The workspace comes with the row."""
        return task.workspace.branch if task.workspace is not None else ""

    def get_next_step(self, task: Task) -> str:
        """From the closed list of failures."""
        error = ERRORS.get(task.error_code)
        return error.next_step if error is not None else ""

    @extend_schema_field(serializers.ChoiceField(choices=AtWork.choices, allow_blank=True))
    def get_at_work(self, task: Task) -> str:
        """Read along with the row."""
        return selectors.at_work(task).value

    def get_actions(self, task: Task) -> list[str]:
        """From the table of actions."""
        return possible_for(task)


class PlanSerializer(serializers.ModelSerializer[Plan]):
    """A version of a task's plan."""

    approved_by = serializers.CharField(source="approved_by.username", default=None, read_only=True, allow_null=True)

    class Meta:
        model = Plan
        fields = [
            "id", "version", "text", "run", "approved_by", "approved_at", "rejected_at", "feedback", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


class RunSerializer(serializers.ModelSerializer[PhaseRun]):
    """One run of a phase: what an agent was asked, and how it ended."""

    server = serializers.CharField(source="server.name", default="", read_only=True)

    class Meta:
        model = PhaseRun
        fields = [
            "id", "phase", "round", "attempt", "retry", "state", "feedback", "summary", "note", "error_code",
            "error_message", "server", "session", "turn", "base_commit", "head_commit", "stop_requested_at",
            "created_at", "started_at", "ended_at",
        ]  # fmt: skip
        read_only_fields = fields


class FindingSerializer(serializers.ModelSerializer[Finding]):
    """One thing that a reviewer found."""

    class Meta:
        model = Finding
        fields = [
            "id", "number", "review", "severity", "title", "body", "file", "line", "state", "note", "created_at",
            "updated_at",
        ]  # fmt: skip
        read_only_fields = fields


class ReviewSerializer(serializers.ModelSerializer[Review]):
    """One review, by an agent or by people on a pull request; `verdict` is empty until a clear one was handed in."""

    verdict = serializers.ChoiceField(choices=Verdict.choices, allow_blank=True, read_only=True)
    findings = FindingSerializer(many=True, read_only=True)

    class Meta:
        model = Review
        fields = [
            "id", "source", "run", "attempt", "round", "verdict", "summary", "head_commit", "created_at", "decided_at",
            "findings",
        ]  # fmt: skip
        read_only_fields = fields


class HistorySerializer(serializers.ModelSerializer[TaskHistory]):
    """A change of a task's column, or a decision that kept it there."""

    actor = serializers.CharField(source="actor_name", read_only=True, help_text="“studio” is the studio itself.")

    class Meta:
        model = TaskHistory
        fields = ["id", "action", "from_status", "to_status", "actor", "reason", "run", "at"]
        read_only_fields = fields


class TaskQuery(serializers.Serializer[Any]):
    """How a list of tasks is narrowed down."""

    project = serializers.CharField(required=False, max_length=64, help_text="A project's id or key.")
    status = serializers.ChoiceField(choices=Status.choices, required=False, help_text="The column.")
    run_state = serializers.ChoiceField(choices=RunState.choices, required=False)
    needs = serializers.ChoiceField(
        choices=[choice for choice in Needs.choices if choice[0]],
        required=False,
        help_text="What the task waits for from a person.",
    )
    q = serializers.CharField(
        required=False, allow_blank=True, max_length=200, help_text="Words that all occur in key, title or description."
    )
    ordering = serializers.ChoiceField(
        choices=[name for field in ORDERINGS for name in (field, f"-{field}")],
        required=False,
        help_text="A field, with “-” before it the other way round; without it the newest come first.",
    )


class TaskCreateSerializer(StrictSerializer[Any]):
    """A new task."""

    refused = {"status": "A new task is in “todo”; with “start”: true it begins at once."}

    project = serializers.CharField(max_length=64, help_text="The project's id or key.")
    title = serializers.CharField(allow_blank=True, help_text="1 to 200 characters.")
    description = serializers.CharField(
        required=False, allow_blank=True, trim_whitespace=False, default="", help_text="Markdown."
    )
    priority = serializers.IntegerField(
        required=False, default=0, min_value=-100, max_value=100, help_text="Higher is more urgent."
    )
    labels = serializers.ListField(child=serializers.CharField(), required=False, default=list)
    start = serializers.BooleanField(required=False, default=False, help_text="Begin at once.")


class TaskEditSerializer(StrictSerializer[Any]):
    """What of a task can be edited. Its column changes through actions: POST /api/v1/tasks/{ref}/{action}."""

    refused = {
        "status": "A task's status changes only through actions: POST /api/v1/tasks/{ref}/{action}, "
        "for example approve_plan; the task's “actions” lists what is possible now.",
        "run_state": "The run state follows from what the agents do; use the actions start, stop, resume or retry.",
        "position": "Name the task's new neighbour with “after” or “before” instead.",
        "project": "A task stays in its project.",
    }

    title = serializers.CharField(required=False, allow_blank=True, help_text="1 to 200 characters.")
    description = serializers.CharField(required=False, allow_blank=True, trim_whitespace=False)
    priority = serializers.IntegerField(required=False, min_value=-100, max_value=100)
    labels = serializers.ListField(child=serializers.CharField(), required=False)
    after = serializers.CharField(
        required=False, max_length=64, help_text="Key or id of the task of the same column behind which it is put."
    )
    before = serializers.CharField(
        required=False, max_length=64, help_text="Key or id of the task of the same column before which it is put."
    )
    version = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=2**31 - 1,
        help_text="The version that was read: 409 when the task has changed since.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One neighbour at most."""
        if "after" in attrs and "before" in attrs:
            raise serializers.ValidationError({"before": ["Name one neighbour: after or before."]})
        return attrs


class StartFromSerializer(StrictSerializer[Any]):
    """What a task begins at; with none it is the tip of the project's target branch."""

    branch = serializers.CharField(
        required=False, allow_blank=True, help_text="A local branch of the repository. It is not moved."
    )
    worktree = serializers.CharField(
        required=False,
        allow_blank=True,
        trim_whitespace=False,
        help_text="The path of a worktree (jj: workspace) of the repository. What is in it now comes along, uncommitted files "
        "too; it is not touched.",
    )
    kept = serializers.UUIDField(required=False, allow_null=True, help_text="Kept work of the same project, by its id.")


class ActionSerializer(StrictSerializer[Any]):
    """What an action may need: feedback for reject_plan, replan, request_changes and resolve, a reason for skip_ai_review."""

    feedback = serializers.CharField(
        required=False, allow_blank=True, trim_whitespace=False, help_text="What the agent reads."
    )
    reason = serializers.CharField(required=False, allow_blank=True, help_text="Kept in the history.")
    plan = serializers.CharField(
        required=False,
        allow_blank=True,
        trim_whitespace=False,
        help_text="With approve_plan: the plan as edited by you.",
    )
    how = serializers.ChoiceField(
        choices=CompletionWay.choices, required=False, help_text="With complete: how to finish; merge when not given."
    )
    target = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=250,
        help_text="With complete: the local branch to merge into; the one that the task came from when not given.",
    )
    message = serializers.CharField(
        required=False,
        allow_blank=True,
        trim_whitespace=False,
        help_text="With complete and revert: the commit's message; made from the task when not given.",
    )
    title = serializers.CharField(
        required=False, allow_blank=True, help_text="With complete by pull_request: its title; else the task's."
    )
    body = serializers.CharField(
        required=False,
        allow_blank=True,
        trim_whitespace=False,
        help_text="With complete by pull_request: its text in markdown; else made of task, plan and summary.",
    )
    draft = serializers.BooleanField(
        required=False, allow_null=True, default=None, help_text="With complete by pull_request: whether it is a draft."
    )
    markers_meant = serializers.ListField(
        child=serializers.CharField(max_length=NAME_LIMIT, trim_whitespace=False),
        required=False,
        max_length=MARKED_LIMIT,
        help_text="With complete by a merge or a pull request: the files, as `marked` of the merge's preview or the refusal names "
        "them, in which lines of a conflict are meant to stand.",
    )
