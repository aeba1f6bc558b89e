"""The story of a person with a Jujutsu repository: from registering it to a bookmark that has moved, in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import LONG, Person, chromium
from tests.repositories import jj, make_jj_repository
from tests.workspaces.contract.conftest import require_jj

pytestmark = pytest.mark.real

GREETINGS = '''"""Greetings."""


def hello(name: str) -> str:
    """Greet somebody by name."""
    return f"Hello, {name}!"
'''


@pytest.fixture
def person(studio):
    """Somebody with a browser; no page of theirs may log an error."""
    require_jj()
    with chromium() as browser:
        somebody = Person(browser, studio.url, studio.manage("loginlink").split()[-1])
        yield somebody
        somebody.leave()
    assert somebody.errors == []


@pytest.mark.parametrize("colocated", [False, True], ids=["own store", "colocated"])
def test_story__from_the_registration_to_a_moved_bookmark(studio, person, colocated):
    name = "jj colocated" if colocated else "jj alone"
    folder = make_jj_repository(
        studio.repositories / name, branch="trunk", files={"greetings.py": GREETINGS}, colocated=colocated
    )
    (folder / "half done.txt").write_text("A person's work that jj has not looked at.\n")
    before, working_copy = place(folder, "trunk"), place(folder, "@")

    page = person.open("/projects/register/")
    page.get_by_label("Path").fill(str(folder))
    page.get_by_role("button", name="Register").click()
    expect(page).to_have_url(re.compile("/board/"))
    project = next(one for one in studio.get("/projects")["results"] if one["path"] == str(folder))
    assert (project["vcs"], project["default_branch"]) == ("jj", "trunk")

    key = studio.task(project, "Add a farewell")["key"]
    board, task = person.board(project), person.task(key)
    board.expect_in(key, "planning_review")
    task.page.get_by_role("button", name="Approve the plan").click()
    board.expect_in(key, "review")
    task.tab("Changes")
    expect(task.page.get_by_text("test_goodbye.py").first).to_be_visible(timeout=LONG)
    task.page.get_by_role("button", name="Approve and merge").first.click()
    board.expect_in(key, "done")

    after = place(folder, "trunk")
    assert after != before
    assert jj(folder, "--ignore-working-copy", "log", "--no-graph", "-r", f"{before}::trunk ~ {before}", "-T", '"x"')
    assert "def goodbye" in jj(folder, "--ignore-working-copy", "file", "show", "-r", "trunk", "greetings.py")
    assert place(folder, "@") == working_copy  # the person's own working copy stayed where it was
    assert (folder / "half done.txt").exists()
    assert not (folder / "test_goodbye.py").exists()
    note = task.page.get_by_text("jj op revert").first
    expect(note).to_be_visible(timeout=LONG)
    take_back = re.search(r"jj (op revert [0-9a-f]+)", note.inner_text())
    assert take_back is not None
    reviewer = studio.get(f"/tasks/{key}/sessions")["results"][-1]
    events = studio.get(f"/sessions/{reviewer['id']}/events?limit=200")["results"]
    tools = str([event["data"] for event in events if event["kind"].startswith("tool")])
    assert ("jj show" in tools, "Change ID:" in tools) == (True, True)  # its rules let it read, with jj
    jj(folder, *take_back[1].split())  # typed as it stands there
    assert place(folder, "trunk") == before
    assert (folder / "half done.txt").exists()
    studio.post(f"/workspaces/{studio.get(f'/tasks/{key}')['workspace']}/remove", status=202)
    studio.wait(key, lambda _: "studio" not in jj(folder, "--ignore-working-copy", "bookmark", "list"))


def place(folder, revset: str) -> str:
    """The commit that a revset names, without a look at the files."""
    return jj(folder, "--ignore-working-copy", "log", "--no-graph", "-r", revset, "-T", "commit_id")
