"""A permission, a sub-agent's permission and a question, answered through the API and on the page, in a whole studio.

Each is asked three times: answered at once; answered after the studio's processes were killed while it waited, with the
agent server alive; and answered after the whole studio was stopped and started again, agent server included. The three wait
side by side, so that one kill and one start meet them all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from playwright.sync_api import expect

from tests.e2e.browser import LONG, Person, chromium
from tests.e2e.scripts import script, write
from tests.e2e.studio_process import Studio

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]  # the first test waits for the story of three tasks

WAIT_SECONDS = 120
OUTSIDE = {"tools": [{"name": "read", "args": {"filePath": "/etc/hostname"}}]}
QUESTION = {
    "tools": [
        {
            "name": "question",
            "args": {
                "questions": [
                    {
                        "question": "Which database?",
                        "header": "Database",
                        "options": [
                            {"label": "SQLite", "description": "a file"},
                            {"label": "Postgres", "description": ""},
                        ],
                    }
                ]
            },
        }
    ]
}
SUB_AGENT = {
    "tools": [
        {
            "name": "task",
            "args": {
                "description": "Look around",
                "prompt": f"Look.\n\n```practice\n{json.dumps([OUTSIDE, {'text': 'Seen.'}])}\n```\n",
                "subagent_type": "general",
            },
        }
    ]
}
KINDS = {"permission": OUTSIDE, "sub-agent": SUB_AGENT, "question": QUESTION}


@pytest.fixture(scope="module")
def asking():
    studio = Studio("--no-sample")
    try:
        yield studio.start()
    finally:
        studio.close()


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


def waiting(studio, key, besides=()):
    """The task's pending ask, once there is one that is not among `besides`."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        for ask in studio.get(f"/tasks/{key}/asks?limit=200")["results"]:
            if ask["state"] == "pending" and ask["id"] not in besides:
                return ask
        time.sleep(0.1)
    raise AssertionError(f"nothing is asked\n{studio.get(f'/tasks/{key}')}\n{studio.log_tail()}")


def kill_the_studio(studio):
    """kill -9 of everything that is the studio's own; the agent server lives on."""
    parts = (("manage.py", "bridge"), ("celery", "worker"), ("celery", "beat"), ("daphne",))
    victims = [studio.kill(*words) for words in parts]
    assert all(victims)
    psutil.wait_procs([one for found in victims for one in found], timeout=10)
    until_it_answers(studio)


def restart_the_studio(studio):
    """Ctrl-C, and `up` again on the same data."""
    studio.stop()
    studio.start()


def until_it_answers(studio):
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            if studio.http.get(f"{studio.url}/readyz", timeout=5).ok:
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the studio did not come back")


class Case:
    """A task whose implementer asks three times. What goes wrong in it is its own test's business."""

    def __init__(self, studio: Studio, name: str, kind: str, answer: Callable[[Studio, Any], None]) -> None:
        self.studio, self.kind, self.answer = studio, kind, answer
        step = KINDS[kind]
        self.project = studio.project(studio.repository(f"{name} {kind}"))
        description = script(implementation=[[step, step, step, write("done\n")]])
        self.key = studio.task(self.project, f"Ask {name} {kind}", description)["key"]
        self.asks: list[dict[str, Any]] = []
        self.trouble: Exception | None = None

    def approve(self) -> None:
        self.studio.wait_status(self.key, "planning_review")
        self.studio.post(f"/tasks/{self.key}/approve_plan")

    def ask(self) -> None:
        """Something is asked that was not asked before."""
        self.asks.append(waiting(self.studio, self.key, {ask["id"] for ask in self.asks}))

    def card(self) -> None:
        task = self.studio.wait(self.key, lambda task: task["needs"] == "answer")
        assert (task["status"], task["run_state"]) == ("in_progress", "waiting")
        assert "stop" in task["actions"]

    def still(self) -> None:
        """The same is still asked."""
        earlier = {ask["id"] for ask in self.asks[:-1]}
        assert waiting(self.studio, self.key, earlier)["id"] == self.asks[-1]["id"]

    def again(self) -> None:
        """It is asked again by the run that takes the place of the one that died."""
        self.ask()
        lost, anew = self.asks[-2:]
        assert anew["title"] == lost["title"]
        assert self.studio.get(f"/asks/{lost['id']}")["state"] == "lost"

    def reply(self) -> None:
        self.answer(self.studio, self.asks[-1])

    def review(self) -> None:
        self.studio.wait_status(self.key, "review", seconds=WAIT_SECONDS)
        states = [ask["state"] for ask in self.studio.get(f"/tasks/{self.key}/asks")["results"]]
        assert sorted(states) == ["answered", "answered", "answered", "lost"]
        assert self.studio.get(f"/asks?state=pending&project={self.project['id']}")["results"] == []


def each(cases: list[Case], *steps: Callable[[Case], None]) -> None:
    """Take every case through the steps, but for those in which something went wrong."""
    for step in steps:
        for case in cases:
            if case.trouble is None:
                try:
                    step(case)
                except Exception as trouble:
                    case.trouble = trouble


def asked_and_answered(studio: Studio, name: str, answer: Callable[[Studio, Any], None]) -> dict[str, Case]:
    """Each kind is asked three times, the second time across a kill, the third time across a restart, to its review."""
    cases = [Case(studio, name, kind, answer) for kind in KINDS]
    each(cases, Case.approve, Case.ask, Case.card, Case.reply, Case.ask)
    kill_the_studio(studio)
    each(cases, Case.still, Case.reply, Case.ask)
    restart_the_studio(studio)
    each(cases, Case.again, Case.reply, Case.review)
    return {case.kind: case for case in cases}


@pytest.fixture(scope="module")
def by_api(asking):
    """The cases, answered through the API."""

    def answer(studio, ask):
        body = {"answers": [["SQLite", "It is enough."]]} if ask["kind"] == "question" else {"reply": "once"}
        answered = studio.post(f"/asks/{ask['id']}/answer", body)
        assert answered["state"] == "answered"
        late = studio.post(f"/asks/{ask['id']}/answer", body, status=409)
        assert late["error"]["code"] == "already_answered"

    return asked_and_answered(asking, "api", answer)


@pytest.fixture(scope="module")
def by_page(asking, browser):
    """The cases, answered on the page of everything that waits."""

    def answer(studio, ask):
        person = Person(browser, studio.url, studio.manage("loginlink").split()[-1])
        page = person.open("/waiting/")
        card = page.locator(f"#ask-{ask['id']}")
        expect(card).to_be_visible(timeout=LONG)
        if ask["kind"] == "question":
            card.get_by_label("SQLite").check()
            card.get_by_role("button", name="Answer", exact=True).click()
        else:
            assert "/etc/hostname" in card.inner_text()
            card.get_by_role("button", name="Allow once").click()
        expect(card.get_by_role("button")).to_have_count(0, timeout=LONG)
        person.leave()
        assert studio.get(f"/asks/{ask['id']}")["state"] == "answered"
        assert person.errors == []

    return asked_and_answered(asking, "page", answer)


def check(case: Case) -> None:
    if case.trouble is not None:
        raise case.trouble


@pytest.mark.parametrize("kind", KINDS)
def test_api__answers(by_api, kind):
    check(by_api[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_page__answers(by_page, kind):
    check(by_page[kind])
