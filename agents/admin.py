"""The operator's view of servers, models and profiles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse

from agents.models import AgentProfile, AgentServer, LoadedDirectory, ModelCatalog, ServerState
from agents.services import EXTERNAL_NAME, checked_authority, checked_url, is_own, note_profile_change, sync_server
from agents.supervision import MANAGED_NAME
from studio import operations
from studio.kernel.errors import Invalid
from studio.kernel.secretbox import seal
from studio.kernel.text import cut
from studio.operations import Figure
from studio.queue import Names, enqueue

if TYPE_CHECKING:
    ServerFormBase = forms.ModelForm[AgentServer]
    ModelInlineBase = admin.TabularInline[ModelCatalog, AgentServer]
    DirectoryInlineBase = admin.TabularInline[LoadedDirectory, AgentServer]
    ServerAdminBase = admin.ModelAdmin[AgentServer]
    ProfileAdminBase = admin.ModelAdmin[AgentProfile]
else:  # these classes take no parameters while they run
    ServerFormBase = forms.ModelForm
    ModelInlineBase = DirectoryInlineBase = admin.TabularInline
    ServerAdminBase = ProfileAdminBase = admin.ModelAdmin


KNOWN = (
    "managed", "state", "trouble", "error", "version", "practice", "default_model", "memory_mb", "started_at", "crashes",
    "crash", "crashed_at", "next_start_at", "recycled_at", "boot", "seen_at", "lease_owner", "lease_until",
)  # fmt: skip


class ServerForm(ServerFormBase):
    """A server that somebody else runs, with a password that can be set but is never shown."""

    password = forms.CharField(
        widget=forms.PasswordInput,
        required=False,
        strip=False,
        help_text="Its OPENCODE_SERVER_PASSWORD. It is never shown; leave empty to keep the present one.",
    )

    class Meta:
        model = AgentServer
        fields = ["name", "enabled", "url", "username", "ca_pem", "max_parallel_runs"]
        widgets = {"ca_pem": forms.Textarea(attrs={"rows": 6, "spellcheck": "false"})}

    def clean_name(self) -> str:
        """The studio's own servers have names of their own."""
        name: str = self.cleaned_data["name"]
        if name in (MANAGED_NAME, EXTERNAL_NAME) and name != self.instance.name:
            raise forms.ValidationError(f"“{name}” is the studio's own name for a server; choose another one.")
        return name

    def clean_url(self) -> str:
        """An address of a server, and nothing besides."""
        try:
            return checked_url(self.cleaned_data["url"])
        except Invalid as error:
            raise forms.ValidationError(error.message) from error

    def clean_ca_pem(self) -> str:
        """Certificates, if anything."""
        try:
            return checked_authority(self.cleaned_data["ca_pem"])
        except Invalid as error:
            raise forms.ValidationError(error.message) from error

    def save(self, commit: bool = True) -> AgentServer:
        """Seal a password that was given."""
        if self.cleaned_data.get("password"):
            self.instance.sealed_password = seal(self.cleaned_data["password"])
        server: AgentServer = super().save(commit=commit)
        return server


class OwnServerForm(ServerFormBase):
    """A server that the studio starts, or that the environment names: only its use is a person's to decide."""

    class Meta:
        model = AgentServer
        fields = ["max_parallel_runs"]


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


class DirectoryInline(DirectoryInlineBase):
    """What a server keeps in memory."""

    model = LoadedDirectory
    fields = ("directory", "used_at", "leaving_at")
    readonly_fields = fields
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: AgentServer | None = None) -> bool:
        """The studio notes them."""
        return False


@admin.register(AgentServer)
class AgentServerAdmin(ServerAdminBase):
    """What each server is doing, why it is down, and the button that asks it again."""

    form = ServerForm
    list_display = [
        "name", "state", "managed", "enabled", "practice", "version", "default_model", "memory_mb", "crashes", "seen_at",
        "error",
    ]  # fmt: skip
    list_filter = ["state", "trouble", "enabled", "managed"]
    inlines = [ModelInline, DirectoryInline]
    actions = ["sync_now"]

    def get_form(
        self, request: HttpRequest, obj: AgentServer | None = None, change: bool = False, **kwargs: Any
    ) -> type[ServerFormBase]:
        """Where a server is can be changed only where nobody else decides it."""
        kwargs["form"] = OwnServerForm if obj and is_own(obj) else ServerForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: AgentServer | None = None) -> tuple[str, ...]:
        """What is known of it; of the studio's own ones where they are, too."""
        if obj is None:
            return ()
        return (*(("name", "enabled", "url", "username") if is_own(obj) else ()), *KNOWN)

    @admin.action(description="Ask the server now")
    def sync_now(self, request: HttpRequest, queryset: QuerySet[AgentServer]) -> None:
        """Bring the chosen servers up to date and say how it went."""
        for server in queryset:
            ready = sync_server(server.pk)
            server.refresh_from_db()
            text = f"{server.name}: {server.state}{f', {server.error}' if server.error else ''}"
            self.message_user(request, text, messages.SUCCESS if ready else messages.WARNING)

    def save_model(self, request: HttpRequest, obj: AgentServer, form: Any, change: bool) -> None:
        """A server that is added here is one that somebody else runs. It is asked at once."""
        if not change:
            obj.managed = False
        super().save_model(request, obj, form, change)
        enqueue(Names.SYNC_SERVERS)

    def has_delete_permission(self, request: HttpRequest, obj: AgentServer | None = None) -> bool:
        """The studio would make its own ones again."""
        return super().has_delete_permission(request, obj) and not (obj and is_own(obj))


@admin.register(AgentProfile)
class AgentProfileAdmin(ProfileAdminBase):
    """How each role is run."""

    list_display = [
        "name",
        "role",
        "is_default",
        "agent",
        "model",
        "continue_session",
        "max_steps",
        "wall_seconds",
        "idle_seconds",
    ]
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
