"""A real browser for the end-to-end tests, and the studio's pages as a person uses them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM_BIN", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
LONG = 90_000  # milliseconds: a turn on a busy machine


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Person:
    """Somebody who is signed in and opens pages; what the pages log as errors is collected."""

    def __init__(self, browser: Browser, url: str, login_link: str) -> None:
        self.browser, self.url = browser, url
        self.errors: list[str] = []
        context = browser.new_context()
        page = context.new_page()
        page.goto(login_link)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Projects", exact=True)).to_be_visible()
        self.state = context.storage_state()
        context.close()

    def open(self, path: str, *, width: int = 1440, height: int = 900) -> Page:
        """A page in a browser context of its own."""
        viewport: Any = {"width": width, "height": height}
        page = self.browser.new_context(storage_state=self.state, viewport=viewport).new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if self._matters(said) else None)
        page.goto(f"{self.url}{path}")
        return page

    def board(self, project: dict[str, Any], **options: Any) -> BoardPage:
        """A project's board, following its feed."""
        page = self.open(f"/projects/{project['key']}/board/", **options)
        expect(page.locator(".live")).to_have_text("Live")
        return BoardPage(page)

    def task(self, key: str, tab: str = "") -> TaskPage:
        """A task's page, following its feed."""
        page = self.open(f"/tasks/{key}/" + (f"?tab={tab}" if tab else ""))
        expect(page.locator(".live")).to_have_text("Live")
        return TaskPage(page)

    def leave(self) -> None:
        """Close every page."""
        for context in self.browser.contexts:
            context.close()

    @staticmethod
    def _matters(said: Any) -> bool:
        expected = ("WebSocket", "Failed to load resource")
        return said.type == "error" and not any(words in said.text for words in expected)


class BoardPage:
    """A board."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def card(self, key: str) -> Locator:
        """The card of a task."""
        return self.page.locator(f"#card-{key}")

    def column(self, status: str) -> Locator:
        """The cards of a column."""
        return self.page.locator(f"#col-{status} .card")

    def expect_in(self, key: str, status: str, *, timeout: float = LONG) -> None:
        """The card comes to stand in the column."""
        expect(self.page.locator(f"#card-{key}[data-col='{status}']")).to_be_attached(timeout=timeout)

    def focused(self) -> str:
        """The id of the card that has the focus."""
        return str(self.page.evaluate("document.activeElement.closest('.card')?.id ?? ''"))


class TaskPage:
    """The page of a task."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.now = page.locator("#now")
        self.log = page.locator("live-transcript .log")

    def expect_now(self, words: str, *, timeout: float = LONG) -> None:
        """The panel comes to say so."""
        expect(self.now.locator("h2")).to_contain_text(words, timeout=timeout)

    def tab(self, name: str) -> None:
        """Open a tab."""
        self.page.locator(".tabs").get_by_role("link", name=name).click()
        expect(self.page.locator(".tabs a[aria-current]")).to_contain_text(name)

    def ask(self, action: str) -> Locator:
        """The folded form of an action, opened."""
        form = self.page.locator(f"#ask-{action}")
        if form.get_attribute("open") is None:
            form.locator("summary").click()
        return form
