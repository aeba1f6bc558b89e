"""The operator's view of repositories, checkouts, merges, pull requests and commands in the background.

Settings and actions go through the services; workspaces, merges and commands are read-only. Memberships are plain rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from studio import operations
from studio.admin_rows import for_each
from studio.kernel.errors import StudioError
from studio.live_admin import LiveListMixin
from studio.operations import Figure
from workspaces import setup_admin as setup_admin
from workspaces.admin_rows import ReadOnly
from workspaces.commands.services import ACTIVE as RUNNING
from workspaces.commands.services import cancel_command
from workspaces.models import (
    Command,
    CommandState,
    ForgeConnection,
    KeptWork,
    MergeAttempt,
    Project,
    ProjectMembership,
    PullRequest,
    PullRequestState,
    ReviewComment,
    Workspace,
    WorkspaceState,
)
from workspaces.removal_admin import remove_workspaces
from workspaces.services import refresh_pull_request, remove_project, retry_merge, update_project
from workspaces.services.merges.request import ACTIVE
from workspaces.services.ownership import unknown_folders
from workspaces.services.projects import EDITABLE

if TYPE_CHECKING:
    ProjectAdminBase = admin.ModelAdmin[Project]
    WorkspaceAdminBase = admin.ModelAdmin[Workspace]
    MergeAdminBase = admin.ModelAdmin[MergeAttempt]
    CommandAdminBase = admin.ModelAdmin[Command]
    KeptAdminBase = admin.ModelAdmin[KeptWork]
    ConnectionAdminBase = admin.ModelAdmin[ForgeConnection]
    PullRequestAdminBase = admin.ModelAdmin[PullRequest]
    CommentAdminBase = admin.ModelAdmin[ReviewComment]
    CommentInlineBase = admin.TabularInline[ReviewComment, PullRequest]
    MembershipInlineBase = admin.TabularInline[ProjectMembership, Project]
    MergeInlineBase = admin.TabularInline[MergeAttempt, Workspace]
else:  # these classes take no parameters while they run
    ProjectAdminBase = WorkspaceAdminBase = MergeAdminBase = CommandAdminBase = KeptAdminBase = admin.ModelAdmin
    ConnectionAdminBase = PullRequestAdminBase = CommentAdminBase = admin.ModelAdmin
    MembershipInlineBase = MergeInlineBase = CommentInlineBase = admin.TabularInline


def workspace_figures() -> Iterable[Figure]:
    """How checkouts and merges stand, for the admin's front page."""
    rows, merges = reverse("admin:workspaces_workspace_changelist"), reverse("admin:workspaces_mergeattempt_changelist")
    counts = Workspace.objects.aggregate(
        ready=Count("pk", filter=Q(state=WorkspaceState.READY)),
        failed=Count("pk", filter=Q(state=WorkspaceState.FAILED)),
        stuck=Count("pk", filter=Q(state=WorkspaceState.REMOVING) & ~Q(error="")),
    )
    yield Figure("Workspaces", counts["ready"], f"{rows}?state__exact={WorkspaceState.READY}")
    failed = f"{rows}?state__exact={WorkspaceState.FAILED}"
    yield Figure("Workspaces that could not be made", counts["failed"], failed, alarm=counts["failed"] > 0)
    note = "They are tried again every ten minutes; the rows say why." if counts["stuck"] else ""
    removing = f"{rows}?state__exact={WorkspaceState.REMOVING}"
    yield Figure(
        "Workspaces that could not be removed", counts["stuck"], removing, alarm=counts["stuck"] > 0, note=note
    )
    unknown = unknown_folders()
    words = "No task has them, and the studio never deletes what it did not make: " + ", ".join(unknown[:3])
    yield Figure("Unknown folders", len(unknown), rows, alarm=bool(unknown), note=words if unknown else "")
    damaged = Workspace.objects.filter(state=WorkspaceState.READY).exclude(trouble="").count()
    yield Figure("Workspaces that were damaged", damaged, rows, alarm=damaged > 0)
    yield Figure("Merges under way", MergeAttempt.objects.filter(state__in=ACTIVE).count(), merges)
    pulls = reverse("admin:workspaces_pullrequest_changelist")
    open_pulls = PullRequest.objects.filter(state=PullRequestState.OPEN)
    troubled = open_pulls.exclude(error="").count()
    note = "They are read again by themselves; the rows say why it failed." if troubled else ""
    yield Figure("Pull requests open", open_pulls.count(), pulls, alarm=troubled > 0, note=note)
    commands = reverse("admin:workspaces_command_changelist")
    running = Command.objects.filter(state__in=RUNNING).count()
    yield Figure("Commands running", running, f"{commands}?state__exact={CommandState.RUNNING}")


