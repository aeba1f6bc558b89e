"""A session's page in a real browser: a long log, following it live, writing to the agent, answering it, on any screen."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from bench.session_page import other
from tests.e2e.browser import LONG, Person, chromium
from tests.e2e.scripts import PLAN, bash, gate, script, write

pytestmark = pytest.mark.real

EVENTS = 1_500
BELOW = "log => -log.scrollTop"
SEEN = "() => [...document.querySelectorAll('.roll > .entries > .e')].find((e) => e.getBoundingClientRect().bottom > 300).id"
TOP_OF = "([id]) => document.getElementById(id)?.getBoundingClientRect().top ?? null"
LAST = "() => Number([...document.querySelectorAll('.entries[data-last]')].at(-1).dataset.last)"


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def somebody(studio, browser):
    return Person(browser, studio.url, studio.manage("loginlink").split()[-1])


@pytest.fixture
def person(somebody):
    somebody.errors.clear()
    yield somebody
    somebody.leave()
    assert somebody.errors == []


@pytest.fixture(scope="session")
def long_session(studio):
    """A session with a long log and a turn that counts as being at work."""
    with other(studio, "--fill", "--events", str(EVENTS)) as filler:
        return filler.communicate(timeout=120)[0].strip().splitlines()[-1]


def grow(studio, session, first, count):
    """Let the log of a generated session grow."""
    with other(studio, "--live", session, "--first", str(first), "--events", str(count)) as writer:
        assert writer.wait(120) == 0


def opened(person, session, **options):
    page = person.open(f"/sessions/{session}/", **options)
    expect(page.locator(".live")).to_have_text("Live")
    return page


def at_rest(page):
    """Wait until the wheel's scrolling has ended: two looks, a tenth of a second apart, find the log at the same place."""
    page.wait_for_function(
        """() => {
            const [log, now] = [document.querySelector(".log"), performance.now()];
            if (window.stood?.top !== log.scrollTop) window.stood = { top: log.scrollTop, since: now };
            return now - window.stood.since > 100;
        }"""
    )


def expect_end(page):
    """The log comes to stand at its end."""
    page.wait_for_function(f"() => ({BELOW})(document.querySelector('.log')) === 0")


def first_covered(page):
    return int(page.locator(".entries").first.get_attribute("data-first"))


# ---- a long log


def test_long_log__opens_at_its_end_and_reads_back_without_jumping(person, long_session):
    page = opened(person, long_session)
    expect_end(page)
    assert page.evaluate(LAST) >= EVENTS
    while first_covered(page) > EVENTS - 900:
        page.locator(".log").evaluate("log => { log.scrollTop -= 500; }")
        mark = page.evaluate(SEEN)
        top = page.evaluate(TOP_OF, [mark])
        page.wait_for_timeout(250)
        assert abs(page.evaluate(TOP_OF, [mark]) - top) < 100  # what came in above does not move it
    assert page.locator(".log .e").count() <= 520
    still = page.evaluate(SEEN)
    top = page.evaluate(TOP_OF, [still])
    page.wait_for_timeout(600)
    assert abs(page.evaluate(TOP_OF, [still]) - top) < 2
    page.locator(".latest").click()
    page.wait_for_function(f"() => ({LAST})() >= {EVENTS}")
    expect_end(page)


def test_long_log__goes_to_its_start_and_back_down(person, long_session):
    page = opened(person, long_session)
    page.locator(".log").evaluate("log => { log.scrollTop = -log.scrollHeight; }")
    page.get_by_role("link", name="Go to the start").click()
    page.wait_for_function("() => document.querySelector('.entries').dataset.first === '1'")
    expect(page.get_by_role("link", name="Go to the start")).to_be_hidden()
    expect(page.locator(".latest")).to_be_visible()
    page.locator(".log").hover()
    while page.evaluate(LAST) < 1_100:
        page.mouse.wheel(0, 3_000)
        page.wait_for_timeout(40)
    assert page.locator(".log .e").count() <= 520
    assert first_covered(page) > 1
    numbers = page.locator(".log .e").evaluate_all("entries => entries.map((one) => one.id)")
    assert len(numbers) == len(set(numbers))


