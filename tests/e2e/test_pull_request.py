"""A task that is completed by a pull request, in the browser, with a real remote and a forge on loopback."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import LONG, Person, chromium
from tests.e2e.scripts import APPROVE, script, write
from tests.real.forge_server import GIT, REPOSITORY, TOKEN, forge_server
from tests.repositories import git

pytestmark = pytest.mark.real


@pytest.fixture
def forge(studio, project):
    """A forge whose repository is the bare remote of the project."""
    remote = studio.folder / "remote.git"
    git(studio.folder, "clone", "-q", "--bare", str(project["folder"]), str(remote))
    with forge_server("github", remote, default_branch="trunk") as running:
        git(project["folder"], "remote", "add", "origin", f"{running.url}{GIT}")
        yield running


def test_pull_request__from_the_button_to_done(studio, project, forge):
    steps = script(fix=[[write("done twice\n")]], review=[[APPROVE], [APPROVE]])
    key = studio.task(project, "Write the result", steps)["key"]
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")
    with chromium() as browser:
        person = Person(browser, studio.url, studio.manage("loginlink").split()[-1])
        connect(person.open(f"/projects/{project['key']}/settings/forge/"), forge)
        studio.wait_status(key, "review")
        task = person.task(key)
        propose(task)
        [pull] = forge.pulls
        assert (pull["title"], pull["base"], pull["reviewers"]) == ("Written by the studio", "trunk", ["ada"])
        assert git(forge.remote, "show", f"{pull['head']}:result.txt") == "done\n"

        forge.comment("Say it twice.", path="result.txt", line=1)
        forge.check("tests", "failed", log="expected: done twice")
        task.page.get_by_role("link", name="Look at the pull request").click()
        task.page.get_by_role("button", name="Refresh").click()
        expect(task.page.get_by_text("Say it twice.")).to_be_visible(timeout=LONG)
        expect(task.page.get_by_role("button", name="Send its log to the agent")).to_be_visible()
        task.page.get_by_role("button", name="Import 1 comment as finding").click()
        # A fix round, another review, and the same pull request has what is new.
        studio.wait(key, lambda row: row["needs"] == "pull_request" and len(findings(studio, key)) == 1)
        assert git(forge.remote, "show", f"{pull['head']}:result.txt") == "done twice\n"
        assert len(forge.pulls) == 1

        commit = forge.merge(1)
        task = person.task(key, "pull_request")
        task.page.get_by_role("button", name="Refresh").click()
        task.expect_now("Merged on the forge")
        done = studio.wait_status(key, "done")
        assert (done["completed_how"], done["completed_commit"]) == ("pull_request", commit)
        assert person.errors == []
        person.leave()


def connect(page, forge):
    """An owner enters the forge and checks the connection."""
    page.get_by_label("Address").fill(forge.url)
    page.get_by_label("Repository").fill(REPOSITORY)
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_label("Reviewers").fill("ada")
    page.get_by_role("button", name="Connect").click()
    page.get_by_role("button", name="Check the connection").click()
    expect(page.get_by_role("heading", name="The connection works")).to_be_visible()
    assert TOKEN not in page.content()


def propose(task):
    """A person opens the pull request with a title of their own."""
    form = task.ask("pull-request")
    form.get_by_label("Title").fill("Written by the studio")
    form.get_by_role("button", name="Open the pull request").click()
    task.expect_now("The pull request is open")


def findings(studio, key):
    """What was made of comments."""
    return [one for one in studio.get(f"/tasks/{key}/findings")["results"] if one["title"].startswith("ada:")]