operations.register("Workspaces", workspace_figures)


class MembershipInline(MembershipInlineBase):
    """Who belongs to a project, and as what."""

    model = ProjectMembership
    autocomplete_fields = ["user"]
    extra = 0


@admin.register(Project)
class ProjectAdmin(ProjectAdminBase):
    """Registered repositories. Register one on the page for it: its folder is checked there."""

    list_display = ["key", "name", "path", "default_branch", "max_parallel_runs", "plan_approval", "auto_complete"]
    list_filter = ["is_sample", "vcs", "plan_approval", "auto_complete"]
    search_fields = ["key", "name", "path"]
    inlines = [MembershipInline]
    actions = ["remove_projects"]

    def get_readonly_fields(self, request: HttpRequest, obj: Project | None = None) -> list[str]:
        """Everything but what the service can change."""
        return [field.name for field in Project._meta.fields if field.name not in EDITABLE]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Registering checks the repository, which this form cannot."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Project | None = None) -> bool:
        """The action below removes through the service, which keeps what is not merged."""
        return False

    def save_model(self, request: HttpRequest, obj: Project, form: Any, change: bool) -> None:
        """Hand what was edited to the service."""
        fields = {name: form.cleaned_data[name] for name in form.changed_data}
        try:
            update_project(actor=request.user, project=Project.objects.get(pk=obj.pk), **fields)
        except StudioError as error:
            messages.set_level(request, messages.ERROR)  # the admin's own "was changed" would not be true
            self.message_user(request, error.message, messages.ERROR)

    @admin.action(description="Remove the project; the repository stays")
    def remove_projects(self, request: HttpRequest, queryset: QuerySet[Project]) -> None:
        """Remove projects with their tasks and workspaces."""
        for_each(self, request, queryset, lambda row: remove_project(actor=request.user, project=row), "was removed")


class MergeInline(ReadOnly, MergeInlineBase):
    """The merges of a workspace."""

    model = MergeAttempt
    fields = readonly_fields = ("created_at", "how", "target_branch", "state", "error", "settled_at")
    extra = 0
    show_change_link = True


@admin.register(Workspace)
class WorkspaceAdmin(ReadOnly, LiveListMixin, WorkspaceAdminBase):
    """Checkouts, with what went wrong with them."""

    list_display = [
        "label", "project", "state", "branch", "error", "trouble", "size_bytes", "finished_at", "keep", "removed_at",
    ]  # fmt: skip
    list_filter = ["state", "keep", "project"]
    list_select_related = ["project"]
    search_fields = ["label", "branch", "path"]
    inlines = [MergeInline]
    actions = ["remove"]

    def live_topics(self, rows: list[Workspace]) -> set[str]:
        """The feeds of the projects whose workspaces are shown."""
        return {f"project:{row.project_id}" for row in rows}

    @admin.action(description="Remove the workspace, keeping a patch of what is not merged", permissions=["operate"])
    def remove(self, request: HttpRequest, queryset: QuerySet[Workspace]) -> HttpResponse | None:
        """Remove workspaces, again too where it failed, after it was shown what goes."""
        return remove_workspaces(self, request, queryset)