def test_long_log__is_followed_at_its_end_and_waits_for_whoever_reads(studio, person, long_session):
    page = opened(person, long_session)
    begin = page.evaluate(LAST)
    grow(studio, long_session, begin, 400)
    page.wait_for_function(f"() => ({LAST})() >= {begin + 400}", timeout=LONG)
    expect_end(page)
    assert page.locator(".log .e").count() <= 520
    page.locator(".log").hover()
    page.mouse.wheel(0, -400)
    expect(page.locator(".latest")).to_be_visible()
    at_rest(page)
    mark = page.evaluate(SEEN)
    top = page.evaluate(TOP_OF, [mark])
    grow(studio, long_session, begin + 400, 60)
    expect(page.locator(".latest")).to_have_text(re.compile(r"\d+ new"), timeout=LONG)
    page.wait_for_timeout(800)
    assert abs(page.evaluate(TOP_OF, [mark]) - top) < 2
    page.locator(".latest").click()
    page.wait_for_function(f"() => ({LAST})() >= {begin + 460}", timeout=LONG)
    expect_end(page)
    expect(page.locator(".latest")).to_be_hidden()


def test_long_log__news_that_comes_while_one_fetches_is_fetched_too(studio, person, long_session):
    page = opened(person, long_session)
    frames, held = [], []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(str(frame))))
    page.reload()
    expect(page.locator(".live")).to_have_text("Live")
    begin = page.evaluate(LAST)

    def late(route):
        answer = route.fetch()
        if not held:
            held.append(answer)
            grow(studio, long_session, begin + 20, 20)
            while not any(f'"seq":{begin + 40}' in frame.replace(" ", "") for frame in frames):
                page.wait_for_timeout(50)
        route.fulfill(response=answer)

    page.route(re.compile(r"[?&]after="), late)
    grow(studio, long_session, begin, 20)
    page.wait_for_function(f"() => ({LAST})() >= {begin + 40}", timeout=LONG)
    assert held


def test_long_log__who_reads_far_above_is_not_flooded(studio, person, long_session):
    page = opened(person, long_session)
    page.locator(".log").evaluate("log => { log.scrollTop = -log.scrollHeight; }")
    page.get_by_role("link", name="Go to the start").click()
    page.wait_for_function("() => document.querySelector('.entries').dataset.first === '1'")
    held = page.evaluate(LAST)
    end = int(page.locator("live-transcript").get_attribute("data-cursor"))
    grow(studio, long_session, end, 40)
    expect(page.locator(".latest")).to_have_text(re.compile(r"\d+ new"), timeout=LONG)
    page.wait_for_timeout(500)
    assert page.evaluate(LAST) == held
    page.locator(".latest").click()
    page.wait_for_function(f"() => ({LAST})() >= {end + 40}", timeout=LONG)


