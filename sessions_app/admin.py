"""The operator's view of sessions: what is at work, what is overdue, and the buttons that repair it.

Everything is read-only: turns change through their services, the log is never edited.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from sessions_app import asks_admin as asks_admin  # registers its pages
from sessions_app import budgets_admin as budgets_admin
from sessions_app import inbox_admin as inbox_admin
from sessions_app.models import AgentSession, SessionEvent, StreamCount, Turn, TurnOutcome, TurnState
from sessions_app.services.abort import request_abort
from sessions_app.services.settle import STOPPED_BY_OPERATOR
from sessions_app.streams import HEARTBEAT, REASONS, TAKEN
from studio import operations
from studio.admin import ReadOnlyAdmin
from studio.kernel.clock import now
from studio.live_admin import LiveListMixin
from studio.operations import Figure
from studio.queue import Names, enqueue

if TYPE_CHECKING:
    TurnInlineBase = admin.TabularInline[Turn, AgentSession]
else:  # the class takes no parameters while it runs
    TurnInlineBase = admin.TabularInline

OVERDUE = timedelta(minutes=1)


class TurnInline(TurnInlineBase):
    """The turns of a session."""

    model = Turn
    fields = readonly_fields = (
        "number",
        "state",
        "outcome",
        "error_code",
        "steps",
        "attempts",
        "created_at",
        "settled_at",
    )
    ordering = ["number"]
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Turns are admitted by the board."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Turns change through their services."""
        return False


