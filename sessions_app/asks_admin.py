"""The operator's view of what agents ask, and of the rules by which they need not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from sessions_app.models import Ask, AskKind, AskPolicy, AskState, PermissionRule
from sessions_app.services import asks
from sessions_app.services.ask_rows import close_row
from sessions_app.services.turns import lock_session
from studio.admin import ReadOnlyAdmin
from studio.kernel.errors import StudioError
from studio.queue import Names, enqueue

if TYPE_CHECKING:
    RuleBase = admin.ModelAdmin[PermissionRule]
    PolicyBase = admin.ModelAdmin[AskPolicy]
else:  # the class takes no parameters while it runs
    RuleBase = PolicyBase = admin.ModelAdmin


@admin.register(Ask)
class AskAdmin(ReadOnlyAdmin):
    """What agents wait for, and what was answered. Answers go through the same service as everybody's."""

    list_display = ["title", "kind", "state", "asker", "session", "reply", "answered_name", "due_at", "created_at"]
    list_filter = ["state", "kind", "session__project"]
    list_select_related = ["session"]
    list_per_page = 50
    search_fields = ["title", "external_id", "session__title"]
    ordering = ["-created_at"]
    actions = ["allow_once", "reject", "withdraw"]

    @admin.action(description="Allow once")
    def allow_once(self, request: HttpRequest, queryset: QuerySet[Ask]) -> None:
        """Allow the selected permissions once; questions are answered on their page."""
        self._answer(request, queryset.exclude(kind=AskKind.QUESTION), "once")

    @admin.action(description="Reject")
    def reject(self, request: HttpRequest, queryset: QuerySet[Ask]) -> None:
        """Refuse; the agents go on without."""
        self._answer(request, queryset, "reject")

    @admin.action(description="Withdraw (the agent goes on waiting on its server)")
    def withdraw(self, request: HttpRequest, queryset: QuerySet[Ask]) -> None:
        """Take an ask off the lists without an answer, as when its server is gone for good."""
        for ask in queryset.filter(state=AskState.PENDING).exclude(kind=AskKind.BUDGET).select_related("session"):
            with transaction.atomic():
                lock_session(ask.session_id)
                close_row(ask, AskState.WITHDRAWN, "withdrawn", {"by": request.user.get_username()})
            messages.success(request, f"{ask} is withdrawn.")

    def _answer(self, request: HttpRequest, queryset: QuerySet[Ask], reply: str) -> None:
        for ask in queryset:
            try:
                asks.answer(ask_id=ask.pk, actor=request.user, reply=reply)
            except StudioError as error:
                messages.warning(request, f"{ask}: {error.message}")
            else:
                messages.success(request, f"{ask}: answered.")


@admin.register(PermissionRule)
class PermissionRuleAdmin(RuleBase):
    """What agents may do; without a project a rule is for all of them."""

    list_display = ["permission", "pattern", "action", "project", "profile", "position", "created_by", "created_at"]
    list_filter = ["action", "project", "profile"]
    list_select_related = ["project", "profile", "created_by"]
    search_fields = ["permission", "pattern"]
    ordering = ["project", "position", "id"]
    readonly_fields = ["from_ask", "created_by", "created_at"]

    def save_model(self, request: HttpRequest, obj: PermissionRule, form: Any, change: bool) -> None:
        """Say who made it, and answer what it decides by now."""
        if not change:
            obj.created_by = request.user  # type: ignore[assignment]  # whoever is in the admin is an account
        super().save_model(request, obj, form, change)
        if obj.project_id:
            enqueue(Names.RECONSIDER_ASKS, obj.project_id)


@admin.register(AskPolicy)
class AskPolicyAdmin(PolicyBase):
    """How long a project's asks wait, and what happens then. Projects set their own under Permissions."""

    list_display = ["project", "timeout_minutes", "action"]
    list_select_related = ["project"]
