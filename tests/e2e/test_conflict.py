"""Two tasks change the same line: the second conflicts, an agent resolves it in a fix round, and both are merged.

In git and in jj: there the person's own working copy is never moved, whatever is in it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import LONG, Person, chromium
from tests.e2e.scripts import bash, script
from tests.hands import HANDS, TRUNK
from tests.repositories import git
from tests.workspaces.contract.conftest import require_jj

pytestmark = pytest.mark.real

PICTURES = os.environ.get("STUDIO_PICTURES")


@pytest.fixture(scope="module")
def person(studio):
    with chromium() as running:
        somebody = Person(running, studio.url, studio.manage("loginlink").split()[-1])
        yield somebody
        somebody.leave()
        assert somebody.errors == []


@pytest.fixture(params=["git", "jj"])
def yard(studio, request):
    """A registered repository in each system; `hand` does what its person does."""
    if request.param != "git":
        require_jj()
    hand = HANDS[request.param]
    folder = hand.make(studio.repositories / f"my conflicts in {request.param}")
    return {**studio.project(folder), "folder": folder, "hand": hand}


def target(yard) -> str:
    """app.py as it is on trunk; with git the person's clean checkout has it too, with jj their edit stands."""
    hand, folder = yard["hand"], yard["folder"]
    text = git(hand.store(folder), "show", f"{hand.tip(folder)}:app.py")
    if hand.program == "git":
        assert (folder / "app.py").read_text() == text
        assert git(folder, "status", "--porcelain") == ""
    return text


def position(yard) -> dict[str, str]:
    """Where the person stands, without the branch that merges move."""
    found = yard["hand"].position(yard["folder"])
    return {name: at for name, at in found.items() if name != f"refs/heads/{TRUNK}"}


def says(text: str, **phases):
    """A task that changes the only line of app.py."""
    return script(implementation=[[bash(f"echo \"print('{text}')\" > app.py")]], **phases)


