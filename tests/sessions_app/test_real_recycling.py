"""A managed server that grows, its fresh process, directories that are loaded and let go: on the real server."""

from __future__ import annotations

import shutil
import threading
from itertools import islice

import pytest

from agents import services
from agents.backend import Connected, InstanceGone
from agents.endpoint import read_status
from agents.models import AgentServer, LoadedDirectory
from agents.supervisor import Setup, Supervisor
from sessions_app.models import Turn
from sessions_app.services import dispatch, disposal, reconcile, recycling, turns, warming
from studio.kernel.clock import later
from tests.factories import make_profiles, make_project, make_workspace
from tests.real.agentserver import prompt_text, wait_for
from workspaces.models import Workspace
from workspaces.services import remove_workspace, request_removal

pytestmark = [pytest.mark.real, pytest.mark.django_db]


def steps(*commands):
    tools = [[{"tools": [{"name": "bash", "args": {"command": one, "description": "x"}}]} for one in commands]]
    return prompt_text({"implementation": tools})


@pytest.fixture
def conversation():
    """Opens a session in a workspace of its own: conversation(server)."""

    def make(server):
        make_profiles()
        return turns.open_session(
            workspace=make_workspace(make_project()),
            server=server,
            role="implementer",
            title="Work",
            agent="studio-implementer",
            model="practice/practice",
        )

    return make


def admit(session, prompt=""):
    return turns.admit_turn(session=session, prompt=prompt or steps(), max_steps=30, wall_seconds=300, idle_seconds=60)


def settled(turn):
    def check():
        reconcile.reconcile(turn.pk)
        turn.refresh_from_db()
        if turn.state == "admitted":
            Turn.objects.filter(pk=turn.pk).update(next_try_at=None)
            dispatch.dispatch(turn.pk)
        return turn.state == "settled"

    wait_for(check, what="for the turn")
    return turn


@pytest.fixture
def managed(opencode_server, settings, tmp_path):
    """The row of a server that a supervisor of this test keeps running."""
    settings.DATA = tmp_path.resolve() / "data"
    settings.OPENCODE_URL = ""
    services._backends.clear()
    home = tmp_path / "home"
    home.mkdir()
    stop = threading.Event()
    setup = Setup(data=settings.DATA, environ={**opencode_server.setup.environ, "HOME": str(home)})
    binary = type("Found", (), {"path": opencode_server.setup.binary})
    thread = threading.Thread(target=Supervisor(setup, stop, lambda: binary).run)
    thread.start()
    try:
        wait_for(lambda: services.sync_server(services.ensure_servers().pk), what="for the server")
        yield services.ensure_servers()
    finally:
        stop.set()
        thread.join()


def test_large_server__is_replaced_when_idle_and_turns_go_on_by_themselves(managed, conversation, settings, tmp_path):
    settings.STUDIO_AGENT_MEMORY_MB = 50
    session, go_on = conversation(managed), tmp_path / "go on"
    first = admit(session, steps(f"while [ ! -e '{go_on}' ]; do sleep 0.1; done"))
    dispatch.dispatch(first.pk)
    wait_for(lambda: read_status(settings.DATA).memory_mb > 50, what="for a measurement")
    recycling.tend_server(managed.pk)
    managed.refresh_from_db()
    assert (managed.state, managed.memory_mb > 50) == ("ready", True)  # never under a running turn
    go_on.touch()
    assert settled(first).outcome == "completed"

    recycling.tend_server(managed.pk)
    managed.refresh_from_db()
    assert (managed.state, managed.recycle_boot) == ("recycling", managed.boot)
    second = admit(session)
    dispatch.dispatch(second.pk)
    second.refresh_from_db()
    assert (second.state, second.attempts, second.next_try_at is not None) == ("admitted", 0, True)
    wait_for(lambda: services.sync_server(managed.pk), what="for the fresh process")
    before, managed = managed, AgentServer.objects.get(pk=managed.pk)
    assert (managed.state, managed.crashes, managed.recycled_at is not None) == ("ready", 0, True)
    assert managed.boot != before.boot
    assert settled(second).outcome == "completed"  # in the same session, with all that was said before
    assert second.session_id == first.session_id


def test_turn_that_comes_between__is_not_cut_off(opencode_server, conversation, settings, tmp_path):
    settings.DATA = tmp_path
    server = opencode_server.row(managed=True, memory_mb=5000)
    session = conversation(server)
    turn = admit(session)
    Turn.objects.filter(pk=turn.pk).update(state="dispatching")  # marked, and about to look at the server
    AgentServer.objects.update(state="recycling", recycle_boot=server.boot, recycle_asked_at=later(0))
    recycling.tend_server(server.pk)
    server.refresh_from_db()
    assert (server.state, server.recycle_boot) == ("ready", "")
    assert not (tmp_path / "run" / "agentserver.recycle").exists()


def test_directory__is_loaded_once_and_let_go_when_nobody_uses_it(opencode_server, conversation):
    server = opencode_server.row()
    session = conversation(server)
    assert warming.warm_workspace(server.pk, session.workspace_id)
    assert not warming.warm_workspace(server.pk, session.workspace_id)
    loaded = LoadedDirectory.objects.get(server=server, directory=session.directory)
    assert disposal.ring_for_unused() == 0
    turn = admit(session, steps("sleep 1"))
    dispatch.dispatch(turn.pk)
    LoadedDirectory.objects.filter(pk=loaded.pk).update(used_at=later(-disposal.directories.UNUSED.total_seconds() - 1))
    assert disposal.ring_for_unused() == 0  # a turn runs there
    assert not disposal.dispose_directory(loaded.pk)
    assert settled(turn).outcome == "completed"
    LoadedDirectory.objects.filter(pk=loaded.pk).update(used_at=later(-disposal.directories.UNUSED.total_seconds() - 1))
    assert disposal.ring_for_unused() == 1
    stream = opencode_server.backend().stream()
    assert isinstance(next(stream), Connected)
    assert disposal.dispose_directory(loaded.pk)
    assert not disposal.dispose_directory(loaded.pk)
    # It looks no further than the event: on a quiet stream there is one in ten seconds.
    assert InstanceGone(session.directory) in islice(stream, 20)
    stream.close()
    assert not LoadedDirectory.objects.exists()
    again = admit(session)
    dispatch.dispatch(again.pk)
    assert settled(again).outcome == "completed"  # it is loaded again when it is needed


def test_workspace_that_goes__takes_its_sessions_and_its_instance_along(opencode_server, conversation):
    server = opencode_server.row()
    session = conversation(server)
    turn = admit(session)
    dispatch.dispatch(turn.pk)
    settled(turn)
    session.refresh_from_db()
    disposal.release_workspace(session.workspace_id)  # nothing is asked of one that stays
    assert LoadedDirectory.objects.filter(directory=session.directory).exists()
    request_removal(session.workspace)
    disposal.release_workspace(session.workspace_id)
    remove_workspace(session.workspace_id)
    disposal.release_workspace(session.workspace_id)
    info = opencode_server.backend().client.get(f"/session/{session.external_id}")
    assert info["time"]["archived"]
    assert not LoadedDirectory.objects.filter(directory=session.directory).exists()
    assert Workspace.objects.get(pk=session.workspace_id).state == "removed"
    shutil.rmtree(session.directory, ignore_errors=True)
