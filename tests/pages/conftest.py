"""People with roles, browsers that are signed in as them, and a session at work."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from sessions_app.models import AgentSession, Turn, TurnState
from studio.kernel.clock import now
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
def as_maintainer(project) -> Client:
    return signed_in(factories.make_member(project, Role.MAINTAINER))


@pytest.fixture
def as_reviewer(project) -> Client:
    return signed_in(factories.make_member(project, Role.REVIEWER))


@pytest.fixture
def as_viewer(project) -> Client:
    return signed_in(factories.make_member(project, Role.VIEWER))


@pytest.fixture
def as_stranger(stranger) -> Client:
    return signed_in(stranger)


@pytest.fixture
def session(project) -> AgentSession:
    """A conversation in a checkout of the project."""
    return factories.make_session(factories.make_workspace(project), model="practice/practice")


@pytest.fixture
def turn(session) -> Turn:
    """It is at work."""
    return factories.make_turn(session, state=TurnState.RUNNING, started_at=now(), last_event_at=now())


def body(response: Any) -> str:
    """The page as text."""
    return response.content.decode()
