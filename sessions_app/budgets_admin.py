"""The operator's view of budgets, and of what was used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from sessions_app.models import Budget, BudgetHit, Usage
from studio.admin import ReadOnlyAdmin
from studio.queue import Names, enqueue

if TYPE_CHECKING:
    BudgetBase = admin.ModelAdmin[Budget]
else:  # the class takes no parameters while it runs
    BudgetBase = admin.ModelAdmin


@admin.register(Budget)
class BudgetAdmin(BudgetBase):
    """Budgets. Without a project one holds in each of them; turns that a change lets go, go on at once."""

    list_display = ["project", "scope", "metric", "amount", "action", "enabled", "created_at"]
    list_filter = ["scope", "metric", "action", "enabled", "project"]
    list_select_related = ["project"]
    ordering = ["project__name", "scope", "metric"]

    def save_model(self, request: HttpRequest, obj: Budget, form: Any, change: bool) -> None:
        """What was noted of another amount does not count for this one."""
        super().save_model(request, obj, form, change)
        if "amount" in form.changed_data:
            BudgetHit.objects.filter(budget=obj).delete()
        enqueue(Names.RECONSIDER_BUDGETS)

    def delete_model(self, request: HttpRequest, obj: Budget) -> None:
        """Turns that waited because of it go on."""
        super().delete_model(request, obj)
        enqueue(Names.RECONSIDER_BUDGETS)


@admin.register(BudgetHit)
class BudgetHitAdmin(ReadOnlyAdmin):
    """Which budgets were reached, by what, and what people have granted on top."""

    list_display = ["budget", "counted", "used", "allowance", "ask", "at"]
    list_filter = ["budget__scope", "budget__action", "budget__project"]
    list_select_related = ["budget", "ask"]
    search_fields = ["counted"]
    ordering = ["-at"]


@admin.register(Usage)
class UsageAdmin(ReadOnlyAdmin):
    """What each step of a model used."""

    list_display = [
        "at", "project", "session", "role", "model", "cost", "tokens_input", "tokens_output", "tokens_reasoning",
        "tokens_cached",
    ]  # fmt: skip
    list_filter = ["project", "role", "day"]
    list_select_related = ["project", "session"]
    list_per_page = 50
    search_fields = ["session__title", "model", "subject"]
    ordering = ["-pk"]
    show_full_result_count = False
