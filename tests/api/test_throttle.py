"""Rate limits: for each account its own, and none when the cache is down."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.test import RequestFactory

from studio.kernel import throttle
from studio.kernel.throttle import AccountThrottle
from tests.api.conftest import error_of, token_client

TASKS = "/api/v1/tasks"


@pytest.fixture
def two_a_minute(monkeypatch):
    monkeypatch.setattr(AccountThrottle, "rate", "2/min", raising=False)


def test_requests_beyond_the_rate__are_429_for_that_account_only(owner, member, two_a_minute, time_machine_at):
    client, other = token_client(owner), token_client(member)
    assert [client.get(TASKS).status_code for _ in range(2)] == [200, 200]
    response = client.get(TASKS)
    error = error_of(response, 429, "throttled")
    assert 1 <= int(response["Retry-After"]) <= 60
    assert error["detail"]["wait"] >= 1
    assert other.get(TASKS).status_code == 200


def test_rate__counts_anew_in_the_next_window(owner, two_a_minute, time_machine_at):
    client = token_client(owner)
    for _ in range(3):
        response = client.get(TASKS)
    assert response.status_code == 429
    time_machine_at.shift(60)
    assert client.get(TASKS).status_code == 200


@pytest.fixture
def time_machine_at():
    import time_machine

    with time_machine.travel("2026-01-01T00:00:10Z", tick=False) as traveller:
        yield traveller


class BrokenCache:
    """A cache whose server is away."""

    def __getattr__(self, name):
        def fail(*_, **__):
            raise ConnectionError("The cache is away.")

        return fail


def test_cache_that_is_down__limits_nobody(owner, two_a_minute, monkeypatch):
    monkeypatch.setattr(throttle, "cache", BrokenCache())
    client = token_client(owner)
    assert [client.get(TASKS).status_code for _ in range(5)] == [200] * 5
    assert throttle.counted("x", seconds=60) == 0


def test_count__is_kept_by_name_and_window(time_machine_at):
    assert [throttle.count("a", seconds=60), throttle.count("a", seconds=60), throttle.count("b", seconds=60)] == [
        1,
        2,
        1,
    ]
    assert throttle.counted("a", seconds=60) == 2
    assert throttle.counted("c", seconds=60) == 0
    cache.clear()
    assert throttle.counted("a", seconds=60) == 0


def test_address__does_not_believe_forwarding_headers():
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR="203.0.113.9")
    assert throttle.address_of(request) == "192.0.2.1"


# ---- signing in


def sign_in(client, password: str, **more):
    """Try to sign in."""
    return client.post("/login/", {"username": "owner", "password": password}, **more)


def test_sign_in__wrong_passwords_are_limited_for_their_address(client, owner, time_machine_at):
    assert [sign_in(client, "wrong").status_code for _ in range(10)] == [200] * 10
    response = sign_in(client, "owner-password")
    assert response.status_code == 429
    assert "Wait a minute" in response.content.decode()
    assert "_auth_user_id" not in client.session
    elsewhere = sign_in(client, "owner-password", REMOTE_ADDR="192.0.2.7")
    assert elsewhere.status_code == 302


def test_sign_in__is_possible_again_in_the_next_minute(client, owner, time_machine_at):
    for _ in range(11):
        sign_in(client, "wrong")
    time_machine_at.shift(60)
    assert sign_in(client, "owner-password").status_code == 302


def test_sign_in__right_passwords_are_not_counted(client, owner):
    for _ in range(12):
        assert sign_in(client, "owner-password").status_code == 302
        client.logout()


def test_sign_in__works_while_the_cache_is_down(client, owner, monkeypatch):
    monkeypatch.setattr(throttle, "cache", BrokenCache())
    assert [sign_in(client, "wrong").status_code for _ in range(12)] == [200] * 12
    assert sign_in(client, "owner-password").status_code == 302
