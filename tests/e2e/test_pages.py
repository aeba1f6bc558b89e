"""What the pages' scripts do, in a real browser on a whole studio: streaming, morphing, filters, keys, looks."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import LONG, Person, chromium
from tests.e2e.scripts import PLAN, bash, script, write

pytestmark = pytest.mark.real

TALK = "I looked at the repository, and **this** is what I found. " * 12


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def somebody(studio, browser):
    link = studio.manage("loginlink").split()[-1]  # the printed one works once, and belongs to the story
    return Person(browser, studio.url, link)


@pytest.fixture
def person(somebody):
    somebody.errors.clear()
    yield somebody
    somebody.leave()
    assert somebody.errors == []


def talking(pace: float = 0.05, **phases):
    """A task whose planner talks for a while before it hands in its plan."""
    planning = [[{"text": TALK, "chunk": 9, "pace": pace, "plan": PLAN["plan"]}]]
    return script(**{"planning": planning, **phases})


SILENT = (
    """window.WebSocket = class { static OPEN = 1; constructor() { window.socket = this; } send() {} close() {} };"""
)


@pytest.mark.parametrize("ending", ["nothing comes", "it fails"])
def test_connection__is_neither_there_nor_lost_until_one_can_say(studio, project, person, ending):
    page = person.open("/projects/")
    page.clock.install()
    page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))  # its time passes when the test says so
    page.add_init_script(SILENT)  # a server that neither accepts nor refuses
    page.goto(f"{studio.url}/projects/{project['key']}/board/")
    light = page.locator(".live")
    expect(light).to_have_text("Connecting…")
    expect(light).to_have_attribute("data-state", "connecting")
    page.wait_for_function("window.socket")
    if ending == "it fails":
        page.evaluate("window.socket.onclose({ code: 1006 })")
    else:
        page.clock.fast_forward(2_500)
        expect(light).to_have_text("Connecting…")
        page.clock.fast_forward(1_000)
        expect(page.locator("#offline")).to_be_visible()
    expect(light).to_have_text("Offline")


def test_transcript__streams_as_text_and_becomes_what_was_written(studio, project, person):
    key = studio.task(project, "Talk", talking(), start=False)["key"]
    task = person.task(key, tab="transcript")
    studio.post(f"/tasks/{key}/start")  # the page is there before the first word
    expect(task.page.locator(".e-live")).to_contain_text("I looked at the repository", timeout=LONG)
    expect(task.page.locator(".e-live")).to_contain_text("**this**")
    task.expect_now("The plan is ready")
    task.tab("Transcript")
    expect(task.page.locator(".e-text strong").first).to_have_text("this")
    expect(task.page.locator(".e-live")).to_have_count(0)
    expect(task.page.locator(".e-turn_settled")).to_contain_text("Finished", timeout=LONG)
    line = task.page.locator(".e-tool_finished", has_text="submit plan")
    line.locator("summary").click()
    expect(line.locator("pre").first).to_contain_text("Write `result.txt`.")


def test_transcript__catches_up_after_the_connection_was_cut(studio, project, person):
    key = studio.task(project, "Talk on", talking(pace=0.12), start=False)["key"]
    task = person.task(key, tab="transcript")
    studio.post(f"/tasks/{key}/start")
    expect(task.page.locator(".e-live")).to_be_visible(timeout=LONG)
    studio.kill("daphne")
    expect(task.page.locator("#offline")).to_be_visible()
    expect(task.page.locator(".live")).to_have_text("Live", timeout=LONG)
    task.expect_now("The plan is ready")
    expect(task.page.locator(".e-text strong").first).to_have_text("this", timeout=LONG)
    expect(task.page.locator(".e-turn_settled")).to_have_count(1, timeout=LONG)
    numbers = task.page.locator(".e").evaluate_all("entries => entries.map(one => one.dataset.seq)")
    assert len(numbers) == len(set(numbers))


def test_transcript__stays_where_one_reads(studio, project, person):
    lines = [bash(f"seq {n} {n + 3}") for n in range(12)]
    key = studio.task(project, "Do much", talking(planning=[[PLAN]], implementation=[[*lines, write("done\n")]]))["key"]
    studio.wait_status(key, "planning_review")
    task = person.task(key)
    task.page.set_viewport_size({"width": 1200, "height": 640})
    task.page.get_by_role("button", name="Approve the plan").click()
    expect(task.page.locator(".e-tool_finished").nth(2)).to_be_attached(timeout=LONG)
    studio.wait_status(key, "review")
    task.tab("Transcript")
    task.page.get_by_role("link", name="Work").click()
    expect(task.page.locator(".e-tool_finished")).to_have_count(13)
    below = "log => -log.scrollTop"
    expect(task.page.locator(".latest")).to_be_hidden()
    assert task.log.evaluate(below) < 2
    task.log.evaluate("log => { log.scrollTop = -log.scrollHeight; }")
    assert task.log.evaluate(below) > 100
    expect(task.page.locator(".latest")).to_be_visible()
    task.page.get_by_role("link", name="Plan", exact=True).last.click()
    expect(task.page.locator(".e-turn_started")).to_have_count(1)
    expect(task.page.locator(".e-tool_finished", has_text="submit plan")).to_have_count(1)


class FailOnce:
    """A route whose first request fails."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, route) -> None:
        self.asked += 1
        if self.asked == 1:
            route.abort()
        else:
            route.continue_()


