"""A server that somebody else runs, reached over https: it gets a run, the bridge follows it through TLS, a cut is mended."""

from __future__ import annotations

import threading

import pytest

from agents import services
from agents.models import AgentServer
from sessions_app.bridge.server import ServerBridge
from sessions_app.models import SessionEvent, Turn
from sessions_app.services import dispatch
from studio.kernel.secretbox import seal
from tasks.models import PhaseRun
from tasks.services.board import create_task
from tasks.services.lifecycle import act
from tasks.services.prepare import prepare_run
from tasks.services.schedule import schedule
from tests.factories import make_profiles, make_project
from tests.real.agentserver import wait_for
from tests.real.tls import Authority, TlsProxy

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def external(opencode_server, settings, tmp_path):
    """(the row of the server behind TLS, the proxy)"""
    settings.DATA, settings.OPENCODE_URL = tmp_path, ""
    services._backends.clear()
    authority = Authority()
    with TlsProxy(opencode_server.url, authority.issue(tmp_path, "127.0.0.1")) as proxy:
        server = AgentServer.objects.create(
            name="gpu box",
            managed=False,
            url=proxy.url,
            username=opencode_server.username,
            sealed_password=seal(opencode_server.password),
            ca_pem=authority.pem,
            max_parallel_runs=1,
        )
        yield server, proxy


@pytest.fixture
def bridge(external):
    """Follows the server in a thread until the test ends."""
    stop = threading.Event()
    thread = threading.Thread(target=ServerBridge(external[0].pk, stop).run)
    thread.start()
    yield
    stop.set()
    thread.join(30)


def test_external_server__runs_a_task_over_https_and_outlives_a_cut(external, bridge, opencode_server):
    server, proxy = external
    assert services.sync_server(server.pk)
    make_profiles()
    project = make_project()
    script = '```practice\n{"planning": [[{"text": "First.", "tools": [{"name": "bash", "args": {"command": "ls", "description": "x"}}]}, {"text": "The plan. Second step.", "delay": 3}]]}\n```'
    tasks = [create_task(actor=None, project=project, title=f"Task {n}", description=script) for n in range(2)]
    for task in tasks:
        act(actor=None, task_ref=task, action="start")
    assert schedule() == 1  # its limit
    run = PhaseRun.objects.get(server=server)
    prepare_run(run.pk)
    run.refresh_from_db()
    dispatch.dispatch(run.turn_id)
    said = SessionEvent.objects.filter(session_id=run.session_id, kind="text")
    wait_for(lambda: said.filter(data__text="First.").exists(), what="for the first words")
    proxy.cut()
    wait_for(lambda: Turn.objects.get(pk=run.turn_id).state == "settled", what="for the turn")
    assert Turn.objects.get(pk=run.turn_id).outcome == "completed"
    texts = [event.data["text"] for event in said.order_by("seq")]
    assert texts == ["First.", "The plan. Second step."]
