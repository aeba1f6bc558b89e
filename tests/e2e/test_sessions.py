"""Talking to an agent at work, and what happens when its provider or its server's memory fails: on a whole studio."""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import LONG, Person, chromium
from tests.e2e.scripts import bash, gate, script, write
from tests.e2e.studio_process import Studio

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def studio():
    running = Studio("--no-sample")
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def begin(studio, request):
    """A task in implementation with these steps; (key, id of the implementer's session)."""

    def begin(*steps):
        name = request.node.name.replace("_", "-")[:40]
        key = studio.task(studio.project(studio.repository(name)), name, script(implementation=[list(steps)]))["key"]
        studio.wait_status(key, "planning_review")
        studio.post(f"/tasks/{key}/approve_plan")
        return key, wait_for(studio, lambda: session_of(studio, key, "implementer"))

    return begin


def wait_for(studio, check, seconds=90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(studio.log_tail())


def session_of(studio, key, role):
    found = [one["id"] for one in studio.get(f"/tasks/{key}/sessions")["results"] if one["role"] == role]
    return found[-1] if found else None


def asked(studio, key):
    """(phase, round, step) that the practice model answered in full for the task, in order."""
    return [
        (line["phase"], line["round"], line["step"])
        for line in studio.practice_log()
        if line["outcome"] == "served" and line["task"] == key
    ]


def until_step(studio, key, step):
    wait_for(studio, lambda: ("implementation", 1, step) in asked(studio, key))


def kinds(studio, session):
    return [event["kind"] for event in studio.get(f"/sessions/{session}/events?limit=500")["results"]]


def own(*steps):
    """A message with steps of its own."""
    return f"Do this.\n\n```practice\n{json.dumps(list(steps))}\n```\n"


def turns_of(studio, session):
    return studio.get(f"/sessions/{session}")["turns"]


def test_steer__changes_what_the_agent_does_next(studio, begin):
    key, session = begin(gate(), write("two\n", "two.txt"), {"text": "All done."})
    until_step(studio, key, 0)
    sent = studio.post(f"/sessions/{session}/inbox", {"text": own(write("s\n", "steered.txt")), "delivery": "steer"})
    wait_for(studio, lambda: "inbox.delivered" in kinds(studio, session))
    studio.open_gate(key)
    studio.wait_status(key, "review")
    assert [one for one in asked(studio, key) if one[0] in ("implementation", "message")] == [
        ("implementation", 1, 0),
        ("message", 1, 0),
        ("implementation", 1, 1),
        ("implementation", 1, 2),
    ]
    files = {file["new_path"] for file in studio.get(f"/tasks/{key}/diff")["files"]}
    assert {"steered.txt", "two.txt"} <= files
    events = studio.get(f"/sessions/{session}/events?limit=500")["results"]
    assert [event["data"]["item"] for event in events if event["kind"] == "inbox.delivered"] == [sent["id"]]


def test_queue__runs_in_order_before_the_phase_ends_and_a_removed_message_never_runs(studio, begin):
    key, session = begin(gate(), {"text": "All done."})
    until_step(studio, key, 0)
    items = [
        studio.post(f"/sessions/{session}/inbox", {"text": f"Message {n}. " + own(write(f"{n}\n", f"{n}.txt"))})
        for n in range(1, 5)
    ]
    studio.call("DELETE", f"/inbox/{items[1]['id']}")
    studio.open_gate(key)
    studio.wait_status(key, "review")
    heard = [line["message"][:9] for line in studio.practice_log() if line["task"] == key and line["message"]]
    assert list(dict.fromkeys(heard)) == ["Message 1", "Message 3", "Message 4"]
    assert [turn["outcome"] for turn in turns_of(studio, session)] == ["completed"] * 4
    files = {file["new_path"] for file in studio.get(f"/tasks/{key}/diff")["files"]}
    assert files == {"go", "1.txt", "3.txt", "4.txt"}


def test_follow_up__after_the_phase_goes_on_in_the_session_and_its_change_is_kept(studio, begin):
    key, session = begin(write("one\n", "one.txt"), {"text": "All done."})
    studio.wait_status(key, "review")
    studio.post(f"/sessions/{session}/inbox", {"text": own(write("more\n", "more.txt"), {"text": "Added."})})
    wait_for(studio, lambda: [turn["outcome"] for turn in turns_of(studio, session)] == ["completed"] * 2)

    def shown():
        diff = studio.get(f"/tasks/{key}/diff")
        return {file["new_path"] for file in diff["files"]} == {"one.txt", "more.txt"}

    wait_for(studio, shown)
    assert studio.get(f"/tasks/{key}")["status"] == "review"


def test_follow_up__is_stopped_on_the_tasks_page_before_the_merge(studio, begin):
    key, session = begin(write("one\n", "one.txt"), {"text": "All done."})
    studio.wait_status(key, "review")
    with chromium() as browser:
        person = Person(browser, studio.url, studio.manage("loginlink").split()[-1])
        page, mark = person.task(key).page, person.board({"key": key.split("-")[0]}).card(key).locator(".mark")
        merge, now = page.get_by_role("button", name="Approve and merge"), page.locator("#now")
        expect(merge).to_be_visible(timeout=LONG)
        now.get_by_label("Squash").check()
        studio.post(f"/sessions/{session}/inbox", {"text": own(write("half", "half.txt"), bash("sleep 200"))})
        expect(now.locator("h2")).to_contain_text("An agent is at work on your message", timeout=LONG)
        expect(mark).to_contain_text("On a message", timeout=LONG)
        expect(merge).to_have_count(0)
        wait_for(studio, lambda: kinds(studio, session).count("tool.started") > 1)
        now.get_by_role("button", name="Stop the agent").click()
        expect(merge).to_be_visible(timeout=LONG)
        expect(mark).to_contain_text("Review change", timeout=LONG)
        expect(now.get_by_label("Squash")).to_be_checked()
        merge.click()
        studio.wait_status(key, "done")
    assert studio.get(f"/tasks/{key}")["completed_how"] == "squash"
    assert turns_of(studio, session)[-1]["outcome"] == "aborted"


def test_interrupt__with_a_message_goes_on_with_it_in_the_same_run(studio, begin):
    key, session = begin(bash("sleep 200"), {"text": "Never said."})
    wait_for(studio, lambda: "tool.started" in kinds(studio, session))
    studio.post(f"/sessions/{session}/interrupt", {"text": own(write("other\n", "other.txt"), {"text": "Did it."})})
    studio.wait_status(key, "review")
    assert [turn["outcome"] for turn in turns_of(studio, session)] == ["aborted", "completed"]
    assert len(studio.get(f"/tasks/{key}/runs")["results"]) == 3  # planning, implementation, review


def test_rate_limit__shows_the_next_try_on_the_card_and_goes_on_by_itself(studio, begin):
    fault = {"kind": "status", "status": 429, "retry_after": "30", "times": 1}
    key, session = begin(write("one\n", "one.txt"), write("two\n", "two.txt", fault=fault), {"text": "Done."})
    told = studio.wait(key, lambda task: "next try" in task["reason"].lower())
    assert told["run_state"] == "running"
    turn = turns_of(studio, session)[-1]
    assert turn["retry_note"]
    assert datetime.fromisoformat(turn["retry_at"]) > datetime.now(UTC)
    studio.wait_status(key, "review")
    assert "next try" not in studio.get(f"/tasks/{key}")["reason"].lower()
    assert "retry" in kinds(studio, session)


def test_server_that_lost_its_memory__leaves_the_decision_to_a_person(studio, begin):
    key, session = begin(write("one\n", "one.txt"), bash("sleep 300"), write("two\n", "two.txt"))
    until_step(studio, key, 1)
    studio.kill("opencode", "serve")
    shutil.rmtree(studio.data / "opencode" / "data" / "opencode", ignore_errors=True)
    lost = studio.wait(key, lambda task: task["needs"] == "unknown")
    assert lost["run_state"] == "waiting"
    assert turns_of(studio, session)[-1]["state"] == "unknown"
    studio.kill("sleep", "300")
    studio.post(f"/sessions/{session}/turns/1/retry")
    studio.wait(key, lambda task: task["run_state"] == "running")
    wait_for(studio, lambda: [turn["state"] for turn in turns_of(studio, session)] == ["running"])
    studio.post(f"/tasks/{key}/stop")
    studio.wait(key, lambda task: task["run_state"] == "stopped")