class SlowReader:
    """A page's connection to the feed; `fall_behind` does what the server does with a topic that is not read."""

    def __init__(self, page) -> None:
        self.ended = ""
        page.route_web_socket("**/ws/feed/", self._join)

    def _join(self, socket) -> None:
        self.socket = socket
        server = socket.connect_to_server()
        socket.on_message(lambda text: self._asked(server, text))
        server.on_message(self._told)

    def _asked(self, server, text: str) -> None:
        if self.ended in json.loads(text).get("topics", ()):
            self.ended = ""
        server.send(text)

    def _told(self, text: str) -> None:
        frames = json.loads(text).get("frames", [json.loads(text)])
        left = [one for one in frames if not self.ended or one.get("topic") != self.ended]
        if left:
            self.socket.send(json.dumps({"type": "batch", "frames": left}))

    def fall_behind(self, topic: str) -> None:
        """The page has missed what comes next of the topic, and is told to read anew."""
        self.ended = topic
        self.socket.send(json.dumps({"type": "resync", "topic": topic, "seq": 0}))


def test_pages__are_read_again_when_that_failed(studio, project, person):
    key = studio.task(project, "As it was", script(), start=False)["key"]
    task = person.task(key)
    reading = FailOnce()
    task.page.route(f"**/tasks/{key}/", reading)
    studio.call("PATCH", f"/tasks/{key}", {"title": "As it is"})
    expect(task.page.locator("h1")).to_contain_text("As it is")
    assert reading.asked >= 2

    board = person.open("/projects/")
    connection, reading = SlowReader(board), FailOnce()
    board.goto(f"{studio.url}/projects/{project['key']}/board/")
    expect(board.locator(".live")).to_have_text("Live")
    board.route(f"**/projects/{project['key']}/board/", reading)
    connection.fall_behind(f"project:{project['id']}")
    other = studio.task(project, "Made while nobody listened", start=False)["key"]
    expect(board.locator(f"#card-{other}")).to_be_visible()
    assert reading.asked == 1


