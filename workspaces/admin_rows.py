"""What the admin's lists of this app share."""

from __future__ import annotations

from django.http import HttpRequest

from studio import admin_rows


class ReadOnly(admin_rows.ReadOnly):
    """Rows that nobody writes by hand, with buttons."""

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Who may only look at the rows may not press the buttons."""
        return bool(getattr(request.user, "is_superuser", False))