def test_without_a_script__one_reads_back_and_forth(person, long_session):
    context = person.browser.new_context(storage_state=person.state, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{person.url}/sessions/{long_session}/")
    end = first_covered(page)
    page.get_by_role("link", name="Show earlier").click()
    assert first_covered(page) == end - 100
    page.get_by_role("link", name="Show later").click()
    assert first_covered(page) == end
    page.get_by_label("Message to the agent").fill("Sent without a script")
    page.get_by_role("button", name=re.compile("Send|Queue")).first.click()
    expect(page.locator(".msg, .e").filter(has_text="Sent without a script").first).to_be_visible()


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_screens__nothing_is_wider_than_the_page(person, long_session, width):
    page = opened(person, long_session, width=width, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.get_by_label("Message to the agent")).to_be_in_viewport()
    expect(page.locator(".log .e").last).to_be_in_viewport()


# ---- with a real agent


@pytest.fixture
def at_work(studio, project):
    """Begin an implementation with these steps; (key, id of its session)."""

    def begin(*steps):
        key = studio.task(project, "Talk with me", script(planning=[[PLAN]], implementation=[list(steps)]))["key"]
        studio.wait_status(key, "planning_review")
        studio.post(f"/tasks/{key}/approve_plan")
        studio.wait(key, lambda task: len(studio.get(f"/tasks/{key}/sessions")["results"]) == 2)
        return key, studio.get(f"/tasks/{key}/sessions")["results"][-1]["id"]

    return begin


def test_composer__steers_the_running_turn_and_keeps_drafts(studio, person, at_work):
    key, session = at_work(gate(), write("done\n"))
    page = opened(person, session)
    field = page.get_by_label("Message to the agent")
    field.fill("half a thought")
    expect(page.locator(".draft")).to_contain_text("Draft kept")
    page.reload()
    expect(field).to_have_value("half a thought")
    field.fill("Also write a changelog.")
    page.get_by_role("button", name="Steer now").click()
    expect(field).to_have_value("")
    expect(page.locator(".e-inbox_delivered")).to_have_count(1, timeout=LONG)
    studio.open_gate(key)
    expect(page.locator(".e-user", has_text="Also write a changelog.")).to_have_count(1, timeout=LONG)
    page.reload()
    expect(field).to_have_value("")
    studio.wait_status(key, "review")


def test_composer__waiting_messages_are_changed_and_taken_back(studio, person, at_work):
    key, session = at_work(gate(), write("done\n"))
    page = opened(person, session)
    field = page.get_by_label("Message to the agent")
    for words in ("Write more tests", "Never mind"):
        field.fill(words)
        field.press("Control+Enter")
        expect(page.locator(".msg").filter(has_text=words)).to_have_count(1)
    first = page.locator(".msg").filter(has_text="Write more tests")
    first.get_by_label("Edit the message").click()
    first.locator("textarea").fill("Write many more tests")
    first.get_by_role("button", name="Save").click()
    expect(page.locator(".msg .words").first).to_have_text("Write many more tests")
    page.locator(".msg").filter(has_text="Never mind").get_by_label("Take the message back").click()
    expect(page.locator(".msg")).to_have_count(1)
    page.route("**/inbox/", lambda route: route.abort())
    field.fill("Lost on the way")
    field.press("Control+Enter")
    expect(page.locator(".composer .wrong")).to_contain_text("Your words are still here")
    expect(field).to_have_value("Lost on the way")
    page.unroute("**/inbox/")
    field.press("Control+Enter")
    expect(page.locator(".msg").filter(has_text="Lost on the way")).to_have_count(1)
    expect(page.locator(".composer .wrong")).to_be_hidden()
    studio.open_gate(key)


def test_ask__is_counted_listed_and_answered(studio, person, at_work):
    outside = {"tools": [{"name": "read", "args": {"filePath": "/etc/hostname"}}]}
    elsewhere = person.open("/projects/")
    key, session = at_work(outside, write("done\n"))
    page = opened(person, session)
    card = page.locator(".askcard")
    expect(card).to_contain_text("Implementer asks for permission", timeout=LONG)
    expect(card).to_contain_text("external_directory")
    expect(page.locator(".shead .badge")).to_contain_text("Waiting for you")
    until_it_counts(elsewhere, person)
    elsewhere.get_by_role("link", name="Waiting for you").click()
    listed = elsewhere.locator("#waiting-list > section", has_text=key).locator(".askcard")
    expect(listed).to_have_count(1)
    listed.get_by_label("Why not? The agent reads it").fill("half a reason")
    card.get_by_role("button", name="Allow once").click()
    expect(card).to_have_count(0, timeout=LONG)
    expect(page.locator(".e-ask_answered")).to_contain_text("allowed it once")
    expect(listed).to_have_count(0, timeout=LONG)
    studio.wait_status(key, "review")
    expect(page.locator(".e-tool_finished .state")).to_have_count(0)


def until_it_counts(page, person):
    """The bar comes to say how much waits. Others' tasks in this studio begin and cease to wait too."""
    deadline = time.monotonic() + LONG / 1_000
    while True:
        said = page.locator("waiting-count .count").inner_text()
        waiting = re.search(r'value="(\d+)"', page.request.get(f"{person.url}/waiting/count/").text())[1]
        if said == waiting != "0":
            return
        assert time.monotonic() < deadline, (said, waiting)
        page.wait_for_timeout(100)


def test_ask__the_slower_of_two_is_told(studio, person, at_work):
    outside = {"tools": [{"name": "read", "args": {"filePath": "/etc/hostname"}}]}
    _, session = at_work(outside, write("done\n"))
    page = opened(person, session)
    card = page.locator(".askcard")
    expect(card).to_be_visible(timeout=LONG)
    page.evaluate("document.querySelector('live-transcript').leave()")  # it hears nothing, as after a cut
    ask = card.get_attribute("id").removeprefix("ask-")
    studio.post(f"/asks/{ask}/answer", {"reply": "reject", "message": "Stay inside."})
    card.get_by_role("button", name="Allow once").click()
    expect(card).to_contain_text("Somebody was faster")
    expect(card).to_contain_text("Stay inside.")
    expect(card.get_by_role("button")).to_have_count(0)


def test_tools__failures_are_told_from_successes_while_they_happen(studio, person, at_work):
    key, session = at_work(bash("exit 3"), gate(), write("done\n"))
    page = opened(person, session)
    expect(page.locator(".is-failed .state")).to_have_text("exit 3", timeout=LONG)
    expect(page.locator(".is-running .spin").first).to_be_visible(timeout=LONG)
    studio.open_gate(key)
    studio.wait_status(key, "review")
    expect(page.locator(".e-turn_settled")).to_contain_text("Finished", timeout=LONG)
    expect(page.locator(".is-running")).to_have_count(0)
    expect(page.locator(".is-failed")).to_have_count(1)
