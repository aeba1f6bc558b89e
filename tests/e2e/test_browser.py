"""The story of a person: from the printed link to the merged commit, in a real browser, live on two of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.scripts import script
from tests.e2e.studio_process import commits
from tests.repositories import git

pytestmark = pytest.mark.real

CHROMIUM = os.environ.get("CHROMIUM_BIN", "/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# `make screenshots` sets this; the README shows what is written there.
PICTURES = os.environ.get("STUDIO_PICTURES")
LONG = 90_000  # milliseconds: a turn on a busy machine


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in(studio, chromium):
    """The cookies of somebody who opened the one-time link."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(studio.ready["login_link"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("link", name="Projects").first).to_be_visible()
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def browse(chromium, signed_in):
    """Opens a page in a browser of its own; fails the test when a page logged an error."""
    contexts, errors = [], []

    def open_page(url: str, *, width: int = 1440, height: int = 900, scheme: str = "light") -> Page:
        context = chromium.new_context(
            storage_state=signed_in, viewport={"width": width, "height": height}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda message: (
                errors.append(message.text)
                if message.type == "error"
                and "WebSocket" not in message.text
                and "Failed to load resource" not in message.text
                else None
            ),
        )
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def picture(page: Page, name: str) -> None:
    """Keep a picture for the README, where one is asked for."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def card(page: Page, key: str):
    """The card of a task."""
    return page.locator(f"#card-{key}")


def in_column(page: Page, key: str, status: str, **options) -> None:
    """The card stands in the column."""
    expect(page.locator(f"#card-{key}[data-col='{status}']")).to_be_visible(**options)


def test_story__sample_task_from_start_to_merge_on_two_browsers(studio, browse):
    sample = next(one for one in studio.get("/projects")["results"] if one["is_sample"])
    task = next(one for one in studio.get(f"/tasks?project={sample['id']}")["results"] if "farewell" in one["title"])
    key, folder = task["key"], Path(sample["path"])
    before = len(commits(folder, sample["default_branch"]))

    board = browse(f"{studio.url}/projects/{sample['key']}/board/")
    other = browse(f"{studio.url}/projects/{sample['key']}/board/", width=390, height=844, scheme="dark")
    expect(board.get_by_text("Practice model").first).to_be_visible()
    in_column(board, key, "todo")
    card(board, key).get_by_role("button", name="Start").click()
    in_column(board, key, "planning_review", timeout=LONG)
    expect(other.locator(f"#card-{key}[data-col='planning_review']")).to_be_attached(timeout=LONG)

    page = browse(f"{studio.url}/tasks/{key}/")
    expect(page.get_by_role("heading", name="Add a farewell").first).to_be_visible()
    page.get_by_role("link", name=re.compile("^Plan")).or_(
        page.get_by_role("tab", name=re.compile("^Plan"))
    ).first.click()
    expect(page.locator(".md").first).to_be_visible()
    page.get_by_role("button", name="Approve the plan").click()
    page.get_by_role("link", name="Transcript").or_(page.get_by_role("tab", name="Transcript")).first.click()
    expect(page.locator(".e-tool_finished").first).to_be_visible(timeout=LONG)
    expect(page.get_by_role("button", name="Approve and merge")).to_be_visible(timeout=LONG)
    picture(page, "task")
    in_column(board, key, "review", timeout=LONG)
    picture(board, "board")
    page.get_by_role("button", name="Approve and merge").click()
    in_column(board, key, "done", timeout=LONG)
    assert len(commits(folder, sample["default_branch"])) > before
    assert git(folder, "status", "--porcelain") == ""
    assert "goodbye" in (folder / "greetings.py").read_text()


def test_create__from_one_field_and_reject_the_plan(studio, project, browse):
    board = browse(f"{studio.url}/projects/{project['key']}/board/")
    board.keyboard.press("c")
    board.get_by_label("What should change?").fill(f"Write it\n\n{script()}")
    board.get_by_role("button", name="Create and start").click()
    key = f"{project['key']}-1"
    in_column(board, key, "planning_review", timeout=LONG)
    page = browse(f"{studio.url}/tasks/{key}/")
    page.locator("#ask-reject_plan > summary").click()
    page.locator("#ask-reject_plan textarea").fill("Say more about <b>tests</b>.")
    page.locator("#ask-reject_plan").get_by_role("button", name="Send back").click()
    in_column(board, key, "planning", timeout=LONG)
    in_column(board, key, "planning_review", timeout=LONG)


def test_cut_connection__the_page_catches_up(studio, project, browse):
    key = studio.task(project, "Seen after the cut", start=False)["key"]
    board = browse(f"{studio.url}/projects/{project['key']}/board/")
    in_column(board, key, "todo")
    studio.kill("daphne")
    studio.wait(key, lambda _: True)  # daphne is back
    studio.post(f"/tasks/{key}/cancel", {"reason": "while nobody listened"})
    other = studio.task(project, "Made after the cut", start=False)["key"]
    in_column(board, other, "todo", timeout=LONG)
    expect(board.locator(f"#card-{key}")).to_have_count(0, timeout=LONG)


def test_register__says_what_is_wrong_and_what_to_do(studio, browse):
    page = browse(f"{studio.url}/projects/register/")
    page.get_by_label("Path").fill("/no/such/folder")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    good = studio.repository("by hand", branch="master")
    page.get_by_label("Path").fill(str(good))
    page.get_by_role("button", name="Register").click()
    expect(page).to_have_url(re.compile("/board/"))


def test_hostile_text__is_shown_and_does_nothing(studio, project, browse):
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    key = studio.task(project, evil[:190], f"{evil}\n\n[x](javascript:alert(1))", start=False)["key"]
    board = browse(f"{studio.url}/projects/{project['key']}/board/")
    in_column(board, key, "todo")
    page = browse(f"{studio.url}/tasks/{key}/")
    expect(page.get_by_text("onerror").first).to_be_visible()
    assert "owned" not in page.title() + board.title() or "onerror" in page.title()
    assert page.evaluate("document.title") != "owned"


def test_admin__lists_follow_the_run_without_a_reload(studio, project, browse):
    first = studio.task(project, "The first", script(), start=False)["key"]
    tasks = browse(f"{studio.url}/admin/tasks/task/?q={project['key']}-")
    sessions = browse(f"{studio.url}/admin/sessions_app/agentsession/?q={project['key']}-")
    studio.post(f"/tasks/{first}/start")
    for page in (tasks, sessions):  # the first row of an empty list
        expect(page.locator("#result_list tbody tr", has_text=first)).to_be_visible(timeout=LONG)
        page.evaluate("window.neverReloaded = true")
    tasks.locator("#result_list tbody tr", has_text=first).locator("input").check()
    second = studio.task(project, "The second", script())["key"]
    row = tasks.locator("#result_list tbody tr", has_text=second)
    expect(row.locator(".field-status")).to_have_text("Plan review", timeout=LONG)
    expect(row.locator(".field-run_state")).to_have_text("Waiting for you", timeout=LONG)
    turn = sessions.locator("#result_list tbody tr", has_text=second).locator(".field-turn_state")
    expect(turn).to_have_text("completed", timeout=LONG)
    expect(tasks.locator("#result_list tbody tr", has_text=first).locator("input")).to_be_checked()
    assert all(page.evaluate("window.neverReloaded") for page in (tasks, sessions))
