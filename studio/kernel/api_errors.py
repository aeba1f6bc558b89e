"""The one envelope of every error that the REST API answers: `{"error": {"code", "message", "detail", "allowed"?}}`.

`message` is a sentence for people, `code` and `detail` are for programs. `allowed` is there when the state refused an
action: what it does allow.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from studio.kernel.errors import Conflict, StudioError
from studio.kernel.text import clean, cut

log = structlog.get_logger(__name__)

MESSAGE_LIMIT = 2_000  # characters; what people sent may be repeated in it
FIELDS_LIMIT = 50

# What the framework refuses by itself: code and sentence by status. Every message of ours comes from the services.
FRAMEWORK: dict[int, tuple[str, str]] = {
    401: ("not_authenticated", "Sign in, or send a token as “Authorization: Bearer TOKEN”."),
    403: ("forbidden", "You may not do this."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take that method."),
    406: ("not_acceptable", "The API answers in JSON: accept application/json."),
    413: ("too_large", "The request is larger than the studio accepts."),
    415: ("unsupported_media_type", "Send JSON, with “Content-Type: application/json”."),
    429: ("throttled", "Too many requests: wait a moment."),
    500: ("internal_error", "The studio failed here. The error is in its log; nothing was half done."),
}


class ErrorBody(TypedDict):
    """What stands under `error`."""

    code: str
    message: str
    detail: dict[str, Any]
    allowed: NotRequired[list[str]]


class Envelope(TypedDict):
    """An error as it leaves the process."""

    error: ErrorBody


class TooLarge(exceptions.APIException):
    """The request's body is longer than the limit."""

    status_code = 413
    default_code, default_detail = FRAMEWORK[413]


def envelope(
    code: str, message: str, detail: dict[str, Any] | None = None, allowed: list[str] | None = None
) -> Envelope:
    """The envelope; texts are cleaned, because they may repeat what somebody sent."""
    body: ErrorBody = {"code": code, "message": cut(clean(message), MESSAGE_LIMIT), "detail": _cleaned(detail or {})}
    if allowed is not None:
        body["allowed"] = allowed
    return {"error": body}


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Django REST framework's exception handler. None, for what nobody foresaw, leaves it to Django's `handler500`."""
    if isinstance(error, StudioError):
        allowed = error.allowed if isinstance(error, Conflict) else None
        if error.status >= 500:
            log.warning("api_error", code=error.code, error=error.message)
        return Response(envelope(error.code, error.message, error.detail, allowed), status=error.status)
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    elif isinstance(error, RequestDataTooBig):
        error = TooLarge()
    elif isinstance(error, SuspiciousOperation):
        error = exceptions.ParseError("The request is not well-formed.")
    return _from_framework(error) if isinstance(error, exceptions.APIException) else None


def json_error(request: HttpRequest, status: int) -> JsonResponse:
    """The envelope for an error that ended outside a view, such as an unforeseen one."""
    code, message = FRAMEWORK[status]
    return JsonResponse(envelope(code, message), status=status)


def _from_framework(error: exceptions.APIException) -> Response:
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = str(error.auth_header)  # type: ignore[attr-defined]  # set by the view
    detail: dict[str, Any] = {}
    if isinstance(error, exceptions.ValidationError):
        code = "invalid"
        message, detail = _validation(error.detail)
    elif isinstance(error, exceptions.ParseError):
        code, message = "malformed", f"The body could not be read: {error.detail}"
    elif isinstance(error, exceptions.AuthenticationFailed):
        code, message = "authentication_failed", f"The token was refused: {error.detail}"
    else:
        code, message = FRAMEWORK.get(error.status_code, (str(error.get_codes()), str(error.detail)))
        if isinstance(error, exceptions.PermissionDenied) and str(error.detail).startswith("CSRF"):
            code, message = "csrf_failed", f"{error.detail} Send the page's token in the header X-CSRFToken."
        elif isinstance(error, exceptions.Throttled):
            wait = round(getattr(error, "wait", None) or 1)
            headers["Retry-After"] = str(wait)
            detail = {"wait": wait}
    return Response(envelope(code, message, detail), status=error.status_code, headers=headers)


def _validation(raised: Any) -> tuple[str, dict[str, Any]]:
    """The first complaint as a sentence, and all of them by field."""
    fields: dict[str, list[str]] = {}
    _collect(raised, "", fields)
    name, complaints = next(iter(fields.items()), ("", ["The input cannot be accepted."]))
    if not name:
        return complaints[0], {"fields": fields} if len(fields) > 1 else {}
    return f"“{name}”: {complaints[0]}", {"field": name, "fields": fields}


def _collect(raised: Any, path: str, fields: dict[str, list[str]]) -> None:
    """Flatten the framework's nested complaints into `a.0.b` -> sentences."""
    if len(fields) >= FIELDS_LIMIT:
        return
    if isinstance(raised, dict):
        for name, inner in raised.items():
            below = path if name == "non_field_errors" else f"{path}.{name}".strip(".")
            _collect(inner, below, fields)
    elif isinstance(raised, list):
        for index, inner in enumerate(raised):
            _collect(inner, f"{path}.{index}".strip(".") if isinstance(inner, dict) else path, fields)
    else:
        fields.setdefault(path, []).append(str(raised))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return cut(clean(value), MESSAGE_LIMIT)
    if isinstance(value, dict):
        return {_cleaned(str(key)): _cleaned(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(inner) for inner in value]
    return value
