"""WebSocket authentication for programs: a bearer token instead of the browser's cookie.

A request with an Authorization header cannot come from a page of another site (browsers cannot set it), so it needs no
Origin. Everything else goes the browser's way: allowed origin, then the session cookie.
"""

from __future__ import annotations

from typing import Any

from channels.db import database_sync_to_async
from django.contrib.auth.models import AnonymousUser
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed


class TokenOr:
    """Sends connections with a bearer token to `application`, all others to `otherwise`."""

    def __init__(self, application: Any, otherwise: Any) -> None:
        self.application = application
        self.otherwise = otherwise

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        header = dict(scope["headers"]).get(b"authorization")
        if header is None:
            await self.otherwise(scope, receive, send)
            return
        await self.application({**scope, "user": await user_of(header)}, receive, send)


@database_sync_to_async
def user_of(header: bytes) -> Any:
    """The account of `Bearer TOKEN`, or the anonymous one."""
    scheme, _, token = header.partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        return AnonymousUser()
    try:
        authentication: Any = TokenAuthentication()
        user, _ = authentication.authenticate_credentials(token.strip())
    except AuthenticationFailed:
        return AnonymousUser()
    return user
