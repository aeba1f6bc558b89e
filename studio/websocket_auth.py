"""WebSocket authentication for programs: a bearer token instead of the browser's cookie.

A request with an Authorization header cannot come from a page of another site (browsers cannot set it), so it needs no
Origin. Everything else goes the browser's way: allowed origin, then the session cookie.
"""

from __future__ import annotations

from typing import Any

from channels.db import database_sync_to_async
from django.contrib.auth.models import AnonymousUser
from rest_framework.exceptions import AuthenticationFailed

from studio.kernel.api_input import BearerAuthentication


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
        user, token = await account_of(header)
        await self.application({**scope, "user": user, "token": token}, receive, send)


@database_sync_to_async
def account_of(header: bytes) -> tuple[Any, str]:
    """The account of `Bearer TOKEN` and the token's digest, by the rules of the REST API; else the anonymous one."""
    words = header.split()
    if len(words) != 2 or words[0].lower() != b"bearer":
        return AnonymousUser(), ""
    try:
        user, token = BearerAuthentication().authenticate_credentials(words[1])
    except AuthenticationFailed:
        return AnonymousUser(), ""
    return user, token.digest
