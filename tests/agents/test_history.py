"""What a lost stream carried, asked for again: groups, names, pages, and a server that answers nonsense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.backend import ChildOpened, Entry, Replayed, Skipped
from agents.opencode import history
from agents.opencode.history import NEVER, replay
from agents.opencode.translate import Translator
from studio.kernel.errors import NotFound, Upstream

CAPTURE = Path(__file__).parents[1] / "fixtures" / "opencode" / "full-turn.global.sse"
EVENTS = [json.loads(line[6:]) for line in CAPTURE.read_text().splitlines() if line.startswith("data: ")]
TWINS = [event["payload"]["syncEvent"] for event in EVENTS if event["payload"]["type"] == "sync"]
# The history's own spelling of what the stream calls aggregateID.
DURABLE = [{"aggregate_id": one["aggregateID"], **{k: one[k] for k in ("id", "seq", "type", "data")}} for one in TWINS]
SESSION = DURABLE[0]["aggregate_id"]


class Server:
    """Answers as the real one does: in full for sessions that are not named."""

    def __init__(self, events, sessions=None):
        self.events = events
        self.sessions = sessions
        self.asked: list[dict] = []
        self.paths: list[str] = []
        self.url = "http://127.0.0.1:1"

    def get(self, path, **params):
        self.paths.append(path)
        if path.startswith("/experimental/session"):
            if self.sessions is None:
                raise NotFound("no such address")
            return self.sessions
        parent = path.split("/")[2]
        return [{"id": f"{parent}_kid", "parentID": parent, "title": "Kid"}] if "kid" not in parent else []

    def post(self, path, body):
        assert path == "/sync/history"
        assert all(isinstance(seq, int) and seq >= 0 for seq in body.values())  # or the real one answers 400
        self.asked.append(body)
        return [event for event in self.events if event["seq"] > body.get(event["aggregate_id"], -1)]


def info(session, parent=None):
    return {"id": session, "directory": "/srv/tree", "title": session} | ({"parentID": parent} if parent else {})


def entries(pages):
    return {item.entry.key: item.entry.data for page in pages for item in page.items if isinstance(item, Entry)}


def streamed():
    translator = Translator()
    return {
        item.entry.key: item.entry.data
        for event in EVENTS
        for item in translator.translate(event)
        if isinstance(item, Entry)
    }


def test_history__gives_the_entries_of_the_stream():
    pages = list(replay(Server(DURABLE, [info(SESSION)]), {SESSION: -1}))
    assert entries(pages) == streamed()
    assert pages[-1].seq == DURABLE[-1]["seq"]


def test_history__continues_after_the_cursor():
    last = DURABLE[-1]["seq"]
    pages = list(replay(Server(DURABLE, [info(SESSION)]), {SESSION: last - 8}))
    assert 0 < len(entries(pages)) < len(streamed())
    assert list(replay(Server(DURABLE, [info(SESSION)]), {SESSION: last})) == []


def test_history__large_ones_come_in_pages(monkeypatch):
    monkeypatch.setattr(history, "PAGE_EVENTS", 10)
    pages = list(replay(Server(DURABLE, [info(SESSION)]), {SESSION: -1}))
    assert [page.seq for page in pages] == [*range(10, len(DURABLE), 10), len(DURABLE) - 1]
    assert entries(pages) == streamed()


def test_history__other_sessions_of_the_server_are_named_so_that_they_stay_away(monkeypatch):
    monkeypatch.setattr(history, "GROUP", 1)
    server = Server(DURABLE, [info(SESSION), info("ses_other"), info("ses_foreign")])
    assert entries(list(replay(server, {SESSION: 3, "ses_other": 5}))) != {}
    assert server.asked == [
        {SESSION: 3, "ses_other": NEVER, "ses_foreign": NEVER},
        {SESSION: NEVER, "ses_other": 5, "ses_foreign": NEVER},
    ]


def test_history__new_sub_agents_come_first_each_after_its_parent():
    sessions = [info("ses_grand", "ses_kid"), info("ses_kid", SESSION), info(SESSION), info("ses_x", "ses_y")]
    server = Server(DURABLE, sessions)
    pages = list(replay(server, {SESSION: 3}))
    assert [page.items for page in pages[:2]] == [
        [ChildOpened("ses_kid", SESSION, "ses_kid")],
        [ChildOpened("ses_grand", "ses_kid", "ses_grand")],
    ]
    assert server.asked == [{SESSION: 3, "ses_kid": 0, "ses_grand": 0, "ses_x": NEVER}]


def test_history__a_sub_agent_that_is_named_is_not_announced_again():
    server = Server(DURABLE, [info("ses_kid", SESSION), info(SESSION)])
    assert list(replay(server, {SESSION: NEVER, "ses_kid": 4})) == []
    assert server.asked == [{SESSION: NEVER, "ses_kid": 4}]


def test_history__without_a_list_of_sessions_children_are_asked_for():
    pages = list(replay(Server([], None), {SESSION: 3}))
    assert pages == [Replayed(f"{SESSION}_kid", -1, [ChildOpened(f"{SESSION}_kid", SESSION, "Kid")])]


def test_history__a_session_that_is_its_own_parent_ends_the_search():
    assert list(replay(Server([], [info(SESSION, SESSION)]), {SESSION: 3})) == []


@pytest.mark.parametrize("answer", [None, {}, 7])
def test_history__nonsense_is_an_upstream_error(answer):
    server = Server([], [info(SESSION)])
    server.post = lambda path, body: answer
    with pytest.raises(Upstream):
        list(replay(server, {SESSION: 3}))


def test_history__events_that_cannot_be_read_are_counted_and_the_rest_comes():
    rubbish = [7, {}, {"aggregate_id": SESSION, "seq": None}, {"aggregate_id": 5, "seq": 3}]
    server = Server(DURABLE, [info(SESSION)])
    server.post = lambda path, body: [*rubbish, *DURABLE]
    pages = list(replay(server, {SESSION: -1}))
    assert pages[0].items == [Skipped("malformed")] * 4
    assert entries(pages) == streamed()
