"""A session on a server that the test controls."""

from __future__ import annotations

import pytest

from agents.models import AgentServer
from sessions_app.models import Turn
from sessions_app.services import dispatch, turns
from sessions_app.signals import turn_settled
from tests.fakes.agent_backend import FakeBackend
from workspaces.models import Project, Workspace


@pytest.fixture
def server(db):
    return AgentServer.objects.create(name="local", url="http://127.0.0.1:1", state="ready", boot="boot-1")


@pytest.fixture
def workspace(db, tmp_path):
    project = Project.objects.create(name="Demo", key="DEMO", path=str(tmp_path), default_branch="trunk")
    return Workspace.objects.create(
        project=project,
        label="DEMO-1",
        path=str(tmp_path / "w"),
        branch="studio/demo-1",
        base_branch="trunk",
        state="ready",
    )


@pytest.fixture
def session(workspace, server):
    return turns.open_session(
        workspace=workspace, server=server, role="planner", title="Plan DEMO-1", agent="studio-planner", model=""
    )


@pytest.fixture
def turn(session):
    return turns.admit_turn(
        session=session, prompt="Plan it", tool_subject="run-1", max_steps=3, wall_seconds=60, idle_seconds=30
    )


@pytest.fixture
def backend(monkeypatch):
    fake = FakeBackend()
    for module in ("dispatch", "reconcile", "abort", "pause", "steer", "stopping", "asks"):
        monkeypatch.setattr(f"sessions_app.services.{module}.backend_for", lambda server: fake)
    return fake


@pytest.fixture
def running(turn, backend):
    dispatch.dispatch(turn.pk)
    turn.refresh_from_db()
    return turn


@pytest.fixture
def settled():
    """The turns whose end was told upwards."""
    heard: list[Turn] = []

    def receiver(turn, **_):
        heard.append(turn)

    turn_settled.connect(receiver)
    yield heard
    turn_settled.disconnect(receiver)
