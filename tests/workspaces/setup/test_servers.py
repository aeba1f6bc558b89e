from __future__ import annotations

import socket
import threading
import urllib.request
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from studio.kernel.errors import Conflict, Forbidden, Invalid
from studio.kernel.permissions import Role
from tests.factories import make_member
from tests.real.parts import wait_until
from tests.workspaces.commands.conftest import PATIENCE
from workspaces.commands.ending import end
from workspaces.commands.places import folder_of
from workspaces.commands.settling import look
from workspaces.models import CommandState, DevServer, WorkspaceSetup
from workspaces.services import ensure_workspace
from workspaces.setup import health, servers
from workspaces.setup.placing import VARIABLES
from workspaces.setup.ports import is_free, reserve
from workspaces.setup.services import ensure_setup

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_process_left")]


class Stranger(BaseHTTPRequestHandler):
    """Answers whatever it is asked."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


SERVE = "python3 -m http.server {port} --bind 127.0.0.1"


@pytest.fixture
def until(workspace, steps):
    """Do what jobs and watchers do until the server is in a state; its row."""

    def wait(state, note=""):
        def reached():
            servers.advance_server(workspace.pk)
            steps.start()
            for command in workspace.commands.filter(state=CommandState.RUNNING):
                servers.advance_server(workspace.pk)
                if command.cancel_requested_at:
                    end(command.pk)
                look(folder_of(command.pk))
            row = DevServer.objects.get()
            return row.state == state and note in row.note

        wait_until(reached, seconds=PATIENCE, what=f"the state {state}")
        return DevServer.objects.select_related("command").get()

    return wait


def test_server__starts_answers_restarts_and_stops(workspace, configure, owner, until):
    configure(server=SERVE, health_path="/app.py")
    servers.start_server(workspace=workspace, actor=owner)
    row = until("healthy")
    assert row.command.text == f"python3 -m http.server {row.port} --bind 127.0.0.1"
    assert (row.address, row.note, row.command.started_by_name) == ("127.0.0.1", "", "owner")
    with urllib.request.urlopen(f"http://127.0.0.1:{row.port}/README.md", timeout=10) as answer:
        assert answer.read() == b"# A repository\n"
    assert servers.start_server(workspace=workspace, actor=owner).command == row.command  # it runs already
    servers.restart_server(workspace=workspace, actor=owner)
    fresh = until("healthy")
    assert (fresh.port, fresh.command == row.command) == (row.port, False)
    servers.stop_server(workspace=workspace, actor=owner)
    stopped = until("stopped")
    assert stopped.note == "Stopped by owner."
    assert is_free(row.port)


def test_server__ends_by_itself_or_answers_badly(workspace, configure, owner, until):
    configure(server="echo no such port >&2; exit 3")
    servers.start_server(workspace=workspace, actor=owner)
    assert until("failed").note.startswith("It ended by itself with exit code 3.")
    configure(server=SERVE, health_path="/nothing", ready_seconds=1)
    servers.start_server(workspace=workspace, actor=owner)
    until("unhealthy", "It answered 404 at /nothing.")
    servers.let_go(workspace, "DEMO-1 was cancelled.")
    assert until("stopped").note == "DEMO-1 was cancelled."


def test_server__a_port_that_somebody_else_has(workspace, checkout, configure, owner, until):
    configure(server=SERVE)
    ensure_setup(workspace, origin="run")
    port = reserve(workspace)
    with closing(socket.create_server(("127.0.0.1", port))):
        servers.start_server(workspace=workspace, actor=owner)
        row = until("healthy")
        assert row.port != port
        assert f"Another program has taken port {port}" in row.note
    assert f"export WORKSPACE_PORT={row.port}\n" in (checkout / VARIABLES).read_text()
    servers.let_go(workspace, "")
    until("stopped")


def test_server__a_stranger_that_answers_at_its_port_is_not_taken_for_it(workspace, configure, owner, until):
    configure(server="sleep 600", ready_seconds=5)
    servers.start_server(workspace=workspace, actor=owner)
    row = until("starting")
    with HTTPServer(("127.0.0.1", row.port), Stranger) as stranger:
        thread = threading.Thread(target=stranger.serve_forever)
        thread.start()
        until("unhealthy", f"Another program answers at port {row.port}")
        stranger.shutdown()
        thread.join()
    servers.let_go(workspace, "")
    until("stopped")


def test_server__rules(workspace, project, configure, owner, monkeypatch):
    with pytest.raises(Invalid, match="no dev server"):
        servers.start_server(workspace=workspace, actor=owner)
    configure(server=SERVE)
    with pytest.raises(Forbidden):
        servers.start_server(workspace=workspace, actor=make_member(project, Role.REVIEWER))
    monkeypatch.setattr(servers, "MOST", 1)
    servers.start_server(workspace=ensure_workspace(project=project, label="DEMO-2"), actor=owner)
    with pytest.raises(Conflict, match="1 dev servers run already"):
        servers.start_server(workspace=workspace, actor=owner)


def test_server__at_review_where_the_project_wants_it(workspace, configure, until):
    configure(server=SERVE, at_review=True)
    servers.want_at_review(workspace)
    servers.want_at_review(workspace)
    assert servers.ring_for_due() == 1
    row = until("healthy")
    assert (row.by_review, row.asked_by) == (True, "studio")
    servers.want_at_review(workspace)  # it runs: it goes on
    assert until("healthy").command == row.command
    servers.let_go(workspace, "")
    until("stopped")
    assert WorkspaceSetup.objects.get().port == row.port  # reserved as long as the checkout lives


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, "answered 204 at /health"),
        (b"SSH-2.0-OpenSSH\r\n", 0, "does not speak HTTP"),
        (b"H" * 5_000, 0, "does not speak HTTP"),
        (b"", 0, "does not speak HTTP"),
        (None, 0, "took more than 0.2 seconds"),  # it takes the connection and drips, for ever
    ],
)
def test_ask__whatever_a_hostile_server_says(monkeypatch, said, status, words):
    if said is None:
        monkeypatch.setattr(health, "SECONDS", 0.2)
    stop = threading.Event()

    def serve(listener):
        connection, _ = listener.accept()
        with closing(connection), suppress(OSError):
            connection.sendall(said or b"")
            while said is None and not stop.wait(0.01):
                connection.sendall(b"H")

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        answer = health.ask(listener.getsockname()[1], "/health")
        stop.set()
        thread.join()
    assert answer.status == status
    assert words in answer.said


def test_ask__nobody_is_there():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    assert health.ask(port, "/").said == f"nothing answers at port {port}"
