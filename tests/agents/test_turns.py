"""The judgement of turns: the table of what the messages of an idle session mean."""

from __future__ import annotations

from decimal import Decimal

import pytest

from agents.opencode.turns import children_of, error_code, judge, turn_messages, view_of
from tests.agents.test_translate import DIRECTORY, messages

DONE = {"created": 1, "completed": 2}


def user(name="msg_1", **part):
    return {
        "info": {"id": name, "role": "user", "time": {"created": 1}},
        "parts": [{"id": f"prt_{name}", "type": "text", "text": "Do it", "messageID": name, **part}],
    }


def answer(name="msg_2", *, parts=(), time=DONE, **info):
    return {"info": {"id": name, "role": "assistant", "time": time, "cost": 0.5, **info}, "parts": list(parts)}


def tool(status="completed", **state):
    state = {"status": status, "input": {"command": "ls"}, **state}
    return {"id": "prt_t", "type": "tool", "tool": "bash", "callID": "c", "state": state}


def text(words, *, end=2):
    return {"id": "prt_x", "type": "text", "text": words, "time": {"start": 1, "end": end}}


def view(*turn, status=None, message_id="msg_1"):
    found = turn_messages(list(turn), message_id)
    return view_of(found, status, session="ses_1", directory=DIRECTORY)


REJECTED = tool("error", error="The user rejected permission to use this specific tool call.")
DISMISSED = tool("error", error="The user dismissed this question")


@pytest.mark.parametrize(
    ("answers", "state", "code"),
    [
        ([], "died", ""),
        ([answer(finish="stop")], "completed", ""),
        ([answer(finish="length")], "failed", "output_limit"),
        ([answer(finish="content-filter")], "failed", "content_filtered"),
        ([answer(finish="unknown")], "failed", "provider_error"),
        ([answer(finish="tool-calls", parts=[REJECTED])], "rejected", "agent_rejected"),
        ([answer(finish="tool-calls", parts=[DISMISSED])], "rejected", "agent_rejected"),
        ([answer(finish="tool-calls", parts=[tool()])], "died", ""),
        ([answer(error={"name": "MessageAbortedError", "data": {"message": "Aborted"}})], "aborted", "aborted"),
        ([answer()], "aborted", "aborted"),
        ([answer(time={"created": 1}, parts=[tool("running")])], "died", ""),
        ([answer(time={"created": 1}, parts=[text("", end=None)])], "died", ""),
        ([answer(error={"name": "ContentFilterError", "data": {}})], "failed", "content_filtered"),
        ([answer(error={"name": "APIError", "data": {"statusCode": 401}})], "failed", "provider_auth"),
        ([answer("msg_2", time={"created": 1}), answer("msg_3", finish="stop")], "completed", ""),
        ([answer("msg_2", error={"name": "ContextOverflowError"}), answer("msg_3", finish="stop")], "completed", ""),
        ([answer("msg_2", finish="tool-calls"), answer("msg_3", summary=True, finish="stop")], "died", ""),
    ],
)
def test_idle_session__is_judged_by_its_last_answer(answers, state, code):
    judged = view(user(), *answers)
    assert (judged.state, judged.error_code) == (state, code)


@pytest.mark.parametrize(
    ("error", "cut_off"),
    [("Task cancelled", True), ("Tool execution aborted", True), ("No such task cancelled", False)],
)
def test_cut_off__an_abort_has_ended_a_tool_whatever_came_after_it(error, cut_off):
    cut = answer("msg_2", finish="tool-calls", parts=[tool("error", error=error)])
    judged = view(user(), cut, answer("msg_3", finish="stop"))
    assert (judged.state, judged.cut_off) == ("completed", cut_off)


def test_busy_session__runs_whatever_its_messages_say():
    assert view(user(), answer(finish="stop"), status={"type": "busy"}).state == "running"
    assert view(status={"type": "busy"}).state == "running"
    assert view().state == "died"


def test_retrying_session__says_why_and_until_when():
    waiting = view(user(), status={"type": "retry", "attempt": 2, "message": "Too many", "next": 1795224461455})
    assert (waiting.state, waiting.retry_note) == ("running", "Too many")
    assert waiting.retry_at is not None
    assert waiting.events[-1].kind == "retry"


