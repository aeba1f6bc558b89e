"""Background commands on a whole studio: an agent's reaches it again, a person's is watched on the page, and neither minds a
death of the worker; stopping the studio ends them, a killed studio finds them again."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress

import psutil
import pytest
import requests
from playwright.sync_api import expect

from studio.launcher import leftovers
from tests.e2e.browser import LONG, Person, chromium
from tests.e2e.scripts import gate, script, waiting_for, write
from tests.e2e.studio_process import Studio

pytestmark = pytest.mark.real

PATIENCE = 60.0


@pytest.fixture(scope="module")
def own():
    """A studio of this module: its worker is killed, and it is stopped and started."""
    studio = Studio("--no-sample")
    try:
        yield studio.start()
    finally:
        studio.close()
        for process in leftovers.find_commands(studio.data):
            process.kill()


def checkout(studio, name, **phases):
    """A task whose plan waits for a person, and its workspace."""
    key = studio.task(studio.project(studio.repository(name)), name, script(**phases))["key"]
    task = studio.wait_status(key, "planning_review")
    return key, task["workspace"]


def commands(studio, workspace):
    return studio.get(f"/workspaces/{workspace}/commands")["results"]


def until(studio, workspace, state):
    """The newest command of the workspace once it is in `state`."""
    deadline, found = time.monotonic() + PATIENCE, None
    while time.monotonic() < deadline:
        found = next(iter(commands(studio, workspace)), None)
        if found and found["state"] == state:
            return found
        time.sleep(0.1)
    raise AssertionError(f"it is {found}\n{studio.log_tail()}")


def until_server(studio, workspace, state, *, after=""):
    """The workspace's dev server once it is in `state`, looked at later than `after`."""
    deadline, found = time.monotonic() + PATIENCE, None
    while time.monotonic() < deadline:
        found = studio.get(f"/workspaces/{workspace}/server")
        if found["state"] == state and (not after or found["checked_at"] > after):
            return found
        time.sleep(0.1)
    raise AssertionError(f"it is {found}\n{studio.log_tail()}")


def said(studio, command):
    return studio.get(f"/commands/{command['id']}/output")["text"]


def noted(studio, session):
    """What the session's log says of commands and messages."""
    events = studio.get(f"/sessions/{session['id']}/events?limit=500")["results"]
    return [event["kind"] for event in events if event["kind"].startswith(("command.", "inbox."))]


def kill_worker(studio):
    assert studio.kill("celery", "worker")


def test_agents_command__reaches_it_when_it_ends_though_the_worker_was_killed(own):
    steps = [
        {"tools": [{"name": "studio_run_command", "args": {"command": f"{waiting_for('go')}; echo all fine"}}]},
        gate("told"),
        write("done\n"),
        {"text": "That is all."},
    ]
    key, workspace = checkout(own, "agent", implementation=[steps])
    own.post(f"/tasks/{key}/approve_plan")
    command = until(own, workspace, "running")
    assert (command["requested_by"], command["started_by"]) == ("agent", "studio-implementer")
    kill_worker(own)
    own.open_gate(key)
    command = until(own, workspace, "succeeded")
    assert said(own, command) == "all fine\n"
    session = next(one for one in own.get(f"/tasks/{key}/sessions")["results"] if one["role"] == "implementer")
    deadline = time.monotonic() + PATIENCE
    while "inbox.delivered" not in noted(own, session):
        assert time.monotonic() < deadline, noted(own, session)
        time.sleep(0.1)
    own.open_gate(key, "told")  # the agent goes on to its next step
    own.wait_status(key, "review", seconds=120)
    assert noted(own, session) == ["command.started", "command.finished", "inbox.accepted", "inbox.delivered"]
    messages = own.opencode(f"/session/{session['external_id']}/message")
    told = [json.dumps(message["parts"]) for message in messages if message["info"]["role"] == "user"]
    [message] = [text for text in told if "Your background command has ended." in text]  # once
    assert "has succeeded (exit code 0, after" in message
    assert "all fine" in message


