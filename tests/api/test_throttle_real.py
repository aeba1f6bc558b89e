"""The rate limits on a real Valkey: shared between processes, and no obstacle while it is away."""

from __future__ import annotations

import pytest
from django.core.cache import caches
from django.test import override_settings

from studio.env import broker_urls, cache_url
from studio.kernel import throttle
from studio.kernel.ids import new_id
from tests.real.valkey import ValkeyServer

pytestmark = pytest.mark.real


@pytest.fixture
def server():
    """A Valkey of this test's own, because the test kills it."""
    running = ValkeyServer()
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def shared_cache(server, monkeypatch):
    """The settings' cache, on that server."""
    options = {"socket_timeout": 1, "socket_connect_timeout": 1}
    backend = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": cache_url(server.url.replace("/0", "/1")),
        "OPTIONS": options,
    }
    with override_settings(CACHES={"default": backend}):
        monkeypatch.setattr(throttle, "cache", caches["default"])
        yield caches["default"]


def test_count__is_shared_ends_by_itself_and_does_not_need_the_server(server, shared_cache):
    name = str(new_id())
    assert [throttle.count(name, seconds=3600) for _ in range(3)] == [1, 2, 3]
    assert throttle.counted(name, seconds=3600) == 3
    client = shared_cache._cache.get_client(write=True)
    (key,) = client.keys("*")
    assert 0 < client.ttl(key) <= 7200
    server.kill()
    assert throttle.count(name, seconds=3600) is None
    assert throttle.counted(name, seconds=3600) == 0
    server.start()
    assert throttle.count(name, seconds=3600) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("redis://host:6379/0", "redis://host:6379/2"),
        ("redis://:secret@host:6379", "redis://:secret@host:6379/2"),
    ],
)
def test_cache_url__is_the_next_database_of_the_same_server(given, expected, monkeypatch, tmp_path):
    monkeypatch.setenv("REDIS_URL", given)
    assert cache_url(broker_urls(tmp_path)[1]) == expected


def test_cache_url__of_the_embedded_server(monkeypatch, tmp_path):
    monkeypatch.delenv("REDIS_URL", raising=False)
    channels = broker_urls(tmp_path)[1]
    assert cache_url(channels) == channels.replace("?db=1", "?db=2") != channels
