"""The operator's view of the board: what is stuck, why, and the button that repairs it.

Nothing is changed here directly. Edits and actions call the services; history, plans and reviews are read-only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from studio import operations
from studio.admin_rows import ReadOnly, for_each
from studio.kernel.errors import StudioError
from studio.live_admin import LiveListMixin
from tasks.choices import RunPhaseState
from tasks.models import Finding, ImportedIssue, PhaseRun, Plan, Review, Task, TaskHistory
from tasks.operations import board_figures
from tasks.services.advance import advance_turn
from tasks.services.board import delete_task, edit_task
from tasks.services.lifecycle import act
from tasks.services.runs import requeue_run

if TYPE_CHECKING:
    TaskAdminBase = admin.ModelAdmin[Task]
    RunAdminBase = admin.ModelAdmin[PhaseRun]
    ReadOnlyBase = admin.ModelAdmin[Any]
    RunInlineBase = admin.TabularInline[PhaseRun, Task]
    HistoryInlineBase = admin.TabularInline[TaskHistory, Task]
    FindingInlineBase = admin.TabularInline[Finding, Review]
else:  # these classes take no parameters while they run
    TaskAdminBase = RunAdminBase = ReadOnlyBase = admin.ModelAdmin
    RunInlineBase = HistoryInlineBase = FindingInlineBase = admin.TabularInline

operations.register("Board", board_figures)

EDITABLE = ["title", "description", "priority", "labels"]


class RunInline(ReadOnly, RunInlineBase):
    """The runs of a task."""

    model = PhaseRun
    fields = readonly_fields = ("phase", "round", "attempt", "retry", "state", "error_code", "created_at", "ended_at")
    extra = 0
    show_change_link = True


class HistoryInline(ReadOnly, HistoryInlineBase):
    """What happened to a task."""

    model = TaskHistory
    fields = readonly_fields = ("at", "action", "from_status", "to_status", "actor_name", "reason")
    extra = 0


@admin.register(Task)
class TaskAdmin(LiveListMixin, TaskAdminBase):
    """Tasks with what they wait for."""

    list_display = ["key", "title", "project", "status", "run_state", "needs", "error_code", "attempt", "updated_at"]
    list_filter = ["status", "run_state", "needs", "error_code", "project"]
    list_select_related = ["project"]
    search_fields = ["key", "title", "description"]
    inlines = [RunInline, HistoryInline]
    actions = ["stop", "retry", "resume", "cancel", "delete_tasks"]

    def live_topics(self, rows: list[Task]) -> set[str]:
        """The feeds of the projects whose tasks are shown."""
        return {f"project:{task.project_id}" for task in rows}

    def get_readonly_fields(self, request: HttpRequest, obj: Task | None = None) -> list[str]:
        """Everything but what a service can edit."""
        return [field.name for field in Task._meta.fields if field.name not in EDITABLE]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tasks are made on the board."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Task | None = None) -> bool:
        """The action below deletes through the service, which keeps what is not merged."""
        return False

    def save_model(self, request: HttpRequest, obj: Task, form: Any, change: bool) -> None:
        """Hand what was edited to the service."""
        fields = {name: form.cleaned_data[name] for name in form.changed_data}
        try:
            edit_task(actor=request.user, task=obj.pk, **fields)
        except StudioError as error:
            messages.set_level(request, messages.ERROR)  # the admin's own "was changed" would not be true
            self.message_user(request, error.message, messages.ERROR)

    @admin.action(description="Stop the run")
    def stop(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Stop what runs."""
        self._act(request, queryset, "stop", "is being stopped")

    @admin.action(description="Retry what failed")
    def retry(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Open a fresh run for what failed."""
        self._act(request, queryset, "retry", "is queued again")

    @admin.action(description="Resume what was stopped")
    def resume(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Open a fresh run for what was stopped."""
        self._act(request, queryset, "resume", "is queued again")

    @admin.action(description="Cancel the task")
    def cancel(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Give the tasks up; they can be reopened."""
        self._act(request, queryset, "cancel", "is cancelled")

    @admin.action(description="Delete the task", permissions=["change"])
    def delete_tasks(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Delete through the service."""
        for_each(self, request, queryset, lambda task: delete_task(actor=request.user, task=task), "was deleted")

    def _act(self, request: HttpRequest, queryset: QuerySet[Task], action: str, done: str) -> None:
        for_each(self, request, queryset, lambda task: act(actor=request.user, task_ref=task, action=action), done)


@admin.register(PhaseRun)
class PhaseRunAdmin(LiveListMixin, ReadOnly, RunAdminBase):
    """Runs with who holds them and when they are tried next."""

    list_display = [
        "task", "phase", "round", "retry", "state", "server", "error_code", "failures", "next_try_at", "lease_owner",
        "lease_until", "created_at",
    ]  # fmt: skip
    list_filter = ["state", "phase", "error_code", "server"]
    list_select_related = ["task", "server"]
    search_fields = ["task__key", "task__title", "error_message"]
    actions = ["requeue", "advance_now", "stop"]

    def live_topics(self, rows: list[PhaseRun]) -> set[str]:
        """The feeds of the projects whose runs are shown."""
        return {f"project:{run.task.project_id}" for run in rows}

    @admin.action(description="Put back into the queue")
    def requeue(self, request: HttpRequest, queryset: QuerySet[PhaseRun]) -> None:
        """For a run that waits or is stuck in its preparation."""
        for run in queryset:
            if requeue_run(run.pk):
                self.message_user(request, f"{run}: is queued.", messages.SUCCESS)
            else:
                self.message_user(request, f"{run}: is {run.state}, not waiting or being prepared.", messages.WARNING)

    @admin.action(description="Advance now")
    def advance_now(self, request: HttpRequest, queryset: QuerySet[PhaseRun]) -> None:
        """For a run whose turn has ended but which did not move on."""
        for run in queryset:
            if run.turn_id is not None:
                PhaseRun.objects.filter(pk=run.pk).update(next_try_at=None)
                advance_turn(run.turn_id)
            run.refresh_from_db()
            self.message_user(request, f"{run}: is {run.state}.")

    @admin.action(description="Stop the run")
    def stop(self, request: HttpRequest, queryset: QuerySet[PhaseRun]) -> None:
        """Stop the tasks of the chosen runs that are active."""
        active = [run.task for run in queryset.exclude(state__in=[RunPhaseState.SUCCEEDED, RunPhaseState.FAILED])]
        tasks = Task.objects.filter(pk__in=[task.pk for task in active])
        for_each(
            self, request, tasks, lambda task: act(actor=request.user, task_ref=task, action="stop"), "is being stopped"
        )


class FindingInline(ReadOnly, FindingInlineBase):
    """The findings of a review."""

    model = Finding
    fields = readonly_fields = ("number", "severity", "state", "title", "file", "line", "note")
    extra = 0


@admin.register(Review)
class ReviewAdmin(ReadOnly, ReadOnlyBase):
    """Reviews by agents."""

    list_display = ["task", "round", "verdict", "head_commit", "created_at", "decided_at"]
    list_filter = ["verdict"]
    search_fields = ["task__key", "summary"]
    inlines = [FindingInline]


@admin.register(Plan)
class PlanAdmin(ReadOnly, ReadOnlyBase):
    """Plan versions and what people decided about them."""

    list_display = ["task", "version", "approved_by", "approved_at", "rejected_at", "created_at"]
    search_fields = ["task__key", "text"]


@admin.register(Finding)
class FindingAdmin(ReadOnly, ReadOnlyBase):
    """Findings of all reviews."""

    list_display = ["task", "number", "severity", "state", "title", "file", "line", "updated_at"]
    list_filter = ["severity", "state"]
    search_fields = ["task__key", "title", "file"]


@admin.register(TaskHistory)
class TaskHistoryAdmin(ReadOnly, ReadOnlyBase):
    """Every change of a column, and who made it."""

    list_display = ["at", "task", "action", "from_status", "to_status", "actor_name", "reason"]
    list_filter = ["action", "to_status"]
    search_fields = ["task__key", "actor_name", "reason"]


@admin.register(ImportedIssue)
class ImportedIssueAdmin(ReadOnly, ReadOnlyBase):
    """Which issue of a forge each task came from."""

    list_display = ["task", "repository", "number", "url", "created_at"]
    list_select_related = ["task"]
    search_fields = ["task__key", "repository", "url"]
