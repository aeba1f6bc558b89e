"""What a project takes, in a browser: a checkout is removed by somebody who was shown what goes, and its work is brought back."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import LONG, Person, chromium
from tests.e2e.scripts import bash, script

pytestmark = pytest.mark.real

WORK = "printf 'notes.txt\\n' > .gitignore && echo mine > notes.txt && echo done > result.txt"


def test_storage__removed_with_eyes_open_and_brought_back_while_another_page_follows(studio, project):
    key = studio.task(project, "Notes", script(implementation=[[bash(WORK), {"text": "Done."}]]))["key"]
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")
    task = studio.wait_status(key, "review", seconds=120)
    checkout = Path(studio.get(f"/workspaces/{task['workspace']}")["path"])
    storage = f"/projects/{project['key']}/storage/"
    with chromium() as browser:
        person = Person(browser, studio.url, studio.manage("loginlink").split()[-1])
        follower = person.open(storage)
        expect(follower.locator(".live")).to_have_text("Live")
        expect(follower.get_by_role("link", name="Remove now…")).to_have_count(0)  # its work goes on
        follower.get_by_label("Days that").fill("11")  # what somebody writes meanwhile stays
        studio.post(f"/tasks/{key}/cancel", {"reason": "Enough."})
        expect(follower.get_by_role("link", name="Remove now…")).to_be_visible(timeout=LONG)

        page = person.open(storage)
        page.get_by_role("link", name="Remove now…").click()
        expect(page.locator(".lost").first).to_contain_text("notes.txt")
        expect(page.get_by_role("main")).to_contain_text("1 commit, kept")
        page.get_by_role("button", name="Remove it all the same").click()
        page.wait_for_url(f"**{storage}*")

        expect(follower.get_by_role("heading", name="No checkout is there")).to_be_visible(timeout=LONG)
        assert not checkout.exists()
        with follower.expect_download() as download:
            follower.get_by_role("link", name="Patch").click()
        assert "+done" in download.value.path().read_text()
        assert "mine" not in download.value.path().read_text()

        page.reload()
        page.get_by_role("button", name="Restore").click()
        restored = follower.locator(".stored li", has_text="Files")
        expect(restored).to_be_visible(timeout=LONG)
        expect(restored).to_contain_text("Not merged", timeout=LONG)
        expect(follower.get_by_label("Days that")).to_have_value("11")
        assert person.errors == []
    (again,) = checkout.parent.glob("*/result.txt")
    assert again.read_text() == "done\n"
