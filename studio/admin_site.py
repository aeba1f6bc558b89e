"""The admin's frame: the studio's name, its sign-in page, and a front page that says what is stuck."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from studio.operations import figures


class StudioAdminSite(AdminSite):
    """The default admin site."""

    site_header = site_title = "OpenCode Studio administration"
    index_title = "Operations"
    site_url = "/"
    index_template = "admin/studio_index.html"

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The front page, with the apps' figures above the list of models."""
        return super().index(request, {"figures": figures(), **(extra_context or {})})

    @method_decorator([login_not_required, never_cache])
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """There is one sign-in page, with one rate limit. Whoever is signed in already may not come in here."""
        if request.user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied
        target = request.GET.get("next") or reverse("admin:index", current_app=self.name)
        return redirect_to_login(target, login_url=reverse("login"))
