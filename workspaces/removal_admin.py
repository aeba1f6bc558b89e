"""The operator's removal of checkouts: what would go with each is shown first, and exactly that is confirmed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from studio.admin_rows import for_each
from workspaces.models import Workspace, WorkspaceState
from workspaces.services import leaving_of, remove_confirmed
from workspaces.storage_views import CheckoutView

MOST = 10  # checkouts that are looked at for one page: each may take seconds


def remove_workspaces(
    model_admin: admin.ModelAdmin[Workspace], request: HttpRequest, chosen: QuerySet[Workspace]
) -> HttpResponse | None:
    """The page that asks; with the answer None, and each is being removed or it is said why not."""
    rows = chosen.select_related("project").exclude(state=WorkspaceState.REMOVED)
    if rows.count() > MOST:
        words = f"At most {MOST} checkouts are removed at once, because each is looked at before. Choose fewer."
        model_admin.message_user(request, words, messages.ERROR)
        return None
    if not rows:
        model_admin.message_user(request, "What you chose has been removed already.", messages.WARNING)
        return None
    if request.POST.get("post"):
        for_each(
            model_admin,
            request,
            rows,
            lambda row: remove_confirmed(row, request.POST.get(f"confirm-{row.pk}", "")),
            "is being removed",
        )
        return None
    return _ask(model_admin, request, list(rows))


def _ask(model_admin: admin.ModelAdmin[Workspace], request: HttpRequest, rows: list[Workspace]) -> HttpResponse:
    context: dict[str, Any] = {
        **model_admin.admin_site.each_context(request),
        "title": f"Remove {len(rows)} checkout{'' if len(rows) == 1 else 's'}?",
        "opts": model_admin.opts,
        "media": model_admin.media,
        "checkbox": ACTION_CHECKBOX_NAME,
        "leaving": [(row, leaving_of(row), CheckoutView(row, None)) for row in rows],
    }
    return TemplateResponse(request, "admin/remove_workspaces.html", context)
