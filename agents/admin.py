"""The operator's view of servers, models and profiles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse

from agents.models import AgentProfile, AgentServer, ModelCatalog, ServerState
from agents.services import note_profile_change, sync_server
from studio import operations
from studio.kernel.secretbox import seal
from studio.kernel.text import cut
from studio.operations import Figure

if TYPE_CHECKING:
    ServerFormBase = forms.ModelForm[AgentServer]
    ModelInlineBase = admin.TabularInline[ModelCatalog, AgentServer]
    ServerAdminBase = admin.ModelAdmin[AgentServer]
    ProfileAdminBase = admin.ModelAdmin[AgentProfile]
else:  # these classes take no parameters while they run
    ServerFormBase = forms.ModelForm
    ModelInlineBase = admin.TabularInline
    ServerAdminBase = ProfileAdminBase = admin.ModelAdmin


class ServerForm(ServerFormBase):
    """A server, with a password that can be set but is never shown."""

    password = forms.CharField(
        widget=forms.PasswordInput, required=False, help_text="Leave empty to keep the present one."
    )

    class Meta:
        model = AgentServer
        fields = ["name", "enabled", "url", "username", "max_parallel_runs"]

    def save(self, commit: bool = True) -> AgentServer:
        """Seal a password that was given."""
        if self.cleaned_data.get("password"):
            self.instance.sealed_password = seal(self.cleaned_data["password"])
        server: AgentServer = super().save(commit=commit)
        return server


class ModelInline(ModelInlineBase):
    """The models of a server, as last read from it."""

    model = ModelCatalog
    fields = ("provider", "model", "name", "context_limit", "output_limit", "usable", "seen_at")
    readonly_fields = fields
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: AgentServer | None = None) -> bool:
        """Models come from the server only."""
        return False


@admin.register(AgentServer)
class AgentServerAdmin(ServerAdminBase):
    """What each server is doing, why it is down, and the button that asks it again."""

    form = ServerForm
    list_display = ["name", "state", "managed", "enabled", "practice", "version", "default_model", "seen_at", "error"]
    list_filter = ["state", "enabled", "managed"]
    readonly_fields = [
        "managed", "state", "error", "version", "practice", "default_model", "boot", "seen_at", "lease_owner",
        "lease_until",
    ]  # fmt: skip
    inlines = [ModelInline]
    actions = ["sync_now"]

    @admin.action(description="Ask the server now")
    def sync_now(self, request: HttpRequest, queryset: QuerySet[AgentServer]) -> None:
        """Bring the chosen servers up to date and say how it went."""
        for server in queryset:
            ready = sync_server(server.pk)
            server.refresh_from_db()
            text = f"{server.name}: {server.state}{f', {server.error}' if server.error else ''}"
            self.message_user(request, text, messages.SUCCESS if ready else messages.WARNING)

    def save_model(self, request: HttpRequest, obj: AgentServer, form: Any, change: bool) -> None:
        """A server that is added here is one that somebody else runs."""
        if not change:
            obj.managed = False
        super().save_model(request, obj, form, change)


@admin.register(AgentProfile)
class AgentProfileAdmin(ProfileAdminBase):
    """How each role is run."""

    list_display = ["name", "role", "is_default", "agent", "model", "max_steps", "wall_seconds", "idle_seconds"]
    list_filter = ["role"]
    readonly_fields = ["version"]

    def save_model(self, request: HttpRequest, obj: AgentProfile, form: Any, change: bool) -> None:
        """Each change is a new version."""
        super().save_model(request, obj, form, change)
        if change:
            note_profile_change(obj)


def server_figures() -> Iterable[Figure]:
    """Which servers answer."""
    url = reverse("admin:agents_agentserver_changelist")
    servers = list(AgentServer.objects.filter(enabled=True).order_by("name"))
    ready = [server for server in servers if server.state == ServerState.READY]
    yield Figure("Ready", len(ready), f"{url}?state__exact={ServerState.READY}", alarm=not ready)
    down = [server for server in servers if server.state == ServerState.DOWN]
    note = cut("; ".join(f"{server.name}: {server.error}" for server in down), 300)
    yield Figure("Down", len(down), f"{url}?state__exact={ServerState.DOWN}", alarm=bool(down), note=note)


operations.register("Agent servers", server_figures)
