"""The one command: ready, found again, examined, stopped without a trace; killed, and repaired by the next start."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from agents.discovery import BinaryMissingError, find_binary
from tests.process.up_process import Up
from tests.real.parts import missing, wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

PATIENCE = 60.0
PARTS = {"valkey", "agentserver", "bridge", "worker", "beat", "web"}


@pytest.fixture
def make_up(tmp_path) -> Iterator[Callable[..., Up]]:
    made: list[Up] = []

    def make(*arguments: str) -> Up:
        up = Up(tmp_path, *arguments)
        made.append(up)
        return up

    yield make
    for up in made:
        up.close()


def test_up__with_agents_from_the_first_line_to_the_last(make_up):
    try:
        find_binary()
    except BinaryMissingError:
        missing("OpenCode (npm ci)")
    up = make_up()
    process, ready = up.start()
    assert set(ready["pids"]) == PARTS
    assert ready["data"] == str(up.data.root)
    assert not ready["already_running"]
    assert all(psutil.pid_exists(pid) for pid in ready["pids"].values())
    assert requests.get(f"{ready['url']}readyz", timeout=10).json()["ready"]
    assert requests.get(ready["login_link"], timeout=10).status_code == 200

    second = up.begin()
    again = up.ready(second)
    assert second.wait(PATIENCE) == 0
    assert again["already_running"]
    assert (again["url"], again["pids"]) == (ready["url"], ready["pids"])
    assert again["login_link"] != ready["login_link"]
    assert requests.get(again["login_link"], timeout=10).status_code == 200

    doctor = up.manage("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert "All parts work." in doctor.stdout
    assert "practice model" in doctor.stdout
    assert "failed" not in doctor.stdout

    token = up.manage("token", "a test").stdout.strip()
    assert token.startswith("a-test-")
    headers = {"Authorization": f"Bearer {token}"}
    projects = requests.get(f"{ready['url']}api/v1/projects", headers=headers, timeout=10).json()["results"]
    assert [project["name"] for project in projects] != []
    assert requests.get(f"{ready['url']}api/v1/projects", timeout=10).status_code == 401

    assert up.interrupt(process) == 0
    up.assert_clean()
    assert not any(psutil.pid_exists(pid) for pid in ready["pids"].values())


def test_up__is_repaired_after_it_was_killed(make_up):
    up = make_up("--no-agent", "--no-sample")
    process, first = up.start()
    assert set(first["pids"]) == PARTS - {"agentserver", "bridge"}
    process.kill()
    process.wait()
    orphans = up.processes()
    assert {one.pid for one in orphans} >= set(first["pids"].values())
    doctor = up.manage("doctor")
    assert f"studio: its start at http://127.0.0.1:{up.port} was killed" in doctor.stdout
    assert "make down" in doctor.stdout
    assert "8000" not in doctor.stdout
    assert "Start the studio: make run" not in doctor.stdout

    process, second = up.start()  # on the same port, which the orphans held
    assert not second["already_running"]
    assert set(first["pids"].values()).isdisjoint(one.pid for one in up.processes())

    supervisor = next(one for one in up.processes() if "supervisor.supervisord" in one.cmdline())
    supervisor.kill()
    assert process.wait(PATIENCE) == 1
    assert "supervisor has ended" in up.log.read_text()
    up.assert_clean()

    process, _ = up.start()
    process.kill()
    process.wait()
    down = up.manage("down")
    assert down.returncode == 0
    assert "that a killed start had left behind" in down.stdout
    up.assert_clean()


def test_up__started_twice_at_once_starts_once(make_up):
    up = make_up("--no-agent", "--no-sample")
    one, other = up.begin(), up.begin()
    answers = [up.ready(one), up.ready(other)]
    assert sorted(answer["already_running"] for answer in answers) == [False, True]
    assert answers[0]["pids"] == answers[1]["pids"]
    stays, goes = (one, other) if answers[1]["already_running"] else (other, one)
    assert goes.wait(PATIENCE) == 0
    assert stays.poll() is None
    assert up.manage("down").stdout == "Stopped.\n"
    assert stays.wait(PATIENCE) == 0
    up.assert_clean()


def test_up__is_stopped_while_it_starts(make_up):
    up = make_up("--no-agent", "--no-sample")
    process = up.begin()
    wait_until(lambda: len(up.processes()) > 2, seconds=PATIENCE, what="the first parts")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    up.assert_clean()


def test_up__names_a_port_in_use_and_leaves_the_folder_as_it_was(make_up):
    up = make_up("--no-agent")
    with socket.socket() as other:
        other.bind(("127.0.0.1", up.port))
        other.listen()
        assert up.begin().wait(PATIENCE) == 1
    assert f"Port {up.port} on 127.0.0.1 is in use" in up.log.read_text()
    up.assert_clean()
    assert not (up.data.root / "studio.sqlite3").exists()


def test_up__that_cannot_set_its_database_up_says_why_and_stops(make_up):
    up = make_up("--no-agent")
    up.data.prepare()
    (up.data.root / "studio.sqlite3").write_text("this is no database")
    assert up.begin().wait(PATIENCE) == 1
    said = up.log.read_text()
    assert "could not be set up" in said
    assert "file is not a database" in said
    up.assert_clean()


def test_up__without_opencode_starts_says_so_everywhere_and_goes_on_once_it_is_there(make_up, tmp_path):
    try:
        binary = find_binary("").path
    except BinaryMissingError:
        missing("OpenCode (npm ci)")
    up, named = make_up("--no-sample"), tmp_path / "opencode"
    up.environment["OPENCODE_BIN"] = str(named)
    process, ready = up.start()
    assert f"OPENCODE_BIN names {named}" in ready["warnings"][0]
    assert "No agent can run." in up.log.read_text()
    answer = requests.get(f"{ready['url']}readyz", timeout=10).json()
    assert answer["missing"] == ["agent_servers"]
    assert answer["parts"]["agent_servers"]["message"].endswith("is down: OpenCode is missing.")
    browser = requests.Session()
    form = browser.get(ready["login_link"], timeout=10).text
    token = form.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    browser.post(ready["login_link"], data={"csrfmiddlewaretoken": token}, timeout=10)
    for page in ("projects/", "health/"):
        shown = browser.get(ready["url"] + page, timeout=10).text
        assert "No agent can run." in shown
        assert "npm ci" in shown
    doctor = up.manage("doctor").stdout
    assert "failed  OpenCode binary" in doctor
    assert "failed  agent server: local: OPENCODE_BIN names" in doctor
    assert "npm ci" in doctor

    named.symlink_to(binary)
    wait_until(
        lambda: requests.get(f"{ready['url']}readyz", timeout=10).json()["ready"], seconds=120, what="the agent server"
    )
    assert "No agent can run." not in browser.get(f"{ready['url']}health/servers/", timeout=10).text
    assert up.interrupt(process) == 0
    up.assert_clean()


def test_doctor__names_what_is_missing_and_its_remedy(make_up):
    up = make_up("--no-agent")
    doctor = up.manage("doctor")
    assert doctor.returncode == 1
    lines = doctor.stdout.splitlines()
    assert "ok      git" in doctor.stdout
    assert any(line.startswith("failed  broker") for line in lines)
    assert any(line.startswith("failed  migrations") for line in lines)
    assert "ok      database" in doctor.stdout
    assert "database does not answer" not in doctor.stdout  # it does, and has no tables yet
    assert "failed  studio: it does not run" in doctor.stdout
    assert "make run" in doctor.stdout
    assert "Traceback" not in doctor.stdout + doctor.stderr


def test_commands__say_what_is_wrong_with_the_folder(make_up):
    up = make_up()
    up.data.root.write_text("")
    for command in (["doctor"], ["token", "x"], ["loginlink"]):
        done = up.manage(*command)
        assert done.returncode == 1
        assert (
            done.stderr
            == f"The data folder {up.data.root} is a file. Choose another folder with --data or STUDIO_HOME.\n"
        )
    up.data.root.unlink()


def test_processes__carry_only_what_they_may_see(make_up):
    up = make_up("--no-agent", "--no-sample")
    up.environment |= {"GITHUB_TOKEN": "not for the studio", "ANTHROPIC_API_KEY": "for the agent server only"}
    process, ready = up.start()
    for name, pid in ready["pids"].items():
        environment = psutil.Process(pid).environ()
        assert "GITHUB_TOKEN" not in environment, name
        assert "ANTHROPIC_API_KEY" not in environment, name
        assert not any(variable.startswith("SUPERVISOR_") for variable in environment), name
    assert up.data.root.stat().st_mode & 0o077 == 0
    assert Path(up.data.run / "valkey.conf").stat().st_mode & 0o077 == 0
    assert up.interrupt(process) == 0