@admin.register(MergeAttempt)
class MergeAdmin(ReadOnly, LiveListMixin, MergeAdminBase):
    """Merges, with why one was refused."""

    list_display = [
        "workspace",
        "kind",
        "how",
        "target_branch",
        "state",
        "error",
        "attempts",
        "created_at",
        "settled_at",
    ]
    list_filter = ["state", "kind", "how", "workspace__project"]
    list_select_related = ["workspace__project"]
    search_fields = ["workspace__label", "result_commit", "target_branch"]
    actions = ["retry"]

    def live_topics(self, rows: list[MergeAttempt]) -> set[str]:
        """The feeds of the projects whose merges are shown."""
        return {f"project:{row.workspace.project_id}" for row in rows}

    @admin.action(description="Try the merge again now", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[MergeAttempt]) -> None:
        """Ring for merges that are on their way."""
        for_each(self, request, queryset, retry_merge, "is tried again")


@admin.register(KeptWork)
class KeptWorkAdmin(ReadOnly, KeptAdminBase):
    """What was kept of removed checkouts; of projects that are gone too."""

    list_display = ["label", "project_key", "branch", "patch", "bundle", "keep", "seen_at", "created_at", "deleted_at"]
    list_filter = ["keep", "project"]
    search_fields = ["label", "project_key", "branch"]


@admin.register(Command)
class CommandAdmin(ReadOnly, LiveListMixin, CommandAdminBase):
    """Commands in the background, with how they ended."""

    list_display = [
        "title", "workspace", "state", "exit_code", "requested_by", "started_by_name", "note", "created_at", "ended_at",
    ]  # fmt: skip
    list_filter = ["state", "requested_by", "workspace__project"]
    list_select_related = ["workspace__project"]
    search_fields = ["title", "text", "workspace__label", "started_by_name"]
    actions = ["cancel"]

    def live_topics(self, rows: list[Command]) -> set[str]:
        """The feeds of the projects whose commands are shown."""
        return {f"project:{row.workspace.project_id}" for row in rows}

    @admin.action(description="Cancel the command", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Command]) -> None:
        """End commands that run."""
        rows = queryset.select_related("workspace__project")
        for_each(self, request, rows, lambda row: cancel_command(command=row, actor=request.user), "is being ended")


@admin.register(ForgeConnection)
class ForgeConnectionAdmin(ReadOnly, ConnectionAdminBase):
    """Connections to forges; they are set on the project's own page, and a token is shown nowhere."""

    list_display = ["project", "kind", "base_url", "repository", "remote", "updated_at"]
    list_filter = ["kind"]
    list_select_related = ["project"]
    search_fields = ["project__name", "repository", "base_url"]
    exclude = ["sealed_token"]


class ReviewCommentInline(ReadOnly, CommentInlineBase):
    """What people wrote about a pull request."""

    model = ReviewComment
    fields = readonly_fields = ("created_at", "author", "path", "line", "body", "finding")
    extra = 0


@admin.register(PullRequest)
class PullRequestAdmin(ReadOnly, LiveListMixin, PullRequestAdminBase):
    """Pull requests, with why one could not be opened and when each is read next."""

    list_display = [
        "__str__", "workspace", "state", "checks_state", "error", "attempts", "synced_at", "next_sync_at",
    ]  # fmt: skip
    list_filter = ["state", "checks_state", "workspace__project"]
    list_select_related = ["workspace__project"]
    search_fields = ["repository", "title", "workspace__label", "head_branch"]
    inlines = [ReviewCommentInline]
    actions = ["refresh"]

    def live_topics(self, rows: list[PullRequest]) -> set[str]:
        """The feeds of the projects whose pull requests are shown."""
        return {f"project:{row.workspace.project_id}" for row in rows}

    @admin.action(description="Read it from the forge now", permissions=["operate"])
    def refresh(self, request: HttpRequest, queryset: QuerySet[PullRequest]) -> None:
        """Ring for pull requests that are open or being opened."""
        for_each(self, request, queryset, refresh_pull_request, "is read now")


@admin.register(ReviewComment)
class ReviewCommentAdmin(ReadOnly, CommentAdminBase):
    """Review comments of all pull requests."""

    list_display = ["pull_request", "author", "path", "line", "finding", "created_at"]
    list_select_related = ["pull_request"]
    search_fields = ["author", "path", "body"]
