"""What the supervisor does about a server that cannot start, dies, says something, or is not there: with a stand-in for it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from agents import server_process, supervisor
from agents.discovery import Binary, find_binary
from agents.endpoint import read_endpoint, read_status
from agents.supervisor import Setup, Supervisor
from tests.real.agentserver import wait_for

pytestmark = pytest.mark.real


@pytest.fixture
def supervised(tmp_path, monkeypatch):
    """supervised(find) -> the data folder of a supervisor that runs in a thread until the test ends."""
    monkeypatch.setattr(supervisor, "BINARY_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.2)
    stops = []

    def begin(find, **environ):
        data = tmp_path.resolve() / "data"
        (tmp_path / "home").mkdir()
        setup = Setup(data=data, environ={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home"), **environ})
        stop = threading.Event()
        thread = threading.Thread(target=Supervisor(setup, stop, find).run)
        thread.start()
        stops.append((stop, thread))
        return data

    yield begin
    for stop, thread in stops:
        stop.set()
        thread.join()


def program(path: Path, body: str) -> Path:
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo 1.18.33; exit; fi\n{body}\n')
    path.chmod(0o700)
    return path


def test_server_that_cannot_live__is_tried_again_with_growing_pauses_and_its_last_words(supervised, tmp_path):
    broken = program(
        tmp_path / "opencode", 'echo "Error: no space left, token=abcdef123456 $OPENCODE_SERVER_PASSWORD" >&2\nexit 3'
    )
    data = supervised(lambda: Binary(broken, "1.18.33"))
    status = wait_for(lambda: (it := read_status(data)) and it.state == "waiting" and it.crashes >= 3 and it)
    assert status.trouble == "crashing"
    assert status.message.startswith("OpenCode ended by itself with exit code 3. It has ended ")
    assert status.message.endswith(" times in a row.")
    assert status.next_start_at > status.crashed_at
    assert status.output == ("Error: no space left, token [redacted] [redacted]",)
    assert read_endpoint(data) is None
    program(tmp_path / "opencode", "exec sleep 60")
    wait_for(lambda: read_status(data).state == "starting")


def test_long_output__is_bounded(supervised, tmp_path):
    chatty = program(
        tmp_path / "opencode",
        "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo line $i; done; head -c 1000000 /dev/zero | tr '\\0' x; exit 1",
    )
    data = supervised(lambda: Binary(chatty, "1.18.33"))
    wait_for(lambda: (status := read_status(data)) and status.crashes)
    output = read_status(data).output
    assert len(output) <= server_process.OUTPUT_LINES
    assert max(len(line) for line in output) <= server_process.LINE_LIMIT
    program(tmp_path / "opencode", "exec sleep 60")  # else it goes on talking between this test and the next
    wait_for(lambda: read_status(data).state == "starting")


def test_missing_binary__is_looked_for_until_it_is_there(supervised, tmp_path):
    named = tmp_path / "opencode"
    data = supervised(lambda: find_binary(str(named)))
    wait_for(lambda: (status := read_status(data)) and status.state == "missing")
    status = read_status(data)
    assert (status.trouble, status.crashes) == ("binary_missing", 0)
    assert f"OPENCODE_BIN names {named}" in status.message
    assert "npm ci" in status.message
    named.write_text("#!/bin/sh\necho 1.17.2\n")
    named.chmod(0o700)
    wait_for(lambda: read_status(data).trouble == "binary_unsupported")
    assert "version 1.17.2 is too old: the studio works with 1.18.33 and later" in read_status(data).message
    program(named, "exec sleep 60")
    wait_for(lambda: read_status(data).state == "starting")
    assert (read_status(data).trouble, read_status(data).message) == ("", "")


def test_port_that_is_taken_meanwhile__costs_no_death(supervised, opencode_server, monkeypatch):
    free, tried = server_process.free_port, []
    with socket.create_server(("127.0.0.1", 0)) as other:

        def taken_first():
            tried.append(free() if tried else other.getsockname()[1])
            return tried[-1]

        monkeypatch.setattr(server_process, "free_port", taken_first)
        environ = {name: opencode_server.setup.environ[name] for name in ("PATH", "OPENCODE_DISABLE_MODELS_FETCH")}
        data = supervised(lambda: Binary(opencode_server.setup.binary, "1.18.33"), **environ)
        endpoint = wait_for(lambda: read_endpoint(data), what="for the server")
    assert len(tried) == 2
    assert endpoint.url.endswith(f":{tried[1]}")
    assert read_status(data).crashes == 0


def test_password__is_in_no_argument_no_log_and_no_file_that_others_read(supervised, opencode_server, capfd):
    environ = {name: opencode_server.setup.environ[name] for name in ("PATH", "OPENCODE_DISABLE_MODELS_FETCH")}
    data = supervised(lambda: Binary(opencode_server.setup.binary, "1.18.33"), **environ)
    endpoint = wait_for(lambda: read_endpoint(data), what="for the server")
    assert endpoint.password not in Path(f"/proc/{endpoint.pid}/cmdline").read_text()
    assert endpoint.password not in capfd.readouterr().err
    holding, open_to_others = [], []
    for path in data.rglob("*"):
        with suppress(FileNotFoundError):  # the server at work makes and removes files
            if path.is_file() and endpoint.password.encode() in path.read_bytes():
                holding.append(path)
            if path.parent == data / "run" and path.stat().st_mode & 0o077:
                open_to_others.append(path)
    assert holding == [data / "run" / "agentserver.json"]
    assert open_to_others == []