def test_counts__are_those_of_the_turn_alone():
    tokens = {"input": 3, "output": 2, "reasoning": 1, "cache": {"read": 7}}
    seen = view(
        user("msg_0"),
        answer("msg_01", finish="stop", tokens=tokens),
        user(),
        answer("msg_2", finish="tool-calls", tokens=tokens),
        answer("msg_3", finish="stop", tokens=tokens, parts=[text("First."), text("Second.")]),
        user("msg_4"),
        answer("msg_5", finish="stop", tokens=tokens),
    )
    assert (seen.steps, seen.cost, seen.result_text) == (2, Decimal("1.0"), "First.\n\nSecond.")
    assert (seen.tokens.input, seen.tokens.output, seen.tokens.reasoning, seen.tokens.cached) == (6, 4, 2, 14)


def test_messages_that_steer_or_compact__belong_to_the_turn():
    steered = view(user(), answer("msg_2", finish="tool-calls"), user("msg_3"), answer("msg_4", finish="stop"))
    assert (steered.state, steered.steps) == ("completed", 2)
    compacted = view(
        user(),
        answer("msg_2", error={"name": "ContextOverflowError", "data": {}}),
        user("msg_3", synthetic=True),
        answer("msg_4", finish="stop", parts=[text("Done.")]),
    )
    assert (compacted.state, compacted.result_text) == ("completed", "Done.")


def test_open_tool__is_interrupted_only_where_nothing_will_finish_it():
    running = tool("running", time={"start": 1})
    dead = view(user(), answer(time={"created": 1}, parts=[running]))
    assert [entry.kind for entry in dead.events] == ["user", "tool.started", "tool.finished"]
    assert dead.events[-1].data["status"] == "error"
    assert dead.events[-1].data["error"].startswith("Interrupted")
    alive = view(user(), answer(time={"created": 1}, parts=[running]), status={"type": "busy"})
    assert [entry.kind for entry in alive.events] == ["user", "tool.started"]
    steered = view(user(), answer(time={"created": 1}, parts=[running]), user("msg_3"), status={"type": "busy"})
    assert [entry.kind for entry in steered.events] == ["user", "tool.started", "user"]
    resumed = view(
        user(), answer(time={"created": 1}, parts=[running]), answer("msg_3", time={}), status={"type": "busy"}
    )
    assert [entry.kind for entry in resumed.events] == ["user", "tool.started", "tool.finished"]


def test_captured_turns__are_judged_right():
    def captured(name):
        found = messages(f"{name}.messages.json")
        return view(*found, message_id=found[0]["info"]["id"])

    full = captured("full-turn")
    assert (full.state, full.steps, full.result_text) == ("completed", 4, "Created **hello.txt** and edited f0.txt.")
    assert full.cost == Decimal("0.00296")
    assert (captured("abort").state, captured("error-401").error_code) == ("aborted", "provider_auth")
    assert captured("error-401").error_message == "Invalid API key"
    found = messages("subagent.messages.json")
    assert children_of(found) == ["ses_e042ca159ffenzqulEpaGMHATE"]


@pytest.mark.parametrize(
    ("name", "status", "message", "code"),
    [
        ("APIError", 401, "", "provider_auth"),
        ("APIError", 403, "", "provider_auth"),
        ("APIError", 429, "", "rate_limited"),
        ("APIError", 500, "429 and 401 are mentioned", "provider_error"),
        ("APIError", 404, "The model x does not exist", "model_not_found"),
        ("APIError", 404, "no such page", "provider_error"),
        ("ProviderAuthError", None, "", "provider_auth"),
        ("MessageOutputLengthError", None, "", "output_limit"),
        ("UnknownError", None, "Model not found: a/b.", "model_not_found"),
        ("UnknownError", None, "Rate limit exceeded", "rate_limited"),
        ("UnknownError", None, "Invalid API key", "provider_auth"),
        ("UnknownError", None, "Cannot connect to API", "provider_error"),
        ("ContextOverflowError", 400, "too long", "provider_error"),
    ],
)
def test_errors__have_the_boards_codes(name, status, message, code):
    assert error_code(name, status, message) == code


def test_judge__knows_no_other_states():
    assert judge([answer(finish="something-new")]).state == "failed"