def test_words__survive_what_happens_elsewhere(studio, project, person):
    key = studio.task(project, "Write it", script(), start=False)["key"]
    task = person.task(key)
    form = task.ask("edit")
    words = f"My words\n\n{script()}"
    form.get_by_label("Description").fill(words)
    studio.call("PATCH", f"/tasks/{key}", {"title": "Write this", "description": f"Their words\n\n{script()}"})
    expect(task.page.locator("h1")).to_contain_text("Write this")
    expect(form).to_contain_text("This has changed since you began to write.")
    expect(form.get_by_label("Description")).to_have_value(words)
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("was changed meanwhile")
    expect(form.get_by_label("Description")).to_have_value(words)
    studio.post(f"/tasks/{key}/start")
    expect(form).to_contain_text("This is not possible any more.")
    expect(form.get_by_label("Description")).to_have_value(words)
    expect(form.get_by_role("button", name="Save")).to_be_hidden()
    form.get_by_role("button", name="Discard my words").click()
    expect(form).to_have_count(0)

    task.expect_now("The plan is ready")
    other, form = task.ask("reject_plan"), task.ask("cancel")
    form.locator("textarea").fill("half a sentence")
    task.ask("reject_plan")
    other.locator("textarea").fill("Twice more.")
    studio.post(f"/tasks/{key}/reject_plan", {"feedback": "Once more."})
    expect(task.page.locator(".tabs")).to_contain_text("v2", timeout=LONG)
    task.expect_now("The plan is ready")
    expect(other.locator("textarea")).to_have_value("Twice more.")
    expect(other.get_by_role("button", name="Send back")).to_be_visible()
    expect(other).not_to_contain_text("not possible any more")
    task.ask("cancel")
    expect(form.locator("textarea")).to_have_value("half a sentence")
    form.locator("textarea").press("Control+Enter")
    task.expect_now("Cancelled")
    expect(task.now).to_contain_text("half a sentence")


def test_words__survive_other_tabs_and_what_one_does_elsewhere(studio, project, person):
    key = studio.task(project, "Write on", script(), start=False)["key"]
    task = person.task(key)
    edit = task.ask("edit")
    words = f"My words\n\n{script()}"
    expect(edit.locator("summary")).to_have_accessible_name("Edit")
    edit.get_by_label("Description").fill(words)
    task.tab("History")
    studio.call("PATCH", f"/tasks/{key}", {"title": "Write more"})
    expect(task.page.locator("h1")).to_contain_text("Write more")
    task.tab("Task")
    expect(edit.get_by_label("Description")).to_have_value(words)
    expect(edit).to_contain_text("This has changed since you began to write.")
    task.now.get_by_role("button", name="Start").click()
    task.expect_now("The plan is ready")
    task.tab("Task")
    expect(edit.get_by_label("Description")).to_have_value(words)
    expect(edit).to_contain_text("This is not possible any more.")

    task.tab("Commands")
    command = task.page.locator("#cmd-text")
    command.fill("make te")
    reject = task.ask("reject_plan")
    reject.locator("textarea").fill("Once more.")
    task.tab("Plan")
    reject.get_by_role("button", name="Send back").click()
    expect(task.page.locator(".tabs")).to_contain_text("v2", timeout=LONG)
    task.expect_now("The plan is ready")
    expect(reject).not_to_have_attribute("open", "")
    expect(reject.locator("textarea")).to_have_value("")
    task.tab("Commands")
    expect(command).to_have_value("make te")
    task.tab("Task")
    expect(edit.get_by_label("Description")).to_have_value(words)


def test_feedback__is_asked_for_at_its_field(studio, project, person):
    key = studio.task(project, "Write it", script())["key"]
    studio.wait_status(key, "planning_review")
    task = person.task(key)
    form = task.ask("reject_plan")
    form.get_by_role("button", name="Send back").click()
    expect(form.get_by_role("alert")).to_contain_text("Say what is wrong with the plan")
    form.locator("textarea").fill("Say more.")
    form.get_by_role("button", name="Send back").click()
    expect(task.page.locator(".flash")).to_contain_text("Sent back")
    expect(task.page.locator(".tabs")).to_contain_text("v2", timeout=LONG)