class TurnActions:
    """What an operator can do with turns; `turns` says which ones a selection means."""

    def turns(self, queryset: QuerySet[Any]) -> QuerySet[Turn]:
        """The turns of the selected rows that are not settled."""
        raise NotImplementedError

    @admin.action(description="Stop the turn")
    def stop(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Ask for the end of each turn; its task shows it as stopped."""
        self._each(
            request,
            queryset,
            lambda turn: request_abort(turn_id=turn.pk, reason=STOPPED_BY_OPERATOR),
            "is being stopped",
        )

    @admin.action(description="Reconcile with the agent server now")
    def reconcile_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Read what the agent server knows of each turn, as after a lost stream."""
        self._each(request, queryset, lambda turn: enqueue(Names.RECONCILE_TURN, turn.pk), "is being reconciled")

    @admin.action(description="Send again (requeue)")
    def requeue(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Ask for each turn's prompt to be sent; the same ids make a repeated prompt harmless."""
        self._each(request, queryset, lambda turn: enqueue(Names.DISPATCH_TURN, turn.pk), "is queued")

    def _each(self, request: HttpRequest, queryset: QuerySet[Any], do: Any, done: str) -> None:
        count = 0
        for turn in self.turns(queryset):
            do(turn)
            messages.success(request, f"{turn} {done}.")
            count += 1
        if not count:
            messages.warning(request, "Nothing to do: no selected turn is waiting or at work.")


@admin.register(AgentSession)
class AgentSessionAdmin(LiveListMixin, TurnActions, ReadOnlyAdmin):
    """Sessions with the state of their newest turn."""

    list_display = [
        "title", "project", "role", "server", "turn_state", "turn_error", "model", "cost", "last_seq", "created_at",
    ]  # fmt: skip
    list_filter = ["role", "server", "project"]
    list_select_related = ["project", "server"]
    list_per_page = 50
    search_fields = ["title", "external_id", "directory"]
    ordering = ["-created_at"]
    inlines = [TurnInline]
    actions = ["stop", "reconcile_now", "requeue"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AgentSession]:
        """The newest turn's state comes with each row."""
        newest = Turn.objects.filter(session=OuterRef("pk")).order_by("-number")
        sessions: QuerySet[AgentSession] = super().get_queryset(request)
        return sessions.annotate(
            newest_state=Subquery(newest.values("state")[:1]),
            newest_outcome=Subquery(newest.values("outcome")[:1]),
            newest_error=Subquery(newest.values("error_code")[:1]),
        )

    @admin.display(description="Turn", ordering="newest_state")
    def turn_state(self, session: Any) -> str:
        """The newest turn's state, or how it ended."""
        return session.newest_outcome or session.newest_state or "-"

    @admin.display(description="Error", ordering="newest_error")
    def turn_error(self, session: Any) -> str:
        """Why the newest turn failed."""
        return session.newest_error or ""

    def live_topics(self, rows: list[AgentSession]) -> set[str]:
        """The logs of the sessions that are shown, and the feeds in which new ones appear."""
        return {f"session:{row.pk}" for row in rows} | {f"project:{row.project_id}" for row in rows}

    def live_cursors(self, rows: list[AgentSession]) -> dict[str, int]:
        """Each session knows the end of its log."""
        return {f"session:{row.pk}": row.last_seq for row in rows}

    def turns(self, queryset: QuerySet[Any]) -> QuerySet[Turn]:
        """The turns at work in the selected sessions."""
        return Turn.objects.filter(session__in=queryset.values("pk")).exclude(state=TurnState.SETTLED)


@admin.register(Turn)
class TurnAdmin(LiveListMixin, TurnActions, ReadOnlyAdmin):
    """Turns with who holds them and when they are tried next."""

    list_display = [
        "session", "number", "state", "outcome", "error_code", "steps", "attempts", "resumes", "next_try_at",
        "last_event_at", "lease_owner", "created_at",
    ]  # fmt: skip
    list_filter = ["state", "outcome", "error_code", "unconfirmed", "session__server"]
    list_select_related = ["session"]
    list_per_page = 50
    search_fields = ["session__title", "message_id", "error_message"]
    ordering = ["-created_at"]
    actions = ["stop", "reconcile_now", "requeue"]

    def live_topics(self, rows: list[Turn]) -> set[str]:
        """The logs of the sessions that are shown, and the feeds in which new ones appear."""
        return {f"session:{row.session_id}" for row in rows} | {f"project:{row.session.project_id}" for row in rows}

    def live_cursors(self, rows: list[Turn]) -> dict[str, int]:
        """Each session knows the end of its log."""
        return {f"session:{row.session_id}": row.session.last_seq for row in rows}

    def turns(self, queryset: QuerySet[Any]) -> QuerySet[Turn]:
        """The selected turns that are not settled."""
        return queryset.exclude(state=TurnState.SETTLED)


@admin.register(SessionEvent)
class SessionEventAdmin(ReadOnlyAdmin):
    """The log, entry by entry."""

    list_display = ["at", "session_link", "seq", "kind"]
    list_filter = ["kind"]
    list_select_related = ["session"]
    search_fields = ["session__title", "upstream_key"]
    ordering = ["-pk"]
    show_full_result_count = False

    @admin.display(description="Session")
    def session_link(self, event: SessionEvent) -> str:
        """The session's own page in the admin."""
        url = reverse("admin:sessions_app_agentsession_change", args=[event.session_id])
        return format_html('<a href="{}">{}</a>', url, event.session)


@admin.register(StreamCount)
class StreamCountAdmin(ReadOnlyAdmin):
    """What each server's event stream carried, and what of it could not be used."""

    list_display = ["server", "reason", "meaning", "count", "last_at"]
    list_filter = ["server", "reason"]
    list_select_related = ["server"]

    @admin.display(description="Meaning")
    def meaning(self, row: StreamCount) -> str:
        """In words."""
        return REASONS.get(row.reason, "")


def stream_figures() -> Iterable[Figure]:
    """What the event streams carried that could not be used, in the last day."""
    url = reverse("admin:sessions_app_streamcount_changelist")
    rows = StreamCount.objects.filter(server__enabled=True, last_at__gte=now() - timedelta(days=1))
    problems = list(rows.exclude(reason__in=[TAKEN, HEARTBEAT]).select_related("server"))
    note = "; ".join(f"{row.server.name}: {row.count} {REASONS.get(row.reason, row.reason)}" for row in problems)
    yield Figure("Kinds of problems in the last day", len(problems), url, note=note)


operations.register("Event streams", stream_figures)


def turn_figures() -> Iterable[Figure]:
    """How the turns stand."""
    url = reverse("admin:sessions_app_turn_changelist")
    at = now()
    running = Turn.objects.filter(state__in=[TurnState.DISPATCHING, TurnState.RUNNING]).count()
    yield Figure("At work", running, f"{url}?state__exact={TurnState.RUNNING}")
    waiting = Turn.objects.filter(state=TurnState.ADMITTED)
    yield Figure("Waiting to be sent", waiting.count(), f"{url}?state__exact={TurnState.ADMITTED}")
    overdue = waiting.filter(created_at__lte=at - OVERDUE, next_try_at__isnull=True).count()
    overdue += waiting.filter(next_try_at__lte=at - OVERDUE).count()
    note = "No worker sends them: is the worker running?" if overdue else ""
    yield Figure("Overdue", overdue, f"{url}?state__exact={TurnState.ADMITTED}", alarm=overdue > 0, note=note)
    unconfirmed = Turn.objects.filter(unconfirmed=True, settled_at__lte=at - OVERDUE).count()
    note = "Their servers have not said yet that nothing of them runs." if unconfirmed else ""
    yield Figure("Stopped, not confirmed", unconfirmed, f"{url}?unconfirmed__exact=1", alarm=unconfirmed > 0, note=note)
    failed = Turn.objects.filter(outcome=TurnOutcome.FAILED, settled_at__gte=at - timedelta(days=1)).count()
    yield Figure("Failed in the last day", failed, f"{url}?outcome__exact={TurnOutcome.FAILED}")


operations.register("Turns", turn_figures)
