"""People with roles, and browsers that are signed in as them."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from studio.kernel.permissions import Role
from tests import factories
from workspaces.models import Project

FRAGMENT = {"HX-Request": "true"}


def signed_in(user: Any) -> Client:
    """A client with a session of `user`."""
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def project(owner) -> Project:
    """A project with a repository of its own."""
    return factories.make_project(key="DEMO", name="Farewell", owner=owner)


@pytest.fixture
def as_owner(owner) -> Client:
    return signed_in(owner)


@pytest.fixture
def as_reviewer(project) -> Client:
    return signed_in(factories.make_member(project, Role.REVIEWER))


@pytest.fixture
def as_viewer(project) -> Client:
    return signed_in(factories.make_member(project, Role.VIEWER))


@pytest.fixture
def as_stranger(stranger) -> Client:
    return signed_in(stranger)


def body(response: Any) -> str:
    """The page as text."""
    return response.content.decode()
