"""Errors of services that a page did not handle itself become a page with the right status and the service's sentence."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from studio.kernel.errors import StudioError
from studio.kernel.pages import is_fragment, plain, status_of

TITLES = {
    400: "That cannot be accepted",
    403: "You may not do this",
    404: "There is nothing here",
    409: "That is not possible now",
}


class StudioErrors:
    """The REST API answers before this: only pages raise through to here."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """A page for the error, the bare sentence for a page's own script; None leaves anything unexpected to Django."""
        if not isinstance(error, StudioError):
            return None
        if is_fragment(request):
            return plain(error.message, status_of(error))
        context = {"title": TITLES.get(error.status, "The studio failed here"), "message": error.message}
        return render(request, "error.html", context, status=error.status)
