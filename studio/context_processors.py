"""What every page shows: the practice label, and the look that the person chose."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from agents.selectors import practice_active
from studio.kernel.clock import now

THEMES = ("light", "dark")


def page(request: HttpRequest) -> dict[str, Any]:
    """`practice`: scripted answers are in use (read only where a template asks); `theme`: from the cookie, or empty;
    `clock`: the server's time, from which the page counts."""
    theme = request.COOKIES.get("theme", "")
    return {
        "practice": SimpleLazyObject(practice_active),
        "theme": theme if theme in THEMES else "",
        "clock": int(now().timestamp()),
    }
