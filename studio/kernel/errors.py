"""The errors that a service raises. Adapters turn them into one envelope; nothing else decides a status code."""

from __future__ import annotations

from typing import Any


class StudioError(Exception):
    """An error with a stable code, a sentence for the person, and details for a program."""

    code = "error"
    status = 500

    def __init__(self, message: str, *, code: str | None = None, detail: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.detail = detail or {}


class Invalid(StudioError):
    """The input cannot be accepted; `detail` may name the field."""

    code = "invalid"
    status = 400


class Forbidden(StudioError):
    """The person is known but may not do this."""

    code = "forbidden"
    status = 403


class NotFound(StudioError):
    """The thing does not exist, or the person may not know that it does."""

    code = "not_found"
    status = 404


class Conflict(StudioError):
    """The state does not allow it now; `allowed` lists the actions that it does allow."""

    code = "conflict"
    status = 409

    def __init__(
        self,
        message: str,
        *,
        allowed: list[str] | None = None,
        code: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code=code, detail=detail)
        self.allowed = allowed


class TooMany(StudioError):
    """The account has as much of it as it may have at once."""

    code = "too_many"
    status = 429


class Upstream(StudioError):
    """Something outside (agent server, version control, broker) failed; `transient` says whether a retry can help."""

    code = "upstream"
    status = 502

    def __init__(
        self, message: str, *, code: str | None = None, detail: dict[str, Any] | None = None, transient: bool = False
    ) -> None:
        super().__init__(message, code=code, detail=detail)
        self.transient = transient
