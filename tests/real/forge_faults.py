"""What a forge on loopback does wrong, for `ForgeServer.fault`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.real.forge_server import Handler


def status(code: int, body: Any = None, **headers: str) -> Callable[[Handler], None]:
    """An answer with this status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.send_json(code, body if body is not None else {"message": "Broken"}, named)


def html(handler: Handler) -> None:
    """A page instead of JSON, as a proxy that wants a login shows."""
    handler.send_text(200, "<!doctype html><title>Sign in</title>", {"Content-Type": "text/html"})


def hang(handler: Handler) -> None:
    """No answer until the test is over."""
    handler.forge.halt.wait(30)
    handler.close_connection = True


def drip(handler: Handler) -> None:
    """A byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    try:
        while not handler.forge.halt.wait(0.05):
            handler.wfile.write(b" ")
    except OSError:
        pass
    handler.close_connection = True


def huge(handler: Handler) -> None:
    """100 MB."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(100 * 1024 * 1024))
    handler.end_headers()
    try:
        for _ in range(1600):
            handler.wfile.write(b"x" * 65536)
    except OSError:
        pass
    handler.close_connection = True


def limited(handler: Handler) -> None:
    """A rate limit that ends in ten minutes from this request on, as forges tell it."""
    reset = str(int(time.time()) + 600)
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    handler.send_json(403, {"message": "API rate limit exceeded"}, headers)
