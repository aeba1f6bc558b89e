"""What the admin's lists share: rows that nobody writes by hand, and an action over the chosen ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from studio.kernel.errors import StudioError


class ReadOnly:
    """Rows that are written by services only and are never deleted by hand; for lists and for what stands inside a row."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds them by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes them by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes them by hand."""
        return False


def for_each(
    model_admin: admin.ModelAdmin[Any],
    request: HttpRequest,
    rows: QuerySet[Any],
    do: Callable[[Any], object],
    done: str,
) -> None:
    """Do something with each row, and say of each how it went."""
    for row in rows:
        try:
            do(row)
        except StudioError as error:
            model_admin.message_user(request, f"{row}: {error.message}", messages.ERROR)
        else:
            model_admin.message_user(request, f"{row}: {done}.", messages.SUCCESS)