def test_two_people__the_second_is_told_and_sees_what_is_true(studio, project, person):
    key = studio.task(project, "Only once", script(), start=False)["key"]
    board = person.board(project)
    task = person.task(key)
    board.page.evaluate("document.querySelector('live-board').leave()")  # it hears nothing, as after a cut
    task.page.get_by_role("button", name="Start").click()
    expect(task.page.get_by_role("button", name="Start")).to_have_count(0)  # it was taken: the board comes second
    board.expect_in(key, "todo")
    board.card(key).get_by_role("button", name="Start").click()
    expect(board.page.locator(".flash.error")).to_contain_text("is not possible while")
    expect(board.column("todo")).to_have_count(0)


def test_board__filter_keys_and_more_cards(studio, project, person):
    for number in range(23):
        studio.task(project, f"Task about {'apples' if number == 5 else 'pears'}", start=False)
    board = person.board(project)
    page = board.page
    expect(board.column("todo")).to_have_count(20)
    page.get_by_role("button", name="Show more (3)").click()
    expect(board.column("todo")).to_have_count(23)
    page.keyboard.press("/")
    page.keyboard.type("apples")
    expect(board.column("todo")).to_have_count(1)
    expect(page.locator("#q")).to_be_focused()
    expect(page).to_have_url(re.compile("q=apples"))
    apples = board.column("todo").get_attribute("id").removeprefix("card-")
    studio.post(f"/tasks/{apples}/cancel", {"reason": "seen through the filter"})
    expect(board.column("todo")).to_have_count(0)
    page.locator("#q").fill("")
    expect(board.column("todo")).to_have_count(20)
    board.column("todo").first.get_by_role("link").focus()
    page.keyboard.press("ArrowDown")
    assert board.focused() == board.column("todo").nth(1).get_attribute("id")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{studio.url}/tasks/{project['key']}-2/")


def test_create__says_what_is_missing_and_goes_on(studio, project, person):
    board = person.board(project)
    page = board.page
    page.keyboard.press("c")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.locator("#create .wrong")).to_contain_text("Give the task a title.")
    page.get_by_label("Create another").check()
    for title in ("First thing", "Second thing"):
        page.get_by_label("What should change?").fill(title)
        page.get_by_role("button", name="Create", exact=True).click()
        expect(page.get_by_label("What should change?")).to_have_value("")
        expect(board.column("todo").filter(has_text=title)).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#create")).to_be_hidden()


def test_changes__a_long_file_opens_when_it_is_asked_for(studio, project, person):
    made = [bash("seq 1 900 > long.txt; echo short > short.txt")]
    key = studio.task(project, "Make files", talking(planning=[[PLAN]], implementation=[made]))["key"]
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")
    studio.wait_status(key, "review")
    page = person.task(key).page
    long = page.locator(".dfile", has_text="long.txt")
    expect(page.locator(".dfile", has_text="short.txt").locator("tr.added")).to_have_count(1)
    expect(long.locator("tr.added")).to_have_count(0)
    page.locator(".dfiles").get_by_role("link", name="long.txt").click()
    expect(long.locator("tr.added")).to_have_count(900)


def test_projects__the_list_moves_too(studio, project, person):
    page = person.open("/projects/")
    mine = page.locator(".project", has=page.get_by_role("link", name=project["name"], exact=True))
    expect(mine).to_contain_text("0 open")
    studio.task(project, "Seen from afar", start=False)
    expect(mine).to_contain_text("1 open")


def test_phone__one_column_at_a_time(studio, project, person):
    key = studio.task(project, "On the phone", start=False)["key"]
    board = person.board(project, width=390, height=844)
    page = board.page
    expect(board.card(key)).to_be_visible()
    page.locator(".switch").get_by_role("link", name="Done").click()
    expect(board.card(key)).to_be_hidden()
    page.reload()
    expect(board.card(key)).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_look__is_changed_and_kept(studio, project, person):
    page = person.open("/projects/")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Change between light and dark").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != before
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_keys__are_shown(studio, project, person):
    board = person.board(project)
    board.page.keyboard.press("?")
    expect(board.page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    board.page.keyboard.press("Escape")
    expect(board.page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_hidden()
