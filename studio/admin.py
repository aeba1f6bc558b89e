"""The admin of the studio's own rows: the feed and the login links are read-only, tokens can be revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest
from knox.models import AuthToken

from studio.admin_rows import ReadOnly
from studio.kernel.clock import now
from studio.models import FeedEvent, FeedHead, LoginLink

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:  # the class takes no parameters while it runs
    Base = admin.ModelAdmin


class ReadOnlyAdmin(ReadOnly, Base):
    """Rows that only the studio writes."""


@admin.register(FeedEvent)
class FeedEventAdmin(ReadOnlyAdmin):
    """What became true, in order."""

    list_display = ["at", "project_id", "seq", "kind", "topic"]
    list_filter = ["kind"]
    search_fields = ["topic", "project_id"]
    ordering = ["-pk"]
    show_full_result_count = False


@admin.register(FeedHead)
class FeedHeadAdmin(ReadOnlyAdmin):
    """The newest number of each project's feed."""

    list_display = ["project_id", "last_seq"]


@admin.register(LoginLink)
class LoginLinkAdmin(ReadOnlyAdmin):
    """Links that sign in once: for whom, and whether they were used. The links themselves are not kept."""

    list_display = ["user", "state", "created_at", "expires_at", "used_at"]
    list_select_related = ["user"]
    exclude = ["token_digest"]
    ordering = ["-created_at"]

    @admin.display(description="State")
    def state(self, link: LoginLink) -> str:
        """In a word."""
        if link.used_at is not None:
            return "used"
        return "expired" if link.expires_at <= now() else "open"


admin.site.unregister(AuthToken)  # knox's own page makes tokens and shows them; `manage.py token NAME` does that


@admin.register(AuthToken)
class TokenAdmin(Base):
    """API tokens: whose they are. Deleting one revokes it; only its digest was ever kept."""

    list_display = ["user", "token_key", "created", "expiry"]
    list_select_related = ["user"]
    search_fields = ["user__username", "token_key"]
    fields = readonly_fields = ("user", "token_key", "created", "expiry")
    ordering = ["-created"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tokens are made by `manage.py token NAME`, which shows them once."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A token cannot be given to somebody else."""
        return False
