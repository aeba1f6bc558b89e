"""Pages of the studio itself: the way in."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.core.exceptions import NON_FIELD_ERRORS
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from studio.forms import TOO_MANY, SignInForm
from studio.login_links import find_link, use_link

BACKEND = "django.contrib.auth.backends.ModelBackend"


def home(request: HttpRequest) -> HttpResponse:
    """The address people type: the projects."""
    return redirect("projects")


class SignIn(LoginView):
    """The password form."""

    template_name = "studio/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """The form again; its status says when it was too much."""
        response = super().form_invalid(form)
        if form.has_error(NON_FIELD_ERRORS, TOO_MANY):
            response.status_code = 429
        return response


@method_decorator([login_not_required, never_cache], name="dispatch")
class SignInByLink(View):
    """A one-time link. Opening it only shows a button, so that whoever prefetches links does not use it up."""

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        """The button, or why the link does not work any more."""
        return self._page(request, token)

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        """Sign in and use the link up."""
        user: Any = use_link(token)
        if user is None:
            return self._page(request, token)
        login(request, user, backend=BACKEND)
        return redirect("projects")

    def _page(self, request: HttpRequest, token: str) -> HttpResponse:
        link = find_link(token)
        return render(request, "studio/login_link.html", {"link": link}, status=200 if link else 410)
