"""The translation of captured streams and messages: copies of what the real server sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.asks import AskEnded, Option, PermissionAsked, Question, QuestionAsked
from agents.backend import (
    Busy,
    ChildOpened,
    Connected,
    Delta,
    Entry,
    Failed,
    Heartbeat,
    Idle,
    InstanceGone,
    PartReset,
    Retrying,
    Skipped,
)
from agents.opencode.entries import bounded_input, message_entries
from agents.opencode.translate import Translator

CAPTURES = Path(__file__).parents[1] / "fixtures" / "opencode"
DIRECTORY = "/srv/tree"


def events(name):
    """The events of a capture, in the envelope of the global stream."""
    values = [
        json.loads(line.removeprefix("data: "))
        for line in (CAPTURES / name).read_text().splitlines()
        if line.startswith("data: ")
    ]
    return [value if "payload" in value else {"directory": DIRECTORY, "payload": value} for value in values]


def messages(name):
    return json.loads((CAPTURES / name).read_text())


def translated(name):
    translator = Translator()
    items = [item for event in events(name) for item in translator.translate(event)]
    assert not [item for item in items if isinstance(item, Skipped)]
    return items


def entries(items):
    return [item.entry for item in items if isinstance(item, Entry)]


def read(name):
    return [entry for message in messages(name) for entry in message_entries(message, directory=DIRECTORY)]


@pytest.mark.parametrize("capture", ["full-turn", "error-401", "abort"])
def test_stream_and_messages__give_the_same_entries(capture):
    streamed = {entry.key: (entry.kind, entry.data) for entry in entries(translated(f"{capture}.sse"))}
    assert streamed == {entry.key: (entry.kind, entry.data) for entry in read(f"{capture}.messages.json")}


def test_subagent__its_entries_belong_to_its_own_session():
    items = translated("subagent.sse")
    opened = [item for item in items if isinstance(item, ChildOpened)]
    assert len(opened) == 1
    own = {item.entry.key for item in items if isinstance(item, Entry) and item.session == opened[0].parent}
    child = {item.entry.key for item in items if isinstance(item, Entry) and item.session == opened[0].session}
    assert own == {entry.key for entry in read("subagent.messages.json")}
    assert child
    assert not own & child


def test_global_stream__is_the_same_as_the_one_of_its_directory():
    assert {item.key for item in entries(translated("full-turn.global.sse"))} == {
        item.key for item in entries(translated("full-turn.sse"))
    }


def test_full_turn__has_each_entry_once_and_in_order():
    found = entries(translated("full-turn.sse"))
    assert len({entry.key for entry in found}) == len(found)
    assert found[0].kind == "user"
    assert found[-1].kind == "step.finished"
    by_kind = {entry.kind: entry for entry in found}
    assert by_kind["todo"].data["items"][0] == {
        "content": "Create hello.txt",
        "status": "in_progress",
        "priority": "high",
    }
    assert [entry.data["file"] for entry in found if entry.kind == "file.edited"] == ["hello.txt", "f0.txt"]
    step = by_kind["step.finished"].data
    assert (step["cost"], step["tokens"]) == (0.00074, {"input": 600, "output": 30, "reasoning": 20, "cached": 400})
    missing = next(entry for entry in found if entry.kind == "tool.finished" and entry.data["status"] == "error")
    assert (missing.data["title"], missing.data["error"]) == ("missing.txt", "File not found: /srv/tree/missing.txt")


def test_deltas__join_to_the_finished_text_and_know_what_is_reasoning():
    items = translated("full-turn.sse")
    joined = {}
    for item in items:
        if isinstance(item, Delta):
            joined[item.part, item.reasoning] = joined.get((item.part, item.reasoning), "") + item.text
    finished = {
        (entry.data["part"], entry.kind == "reasoning"): entry.data["text"]
        for entry in entries(items)
        if entry.kind in ("text", "reasoning")
    }
    assert joined == finished


def test_states__of_a_turn():
    items = translated("full-turn.sse")
    states = [type(item) for item in items if isinstance(item, Connected | Busy | Idle)]
    assert states[0] is Connected
    assert states[-1] is Idle
    assert Busy in states


def test_retry__is_told_with_its_time_and_logged_once_per_try():
    items = translated("retry-429.sse")
    retries = [item for item in items if isinstance(item, Retrying)]
    assert [(item.attempt, item.message) for item in retries] == [(1, "fake error 429"), (2, "fake error 429")]
    assert all(item.at for item in retries)
    assert [entry.kind for entry in entries(items)].count("retry") == 2


def test_failed_try__voids_what_it_wrote():
    translator = Translator()
    part = {"id": "prt_1", "messageID": "msg_1", "sessionID": "ses_1"}
    delta = {"sessionID": "ses_1", "messageID": "msg_1", "partID": "prt_1", "field": "text", "delta": "half"}
    sent = [
        ("message.part.updated", {"part": {**part, "id": "prt_0", "type": "step-start"}}),
        ("message.part.updated", {"part": {**part, "type": "text", "text": ""}}),
        ("message.part.delta", delta),
        ("message.part.updated", {"part": {**part, "id": "prt_2", "type": "step-start"}}),
    ]
    items = [item for kind, properties in sent for item in translate(translator, kind, properties)]
    assert items == [Delta("ses_1", "prt_1", "half", reasoning=False), PartReset("ses_1", "prt_1")]


def test_finished_text__is_not_voided_by_the_next_step():
    translator = Translator()
    part = {"id": "prt_1", "messageID": "msg_1", "sessionID": "ses_1", "type": "text"}
    delta = {"sessionID": "ses_1", "messageID": "msg_1", "partID": "prt_1", "field": "text", "delta": "all"}
    translate(translator, "message.part.delta", delta)
    translate(translator, "message.part.updated", {"part": {**part, "text": "all", "time": {"start": 1, "end": 2}}})
    step = {**part, "id": "prt_2", "type": "step-start"}
    assert translate(translator, "message.part.updated", {"part": step}) == []


def test_connected_in_the_middle__takes_no_prompt_for_an_answer():
    translator = Translator()
    part = {"id": "prt_1", "messageID": "msg_1", "sessionID": "ses_1", "type": "text", "text": "Phase: planning"}
    assert translate(translator, "message.part.updated", {"part": part}) == []
    answer = {**part, "time": {"start": 1, "end": 2}}
    assert [item.entry.kind for item in translate(translator, "message.part.updated", {"part": answer})] == ["text"]


def test_errors__name_what_happened_without_a_stack_trace():
    failed = [item for item in translated("bad-model.sse") if isinstance(item, Failed)]
    assert failed[0].message == "Model not found: fake/nope."
    assert all("\n" not in item.message for item in failed)
    assert [item.name for item in translated("abort.sse") if isinstance(item, Failed)] == ["MessageAbortedError"]
    assert [entry.data for entry in entries(translated("error-401.sse")) if entry.kind == "error"] == [
        {"name": "APIError", "message": "Invalid API key"}
    ]


def test_asks__say_what_is_asked_and_where():
    asked = [item for item in translated("permission-once.sse") if isinstance(item, PermissionAsked)]
    assert [(one.directory, one.permission, one.patterns, one.command, one.always, one.title) for one in asked] == [
        (DIRECTORY, "bash", ("npm test",), "npm test", ("npm test *",), "Run npm test")
    ]
    assert asked[0].exact
    assert [item.reply for item in translated("permission-once.sse") if isinstance(item, AskEnded)] == ["once"]
    questions = [item for item in translated("question-answer.sse") if isinstance(item, QuestionAsked)]
    assert [one.questions for one in questions] == [
        (Question("Which database?", "Database", (Option("PostgreSQL", "server"), Option("SQLite", "file"))),)
    ]
    assert questions[0].title == "Question: Database"
    assert [item.reply for item in translated("question-answer.sse") if isinstance(item, AskEnded)] == ["answers"]


def test_asks__of_an_edit_bring_the_patch_and_the_file():
    given = {
        "id": "per_1",
        "sessionID": "ses_1",
        "permission": "edit",
        "patterns": ["n.txt"],
        "metadata": {"filepath": "/srv/tree/n.txt", "diff": "--- a\n+++ b\n"},
        "always": ["*"],
        "tool": {"messageID": "msg_1", "callID": "call_1"},
    }
    (asked,) = translate(Translator(), "permission.asked", given)
    assert (asked.title, asked.patch, asked.paths, asked.call) == (
        "Edit n.txt",
        "--- a\n+++ b\n",
        ("/srv/tree/n.txt",),
        "call_1",
    )


@pytest.mark.parametrize(
    "given",
    [
        {"patterns": ["rm \x1b[8m-rf /\x1b[0m ls"], "metadata": {"command": "ls"}},
        {"patterns": ["ls"], "metadata": {"command": "ls\x00; rm -rf /"}},
        {"patterns": ["x" * 50_000], "metadata": {}},
        {"patterns": ["ls"] * 5_000, "metadata": {"command": "ls"}},
        {"patterns": ["ls"], "metadata": {"command": "ls" + " " * 100_000 + "; rm -rf /"}},
    ],
)
def test_asks__that_cannot_be_shown_in_full_say_so(given):
    whole = {
        "id": "per_1",
        "sessionID": "ses_1",
        "permission": "bash",
        "always": ["x\x00", "y" * 9_000, "ls *"],
        **given,
    }
    (asked,) = translate(Translator(), "permission.asked", whole)
    assert not asked.exact
    assert asked.always == ("ls *",)
    assert len(json.dumps([asked.patterns, asked.command, asked.patch, asked.title])) < 400_000
    assert "\x1b" not in asked.title + "".join(asked.patterns)


@pytest.mark.parametrize(
    ("kind", "properties"),
    [
        ("permission.asked", {"id": "per_1", "sessionID": "ses_1"}),
        ("permission.asked", {"id": 7, "sessionID": "ses_1", "permission": "bash", "patterns": ["ls"]}),
        ("permission.asked", {"id": "per_1", "sessionID": "ses_1", "permission": "bash", "patterns": [{}]}),
        ("permission.asked", {"id": "per_1", "sessionID": "ses_1", "permission": None, "patterns": 3}),
        ("question.asked", {"id": "que_1", "sessionID": "ses_1", "questions": []}),
        ("question.asked", {"id": "que_1", "sessionID": "ses_1", "questions": [{"question": 3}]}),
        ("question.asked", {"id": "que_1", "sessionID": "ses_1", "questions": [{"question": "a", "options": [{}]}]}),
        ("permission.replied", {"sessionID": "ses_1"}),
    ],
)
def test_asks__that_are_malformed_are_skipped(kind, properties):
    assert [type(item) for item in translate(Translator(), kind, properties)] == [Skipped]


def translate(translator, kind, properties, directory=DIRECTORY):
    return translator.translate({"directory": directory, "payload": {"type": kind, "properties": properties}})


def test_instances__that_are_gone():
    assert translate(Translator(), "server.instance.disposed", {"directory": "/srv/x"}) == [InstanceGone("/srv/x")]
    assert translate(Translator(), "global.disposed", {}) == [InstanceGone("")]
    assert translate(Translator(), "server.heartbeat", {}) == [Heartbeat()]


@pytest.mark.parametrize(
    "event",
    [
        None,
        7,
        [],
        {},
        {"payload": None},
        {"payload": {"type": 5, "properties": {}}},
        {"payload": {"type": "brand.new", "properties": {}}},
        {"payload": {"type": "message.updated", "properties": {"info": "?"}}},
        {"payload": {"type": "message.part.updated", "properties": {"part": {"type": "tool"}}}},
        {"payload": {"type": "session.status", "properties": {}}},
        {"payload": {"type": "session.idle", "properties": []}},
    ],
)
def test_unknown_and_malformed_events__are_counted_and_skipped(event):
    assert [type(item) for item in Translator().translate(event)] == [Skipped]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
CAPTURED = events("full-turn.sse")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_events__never_raise(data):
    """Any place of a real event replaced by anything."""
    event = json.loads(json.dumps(data.draw(st.sampled_from(CAPTURED))))
    place = event
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
            place = inner
            continue
        place[key] = data.draw(JSON)
        break
    for item in Translator().translate(event):
        assert isinstance(getattr(item, "session", ""), str)
        if isinstance(item, Entry):
            json.dumps(item.entry.data, allow_nan=False)


def test_long_and_hostile_values__are_bounded_and_storable():
    part = {
        "id": "prt_1",
        "type": "tool",
        "tool": "bash",
        "callID": "c",
        "state": {
            "status": "completed",
            "input": {"command": "x" * 50_000, "n": float("nan")},
            "output": "\x1b[31mred\x1b[0m\x00" + "y" * 100_000,
            "title": "t" * 9_000,
            "metadata": {"exit": 0},
            "time": {"start": 1, "end": 5},
        },
    }
    message = {"info": {"id": "msg_1", "role": "assistant", "time": {}}, "parts": [part]}
    started, finished = message_entries(message, directory=DIRECTORY)
    assert len(json.dumps(started.data)) < 12_000
    assert started.data["cut"] is True
    assert finished.data["cut"] is True
    assert len(finished.data["output"]) == 30_000
    assert finished.data["output"].startswith("redyyy")
    assert finished.data["ms"] == 4
    assert bounded_input({"n": float("nan"), "t": "a\x00b"}, {}) == {"n": "nan", "t": "ab"}
