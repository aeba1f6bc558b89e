"""The operator's view of messages to agents, and of the sub-agents below a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from sessions_app.models import InboxItem, SubSession
from sessions_app.services import inbox
from studio.admin import ReadOnlyAdmin
from studio.kernel.errors import StudioError
from studio.kernel.text import cut

SHOWN = 80  # characters of a message in the list


@admin.register(InboxItem)
class InboxItemAdmin(ReadOnlyAdmin):
    """Messages: what waits, what is on its way, what was delivered. They change through the inbox's services only."""

    list_display = ["beginning", "session", "delivery", "state", "author_name", "turn", "next_try_at", "created_at"]
    list_filter = ["state", "delivery", "session__project"]
    list_select_related = ["session", "turn"]
    list_per_page = 50
    search_fields = ["text", "author_name", "session__title"]
    ordering = ["-created_at"]
    actions = ["take_back", "send_now"]

    @admin.display(description="Message")
    def beginning(self, item: InboxItem) -> str:
        """The message's first words."""
        return cut(" ".join(item.text.split()), SHOWN)

    @admin.action(description="Take back (what waits is never sent)")
    def take_back(self, request: HttpRequest, queryset: QuerySet[InboxItem]) -> None:
        """Remove what still waits."""
        self._each(request, queryset, inbox.remove, "is taken back")

    @admin.action(description="Send now (before everything else that waits)")
    def send_now(self, request: HttpRequest, queryset: QuerySet[InboxItem]) -> None:
        """Let it steer the running turn, or open the next one."""
        self._each(request, queryset, inbox.send_now, "goes out next")

    def _each(self, request: HttpRequest, queryset: QuerySet[InboxItem], do: Callable[..., Any], done: str) -> None:
        for item in queryset:
            try:
                do(item_id=item.pk, actor=request.user)
            except StudioError as error:
                messages.error(request, f"{item}: {error.message}")
            else:
                messages.success(request, f"{item} {done}.")


@admin.register(SubSession)
class SubSessionAdmin(ReadOnlyAdmin):
    """Sub-agents' sessions on the server."""

    list_display = ["__str__", "session", "external_id", "upstream_seq", "created_at"]
    list_select_related = ["session"]
    list_per_page = 50
    search_fields = ["title", "external_id", "session__title"]
    ordering = ["-created_at"]
