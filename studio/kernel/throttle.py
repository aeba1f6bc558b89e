"""Rate limits in a shared cache. A cache that is down limits nobody: the studio keeps working, and the log says so."""

from __future__ import annotations

import time
from typing import Any

import structlog
from django.core.cache import cache
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle

log = structlog.get_logger(__name__)


def count(name: str, *, seconds: int) -> int | None:
    """Count one more of `name` in the present window of `seconds` and return how many there are; None when the cache is
    down.

    One small counter for each window: the framework's own list of time stamps would be read and written as a whole with
    each request, and two requests at once would lose one of them.
    """
    key = _key(name, seconds)
    try:
        return _increment(key, 2 * seconds)
    except Exception as error:  # noqa: BLE001 -- whatever the cache's client raises
        log.warning("throttle_cache_down", error=str(error))
        return None


def counted(name: str, *, seconds: int) -> int:
    """How many of `name` there were in the present window; 0 when the cache is down."""
    try:
        return int(cache.get(_key(name, seconds), 0))
    except Exception as error:  # noqa: BLE001 -- whatever the cache's client raises
        log.warning("throttle_cache_down", error=str(error))
        return 0


def address_of(request: HttpRequest | None) -> str:
    """Whom to count for when nobody is signed in. Forwarding headers are not believed: anybody can send them."""
    return str(request.META.get("REMOTE_ADDR", "")) if request is not None else ""


def _increment(key: str, timeout: int) -> int:
    try:
        return int(cache.incr(key))
    except ValueError:  # it is the first of its window, or another request is just now the first
        return 1 if cache.add(key, 1, timeout=timeout) else int(cache.incr(key))


def _key(name: str, seconds: int) -> str:
    return f"rate:{name}:{seconds}:{int(time.time() // seconds)}"


class AccountThrottle(UserRateThrottle):
    """At most REST_FRAMEWORK's rate `user` of requests for each account, or for each address without one."""

    num_requests: int | None
    duration: int | None

    def allow_request(self, request: Request, view: Any) -> bool:
        """Whether this request is within the rate."""
        if self.rate is None or self.num_requests is None or self.duration is None:
            return True
        account = request.user.pk if request.user and request.user.is_authenticated else None
        name = f"account:{account}" if account is not None else f"address:{address_of(request._request)}"
        number = count(name, seconds=self.duration)
        return number is None or number <= self.num_requests

    def wait(self) -> float | None:
        """Seconds until the next window."""
        if self.duration is None:
            return None
        return max(1.0, self.duration - time.time() % self.duration)
