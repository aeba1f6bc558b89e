"""What every page shows: what is to be said about the agent servers, and the look that the person chose."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from agents.selectors import server_notice
from studio.kernel.clock import now

THEMES = ("light", "dark")


def page(request: HttpRequest) -> dict[str, Any]:
    """`server_notice`: what to say about the agent servers (read only where a template asks); `theme`: from the cookie, or empty;
    `clock`: the server's time, from which the page counts."""
    theme = request.COOKIES.get("theme", "")
    return {
        "server_notice": SimpleLazyObject(server_notice),
        "theme": theme if theme in THEMES else "",
        "clock": int(now().timestamp()),
    }