def picture(page: Page, name: str) -> None:
    """Keep pictures of the page, wide and as on a phone, light and dark, where they are asked for."""
    if not PICTURES:
        return
    shots: list[tuple[Literal["light", "dark"], int, int]] = [("light", 1440, 900), ("dark", 390, 844)]
    for scheme, width, height in shots:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        page.screenshot(path=Path(PICTURES) / f"{name}-{scheme}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1440, "height": 900})


def reach_review(studio, key: str) -> None:
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")
    studio.wait_status(key, "review")


def test_story__the_second_of_two_tasks_conflicts_is_resolved_and_merged(studio, yard, person):
    folder, hand, in_git = yard["folder"], yard["hand"], yard["hand"].program == "git"
    keep_both = [[{"resolve": "both"}, {"text": "Both lines are kept."}]]
    first = studio.task(yard, "Say goodbye", says("goodbye"))["key"]
    second = studio.task(yard, "Say good morning", says("good morning", fix=keep_both))["key"]
    for key in (first, second):
        reach_review(studio, key)

    task = person.task(first)
    expect(task.now.locator(".preview")).to_contain_text("1 file")
    before = position(yard)
    (folder / "app.py").write_text("unsaved\n")
    if in_git:
        expect(task.now.locator(".preview")).to_contain_text("brought along")
        task.page.reload()
        expect(task.now.locator(".preview")).to_contain_text("is in the way")
        expect(task.now.locator(".preview .files")).to_contain_text("app.py")
        picture(task.page, "merge-dirty")
        git(folder, "checkout", "--", "app.py")
    checkout = Path(studio.get(f"/workspaces/{studio.get(f'/tasks/{first}')['workspace']}")["path"])
    (checkout / "merging.md").write_text("<<<<<<< mine\n=======\n>>>>>>> yours\n")
    task.page.reload()
    expect(task.now.locator(".preview")).to_contain_text("it would be refused")
    picture(task.page, "merge-marked")
    task.now.get_by_label("These lines are meant").check()
    expect(task.now.locator(".preview")).to_contain_text("are merged as they stand")
    expect(task.now.get_by_label("These lines are meant")).to_be_checked()
    task.now.locator(".mergetext > summary").click()
    task.now.get_by_label("Commit message").fill("Take leave\n\nIn my own words.")
    picture(task.page, f"merge-{hand.program}")
    task.now.get_by_role("button", name="Approve and merge").click()
    task.expect_now("Merged into trunk")
    said = git(hand.store(folder), "log", "-1", "--format=%B", hand.tip(folder))
    assert said.strip() == "Take leave\n\nIn my own words."
    assert "merging.md" in git(hand.store(folder), "ls-tree", "--name-only", hand.tip(folder))

    task = person.task(second)
    expect(task.now.locator(".preview")).to_contain_text("It would conflict with trunk")
    task.now.get_by_role("button", name="Approve and merge").click()
    task.expect_now("The change conflicts with trunk")
    conflict = task.now.locator(".dfile.conflict", has_text="app.py")
    conflict.locator("summary").click()
    expect(conflict.locator(".s-target pre")).to_have_text("print('goodbye')\n")
    expect(conflict.locator(".s-source pre")).to_have_text("print('good morning')\n")
    expect(conflict.locator(".s-merged pre")).to_contain_text("=======")
    picture(task.page, f"conflict-{hand.program}")
    by_hand = task.ask("by-hand")
    expect(by_hand.locator(".byhand")).to_contain_text("git merge trunk" if in_git else "jj new studio/")
    picture(task.page, f"conflict-by-hand-{hand.program}")
    task.now.get_by_role("button", name="Let an agent resolve it").click()
    studio.wait_status(second, "review")
    task.expect_now("The change is ready for you")
    expect(task.now.locator(".preview")).to_contain_text("1 file", timeout=LONG)
    task.now.get_by_role("button", name="Approve and merge").click()
    task.expect_now("Merged into trunk")
    assert target(yard) == "print('good morning')\nprint('goodbye')\n"
    phases = [(run["phase"], run["state"]) for run in studio.get(f"/tasks/{second}/runs")["results"]]
    assert phases[-2:] == [("fix", "succeeded"), ("review", "succeeded")]

    ask = task.ask("revert")
    ask.get_by_role("button", name="Revert the merge").click()
    task.expect_now("taken back as")
    picture(task.page, f"reverted-{hand.program}")
    assert target(yard) == "print('goodbye')\n"
    if not in_git:
        assert (position(yard), (folder / "app.py").read_text()) == (before, "unsaved\n")
    task.tab("History")
    expect(task.page.locator(".history")).to_contain_text(re.compile("resolve", re.IGNORECASE))
    expect(task.page.locator(".history")).to_contain_text("Taken back from trunk")


def test_forgotten__a_round_that_leaves_markers_fails_and_can_be_given_up(studio, project, person):
    folder = project["folder"]
    key = studio.task(project, "Say nothing", says("nothing", fix=[[{"text": "Done, I think."}]]))["key"]
    reach_review(studio, key)
    (folder / "app.py").write_text("print('mine')\n")
    git(folder, "commit", "-qam", "Mine first")
    studio.post(f"/tasks/{key}/complete")
    studio.wait(key, lambda task: task["needs"] == "conflict")
    studio.post(f"/tasks/{key}/resolve", {"feedback": "Be quick."})
    failed = studio.wait(key, lambda task: task["run_state"] == "failed")
    assert failed["error_code"] == "conflict_markers"
    assert "app.py" in failed["reason"]
    task = person.task(key)
    task.expect_now("left lines of a conflict unresolved")
    picture(task.page, "conflict-failed")
    ask = task.ask("abort")
    ask.get_by_role("button", name="Give the merge up").click()
    task.expect_now("The change is ready for you")
    branch = studio.get(f"/tasks/{key}")["branch"]
    assert git(folder, "show", f"{branch}:app.py") == "print('nothing')\n"