def test_persons_command__is_started_watched_and_cancelled_on_the_page(own):
    key, workspace = checkout(own, "person")
    with chromium() as browser:
        person = Person(browser, own.url, own.manage("loginlink").split()[-1])
        page = person.task(key, tab="commands").page
        expect(page.get_by_text("No command has run here yet")).to_be_visible()
        page.keyboard.press("c")
        page.keyboard.type('for n in $(seq 1 3000); do echo "line $n <b>"; sleep 0.05; done')
        page.keyboard.press("Enter")
        row = page.locator(".cmd").first
        output = row.locator(".out")
        expect(output).to_contain_text("line 40 <b>", timeout=LONG)
        expect(page.locator(".tabs a[aria-current]")).to_contain_text("1 running")
        assert output.evaluate("e => e.scrollHeight - e.scrollTop - e.clientHeight < 30")  # it follows the end
        kill_worker(own)
        expect(output).to_contain_text("line 120 <b>", timeout=LONG)
        lines = output.inner_text().split()
        numbers = [int(number) for number in lines[1::3]]
        assert numbers == list(range(1, len(numbers) + 1))  # nothing is missing and nothing is double
        row.get_by_role("button", name="Cancel").click()
        expect(row.locator(".badge")).to_have_text("Cancelled", timeout=LONG)
        expect(row).to_contain_text("Cancelled by owner.")
        row.get_by_role("button", name="Run again").click()
        expect(page.locator(".cmd")).to_have_count(2)
        expect(page.locator(".cmd").first.locator(".badge")).to_have_text("Running", timeout=LONG)
        page.locator(".cmd").first.get_by_role("button", name="Cancel").click()
        expect(page.locator(".cmd").first.locator(".badge")).to_have_text("Cancelled", timeout=LONG)
        assert person.errors == []
    assert [one["state"] for one in commands(own, workspace)] == ["cancelled", "cancelled"]
    assert leftovers.find_commands(own.data) == []


def test_wrapper_killed__is_lost_in_words_and_its_family_is_gone(own):
    _, workspace = checkout(own, "lost")
    own.post(f"/workspaces/{workspace}/commands", {"command": "echo begun; sleep 600 & sleep 601"})
    command = until(own, workspace, "running")
    while "begun" not in said(own, command):
        time.sleep(0.05)
    started = json.loads((own.data / "commands" / command["id"] / "started.json").read_text())
    os.kill(started["pid"], signal.SIGKILL)
    command = until(own, workspace, "lost")
    assert "Nobody knows how it ended" in command["note"]
    assert said(own, command) == "begun\n"
    deadline = time.monotonic() + PATIENCE
    while leftovers.find_commands(own.data):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_finished_task__takes_its_commands_along(own):
    key, workspace = checkout(own, "removed")
    own.post(f"/workspaces/{workspace}/commands", {"command": "sleep 600"})
    until(own, workspace, "running")
    own.post(f"/tasks/{key}/approve_plan")
    own.wait_status(key, "review", seconds=120)
    own.post(f"/tasks/{key}/complete", {"how": "squash"})
    own.wait_status(key, "done")
    command = until(own, workspace, "cancelled")
    assert command["note"] == "Its task was finished."
    assert leftovers.find_commands(own.data) == []


def test_stop_and_death_of_the_whole_studio(own):
    key, workspace = checkout(own, "whole")
    serve = {"server": "python3 -m http.server {port} --bind 127.0.0.1"}
    own.call("PATCH", f"/projects/{own.get(f'/tasks/{key}')['project_key']}/setup", serve)
    own.post(f"/workspaces/{workspace}/server/start")
    server = until_server(own, workspace, "healthy")
    own.post(f"/workspaces/{workspace}/commands", {"command": "echo one; sleep 600"})
    command = until(own, workspace, "running")
    family = own.processes()
    own.process.kill()  # kill -9 of `up` and of everything that it started: the command is nobody's child
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    own.process.wait()
    own.process.stdout.close()
    assert leftovers.find_commands(own.data)
    own.http = requests.Session()
    own.start()
    assert until(own, workspace, "running")["id"] == command["id"]
    at = until_server(own, workspace, "healthy", after=server["checked_at"])  # adopted, and looked at again
    assert (at["command"], at["port"]) == (server["command"], server["port"])
    own.stop()
    assert leftovers.find_commands(own.data) == []
    own.http = requests.Session()
    own.start()
    command = until(own, workspace, "cancelled")
    assert command["note"] == "The studio was stopped."
    assert said(own, command) == "one\n"
    assert until_server(own, workspace, "stopped")["note"] == "The studio was stopped."
