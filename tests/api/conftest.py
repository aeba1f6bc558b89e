"""Clients of the API for a project's people, and what the tests ask of every error."""

from __future__ import annotations

import pytest
from knox.models import AuthToken
from rest_framework.test import APIClient

from studio.kernel.permissions import Role
from tests.factories import make_member, make_project, make_user


def token_client(user) -> APIClient:
    """A client that sends a real token of `user`."""
    _, token = AuthToken.objects.create(user)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


@pytest.fixture
def project(db):
    """A project that nobody but superusers belongs to."""
    return make_project(key="DEMO")


@pytest.fixture
def maintainer(project) -> APIClient:
    """A client of a maintainer of `project`."""
    return token_client(make_member(project, Role.MAINTAINER))


@pytest.fixture
def reviewer(project) -> APIClient:
    """A client of a reviewer of `project`."""
    return token_client(make_member(project, Role.REVIEWER))


@pytest.fixture
def viewer(project) -> APIClient:
    """A client of a viewer of `project`."""
    return token_client(make_member(project, Role.VIEWER))


@pytest.fixture
def outsider(db) -> APIClient:
    """A client of somebody who belongs to no project."""
    return token_client(make_user())


def error_of(response, status: int, code: str = "") -> dict:
    """The error of a response, after a look at the envelope's form."""
    assert response.status_code == status, response.content
    assert response["Content-Type"].startswith("application/json")
    body = response.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert {"code", "message", "detail"} <= set(error) <= {"code", "message", "detail", "allowed"}
    assert error["message"].strip()
    assert isinstance(error["detail"], dict)
    if code:
        assert error["code"] == code
    return error
