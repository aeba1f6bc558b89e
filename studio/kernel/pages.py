"""What the pages of all apps share: fragments for htmx, whole pages without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from studio.kernel.errors import StudioError

LARGEST = 2**31


def is_fragment(request: HttpRequest) -> bool:
    """Whether the page's own script asks: it gets the part that changes, everybody else a whole page."""
    return request.headers.get("HX-Request") == "true" and request.headers.get("HX-History-Restore-Request") != "true"


def status_of(error: StudioError) -> int:
    """The status under which a page says an error in its own words; what failed outside counts as a conflict."""
    return error.status if error.status < 500 else 409


def say(request: HttpRequest, error: StudioError) -> None:
    """Show the error's sentence on the page that is rendered next."""
    messages.error(request, error.message)


def number(request: HttpRequest, name: str) -> int | None:
    """A whole number from 0 in the page's query; None for anything else. Bounded, so that a database can take it."""
    value = request.GET.get(name, "")
    return min(int(value), LARGEST) if value.isdecimal() and len(value) < 20 else None


def pressed(request: HttpRequest, do: Callable[[], object], *, event: str, back: str, **named: Any) -> HttpResponse:
    """What a button answers: its page's script hears `event`, everybody else goes to the page `back`.

    What is refused is said in a sentence.
    """
    try:
        do()
    except StudioError as error:
        if is_fragment(request):
            return plain(error.message, status_of(error))
        say(request, error)
    if not is_fragment(request):
        page: HttpResponse = redirect(back, **named)
        return page
    return HttpResponse(status=204, headers={"HX-Trigger": event})


def plain(message: str, status: int) -> HttpResponse:
    """A sentence for the script, which shows it as it is."""
    return HttpResponse(message, status=status, content_type="text/plain; charset=utf-8")
