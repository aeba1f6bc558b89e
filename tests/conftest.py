"""Fixtures of the whole suite. Real parts (servers, brokers, browsers) live in tests/real and are started on demand."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.core.cache import cache

pytest_plugins = ["tests.groups", "tests.real.agentserver", "tests.real.postgres", "tests.real.valkey"]

NAME_CHARACTERS = 100


def pytest_make_parametrize_id(val, argname):
    """A long text as a parameter is named by its length: its whole would stand in the terminal."""
    long = isinstance(val, str | bytes) and len(val) > NAME_CHARACTERS
    return f"{argname}-of-{len(val)}" if long else None


@pytest.fixture
def owner(db, django_user_model):
    """A superuser: owner of every project."""
    return django_user_model.objects.create_superuser("owner", "owner@example.invalid", "owner-password")


@pytest.fixture
def member(db, django_user_model):
    """An account that may register repositories and nothing else; tests make it a member where they need one."""
    from django.contrib.auth.models import Permission

    user = django_user_model.objects.create_user("member", "member@example.invalid", "member-password")
    user.user_permissions.add(Permission.objects.get(content_type__app_label="workspaces", codename="add_project"))
    return user


@pytest.fixture
def stranger(db, django_user_model):
    """An account that must see nothing."""
    return django_user_model.objects.create_user("stranger", "stranger@example.invalid", "stranger-password")


@pytest.fixture(autouse=True)
def workspace_root(monkeypatch, tmp_path_factory):
    """Workspaces of each test in a folder of its own: what one leaves is an unknown folder to nobody else. Its path is short,
    because tests put sockets into checkouts, and a socket's address takes about a hundred characters."""
    root = tmp_path_factory.mktemp("w")
    monkeypatch.setattr(settings, "STUDIO_WORKSPACE_ROOT", root)
    return root


@pytest.fixture(autouse=True)
def no_counted_requests():
    """Rate limits count from zero in each test."""
    cache.clear()


@pytest.fixture(autouse=True)
def requested_jobs(monkeypatch, request):
    """The jobs that were requested after commit, as (name, ids), instead of a broker. Not in tests marked `real`."""
    from celery.canvas import Signature

    jobs: list[tuple[str, tuple[str, ...]]] = []
    if request.node.get_closest_marker("real"):
        return jobs
    monkeypatch.setattr(
        Signature, "apply_async", lambda signature, **_: jobs.append((signature.task, tuple(signature.args)))
    )
    return jobs


@pytest.fixture(autouse=True)
def silent_doorbell(monkeypatch, request):
    """The topics that were rung, instead of a channel layer. Not in tests marked `real`."""
    rung: list[str] = []
    if request.node.get_closest_marker("real"):
        return rung
    monkeypatch.setattr("studio.doorbell.ring", lambda *topics: rung.extend(topics))
    monkeypatch.setattr("studio.doorbell.send_pieces", lambda pieces: rung.extend(topic for topic, *_ in pieces))
    return rung


def pytest_collection_modifyitems(items):
    """Tests that start processes may take longer than the rest."""
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.timeout(300))


assert settings.configured
