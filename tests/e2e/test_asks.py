"""A permission, a sub-agent's permission and a question, answered through the API and on the page, in a whole studio.

Each is asked three times: answered at once; answered after the studio's processes were killed while it waited, with the
agent server alive; and answered after the whole studio was stopped and started again, agent server included.
"""

from __future__ import annotations

import json
import time

import psutil
import pytest
from playwright.sync_api import expect

from tests.e2e.browser import LONG, Person, chromium
from tests.e2e.scripts import script, write
from tests.e2e.studio_process import Studio

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("asks")]

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


def begin(studio, name, step):
    """A task whose implementer asks three times; its key."""
    folder = studio.repository(name)
    steps = [step, step, step, write("done\n")]
    key = studio.task(studio.project(folder), f"Ask {name}", script(implementation=[steps]))["key"]
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")
    return key


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
    victims = [
        *studio.find("manage.py", "bridge"),
        *studio.find("celery", "worker"),
        *studio.find("celery", "beat"),
        *studio.find("daphne"),
    ]
    assert len(victims) >= 4
    for victim in victims:
        victim.kill()
    psutil.wait_procs(victims, timeout=10)
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


def on_the_card(studio, key):
    task = studio.wait(key, lambda task: task["needs"] == "answer")
    assert (task["status"], task["run_state"]) == ("in_progress", "waiting")
    assert "stop" in task["actions"]


def by_api(studio, ask):
    body = {"answers": [["SQLite", "It is enough."]]} if ask["kind"] == "question" else {"reply": "once"}
    answered = studio.post(f"/asks/{ask['id']}/answer", body)
    assert answered["state"] == "answered"
    late = studio.post(f"/asks/{ask['id']}/answer", body, status=409)
    assert late["error"]["code"] == "already_answered"


def asked_and_answered(studio, key, answer):
    """Three asks, the second one across a kill, the third one across a restart; the task ends in review."""
    first = waiting(studio, key)
    on_the_card(studio, key)
    answer(studio, first)
    second = waiting(studio, key, {first["id"]})
    kill_the_studio(studio)
    assert waiting(studio, key)["id"] == second["id"]
    answer(studio, second)
    third = waiting(studio, key, {first["id"], second["id"]})
    restart_the_studio(studio)
    again = waiting(studio, key, {third["id"]})
    assert again["title"] == third["title"]
    assert studio.get(f"/asks/{third['id']}")["state"] == "lost"
    answer(studio, again)
    studio.wait_status(key, "review", seconds=WAIT_SECONDS)
    states = [ask["state"] for ask in studio.get(f"/tasks/{key}/asks")["results"]]
    assert sorted(states) == ["answered", "answered", "answered", "lost"]
    assert studio.get("/asks?state=pending")["results"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_api__answers(asking, kind):
    key = begin(asking, f"api {kind}", KINDS[kind])
    asked_and_answered(asking, key, by_api)


@pytest.mark.parametrize("kind", KINDS)
def test_page__answers(asking, browser, kind):
    key = begin(asking, f"page {kind}", KINDS[kind])

    def by_page(studio, ask):
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

    asked_and_answered(asking, key, by_page)
