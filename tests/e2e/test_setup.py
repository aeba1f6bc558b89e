"""A project whose checkouts are set up: the run waits for the script, the dev server is there at review and gone afterwards."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import LONG, Person, chromium
from tests.e2e.scripts import script, write
from tests.e2e.studio_process import commits
from tests.repositories import git
from workspaces.setup.ports import is_free

pytestmark = pytest.mark.real

SCRIPT = "echo installing for $WORKSPACE_KEY; for n in $(seq 900); do test -f go && break; sleep 0.1; done; rm -f go; echo installed"
FORM = {
    "Copy": ".env*",
    "Link folders": "node_modules",
    "Environment": "PORT={port}",
    "Setup, once in a new checkout": SCRIPT,
    "Clean-up, before a checkout is removed": "cat .env; touch ../cleaned",
    "Command": "python3 -m http.server {port} --bind 127.0.0.1",
    "Asked whether it works": "/app.py",
}


def test_setup__from_the_settings_to_a_reviewed_page_and_nothing_left(studio, project):
    folder = project["folder"]
    (folder / ".gitignore").write_text("node_modules/\n")  # does not match a link
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "dependency.js").write_text("kept")
    git(folder, "add", ".gitignore")
    git(folder, "commit", "-q", "-m", "Ignore")
    (folder / ".env").write_text("SECRET=copied\n")
    with chromium() as browser:
        person = Person(browser, studio.url, studio.manage("loginlink").split()[-1])
        _configure(person, project)
        approved = script(implementation=[[write("done\n")]])
        key = studio.task(project, "Set up", approved)["key"]
        task = person.task(key)
        workspace = _watch_setup(studio, task, key)
        checkout = Path(workspace["path"])
        task.expect_now("The plan is ready")
        studio.post(f"/tasks/{key}/approve_plan")
        task.expect_now("The change is ready for you")
        port = _use_server(task, workspace, studio)
        task.tab("Changes")
        expect(task.page.locator(".file, details").filter(has_text="result.txt").first).to_be_visible()
        expect(task.page.get_by_text("SECRET")).to_have_count(0)
        studio.post(f"/tasks/{key}/complete", {"how": "merge"})
        studio.wait_status(key, "done")
        _gone(studio, workspace, checkout, port)
        assert person.errors == []
    assert git(folder, "ls-tree", "-r", "--name-only", "trunk").split() == [
        ".gitignore",
        "README.md",
        "app.py",
        "result.txt",
    ]
    assert commits(folder, "trunk")
    assert (folder / "node_modules" / "dependency.js").read_text() == "kept"
    assert "includeIf" not in (folder / ".git" / "config").read_text()


def _configure(person, project):
    """An owner fills in the page."""
    page = person.open(f"/projects/{project['key']}/setup/")
    expect(page.get_by_text("Checkouts begin with what is committed")).to_be_visible()
    for label, text in FORM.items():
        page.get_by_label(label, exact=True).fill(text)
    page.get_by_label("Environment").fill("PORT={nonsense}")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("{nonsense} is unknown")
    page.get_by_label("Environment").fill(FORM["Environment"])
    page.get_by_text("Start it when a task reaches review").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()


def _watch_setup(studio, task, key):
    """The run waits, says for what, and the output is there while it is written."""
    strip = task.page.locator("live-setup")
    task.expect_now("The checkout is being set up")
    expect(strip).to_contain_text("Setting up")
    strip.get_by_role("link", name="Output").click()
    expect(task.page.locator(".cmd .out").first).to_contain_text(f"installing for {key}", timeout=LONG)
    workspace = studio.get(f"/workspaces/{studio.get(f'/tasks/{key}')['workspace']}")
    checkout = Path(workspace["path"])
    assert (checkout / ".env").read_text() == "SECRET=copied\n"
    assert (checkout / "node_modules" / "dependency.js").exists()
    (checkout / "go").touch()
    expect(strip).to_contain_text("Set up", timeout=LONG)
    expect(task.page.locator(".cmd").first).to_contain_text("Succeeded", timeout=LONG)
    return workspace


def _use_server(task, workspace, studio):
    """It runs by itself at review, is opened, restarted and answers; its port."""
    strip = task.page.locator("live-setup")
    expect(strip).to_contain_text("Running", timeout=LONG)
    link = strip.get_by_role("link", name="Open")
    found = re.fullmatch(r"http://localhost:(\d+)/", link.get_attribute("href"))
    assert found  # the studio is 127.0.0.1: another name, so that its cookies stay with it
    with task.page.context.expect_page() as opened:
        link.click()
    page = opened.value
    expect(page.get_by_role("link", name="result.txt")).to_be_visible()
    assert not [cookie for cookie in page.context.cookies(page.url) if "session" in cookie["name"]]
    page.close()
    before = studio.get(f"/workspaces/{workspace['id']}/server")["command"]
    strip.get_by_role("button", name="Restart").click()
    deadline = time.monotonic() + 60
    while (now := studio.get(f"/workspaces/{workspace['id']}/server"))["state"] != "healthy" or now[
        "command"
    ] == before:
        assert time.monotonic() < deadline, now
        time.sleep(0.1)
    expect(strip.get_by_role("link", name="Open")).to_be_visible(timeout=LONG)
    return int(found[1])


def _gone(studio, workspace, checkout, port):
    """After the removal there is no server, no checkout and no reservation; the clean-up has run."""
    studio.post(f"/workspaces/{workspace['id']}/remove", status=202)
    deadline = time.monotonic() + 60
    while studio.get(f"/workspaces/{workspace['id']}")["state"] != "removed":
        assert time.monotonic() < deadline, studio.log_tail()
        time.sleep(0.1)
    assert not checkout.exists()
    assert (checkout.parent / "cleaned").exists()
    assert is_free(port)
    setup = studio.get(f"/workspaces/{workspace['id']}/setup")
    assert (setup["port"], setup["cleanup_note"]) == (None, "")
    assert studio.get(f"/commands/{setup['cleanup']}/output")["text"] == "SECRET=copied\n"
    assert studio.get(f"/workspaces/{workspace['id']}/server")["state"] == "stopped"
