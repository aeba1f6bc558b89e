"""The ASGI entry: Django over HTTP, the live feed over WebSocket, the agents' tools under /mcp."""

from __future__ import annotations

import os
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import get_resolver, path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")

django_application = get_asgi_application()

from studio.consumers import FeedConsumer  # noqa: E402 -- models may be imported only after Django is set up
from studio.kernel.memory import settle  # noqa: E402
from studio.websocket_auth import TokenOr  # noqa: E402
from tasks.mcp import mcp_app  # noqa: E402

tools_application = mcp_app()


async def http_application(scope: Any, receive: Any, send: Any) -> None:
    """HTTP by path: the MCP endpoint has its own authentication and protocol."""
    chosen: Any = tools_application if scope["path"].rstrip("/") == "/mcp" else django_application
    await chosen(scope, receive, send)


# Channels routes ASGI applications with Django's `path`, which is typed for views.
feed: Any = FeedConsumer.as_asgi()
routes: Any = [path("ws/feed/", feed)]
websocket_application = URLRouter(routes)

application = ProtocolTypeRouter(
    {
        "http": http_application,
        "websocket": TokenOr(
            websocket_application, AllowedHostsOriginValidator(AuthMiddlewareStack(websocket_application))
        ),
    }
)

get_resolver().url_patterns  # noqa: B018 -- pages and API are loaded by the first look; not by the first request
settle()
