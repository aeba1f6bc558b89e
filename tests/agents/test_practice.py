"""The practice model alone: reading conversations, following scripts, streaming and failing on demand."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

from agents.practice.conversation import read_conversation
from agents.practice.samples import DEFAULT, SAMPLES
from agents.practice.script import LAST_WORDS, answer_for
from agents.practice.server import SMALL_TALK, PracticeServer
from tests.real.agentserver import prompt_text, wait_for

ROOT = Path(__file__).resolve().parents[2]
STUDIO_TOOLS = ("studio_submit_plan", "studio_report_finding", "studio_mark_finding", "studio_submit_verdict")


def request(*history, script="", tools=("read", "write", *STUDIO_TOOLS), cwd="/srv/tree", extra="", **header):
    """A chat-completions request: system, the studio's prompt, and what came after it."""
    prompt = prompt_text(script, **header) + extra
    return {
        "model": "practice",
        "stream": True,
        "messages": [
            {"role": "system", "content": f"You are an agent.\n<env>\n  Working directory: {cwd}\n</env>"},
            {"role": "user", "content": [{"type": "text", "text": prompt}]},
            *history,
        ],
        "tools": [{"type": "function", "function": {"name": name, "parameters": {}}} for name in tools],
    }


def called(name, result, text=""):
    """An answer with one tool call, and its result."""
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": "{}"}}
    return [
        {"role": "assistant", "content": text, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]


def next_answer(*history, **options):
    conversation = read_conversation(request(*history, **options), "ses_1")
    assert conversation is not None
    return answer_for(conversation)


def test_conversation__is_read_from_the_prompts_header():
    found = read_conversation(
        request(phase="review", round=3, key="WEB-7", title="Fix: it's “odd”", script="Words."), "s"
    )
    assert (found.phase, found.round, found.key, found.title) == ("review", 3, "WEB-7", "Fix: it's “odd”")
    assert (found.description, found.cwd, found.step, found.session) == ("Words.", "/srv/tree", 0, "s")
    assert found.offered >= set(STUDIO_TOOLS)


@pytest.mark.parametrize("body", [{}, {"messages": "?"}, {"messages": [{"role": "user", "content": "Make a title"}]}])
def test_conversation__that_is_not_the_studios(body):
    assert read_conversation(body, "") is None


STEPS = {"implementation": [[{"text": "a", "tools": [{"name": "read"}]}, {"text": "b", "tools": [{"name": "read"}]}]]}


def test_steps__are_counted_from_the_last_prompt():
    assert next_answer(script=STEPS).text == "a"
    assert next_answer(*called("read", "x"), script=STEPS).text == "b"
    assert next_answer(*called("read", "x"), *called("read", "y"), script=STEPS).text == LAST_WORDS
    body = request(*called("read", "x"), script=STEPS)
    body["messages"].append({"role": "user", "content": prompt_text(STEPS)})
    assert answer_for(read_conversation(body, "")).text == "a"


def said(text):
    return {"role": "user", "content": text}


def steps_block(*steps):
    return f"Do this first.\n\n```practice\n{json.dumps(list(steps))}\n```\n"


def test_message__with_steps_of_its_own_comes_next_and_the_script_goes_on_after_it():
    steer = said(steps_block({"text": "own", "tools": [{"name": "read"}]}))
    begun = called("read", "x")
    assert next_answer(*begun, steer, script=STEPS).text == "own"
    assert next_answer(*begun, steer, *called("read", "y"), script=STEPS).text == "b"
    assert next_answer(*begun, steer, *called("read", "y"), *called("read", "z"), script=STEPS).text == LAST_WORDS


def test_message__wrapped_by_the_server_is_read_all_the_same():
    wrapped = f"<system-reminder>\nThe user sent the following message:\n{steps_block({'text': 'own'})}\n\nPlease address this message and continue with your tasks.\n</system-reminder>"
    body = request(*called("read", "x"), said(wrapped), script=STEPS)
    found = read_conversation(body, "")
    assert answer_for(found).text == "own"
    assert (found.phase, found.round, found.step) == ("message", 1, 0)
    assert found.message.startswith("Do this first.")


def test_message__without_steps_is_repeated_once_and_changes_no_step():
    heard = next_answer(*called("read", "x"), said("Mind the gap."), script=STEPS)
    assert heard.text == "I read: Mind the gap.\n\nb"
    assert heard.calls
    assert next_answer(*called("read", "x"), said("Mind."), *called("read", "y"), script=STEPS).text == LAST_WORDS


def test_sub_agent__follows_the_steps_of_its_prompt():
    body = request(script="")
    body["messages"][1] = said(steps_block({"text": "one", "tools": [{"name": "read"}]}, {"text": "two"}))
    assert answer_for(read_conversation(body, "")).text == "one"
    body["messages"] += called("read", "x")
    assert answer_for(read_conversation(body, "")).text == "two"


def test_failed_and_interrupted_answers__are_given_again():
    empty = {"role": "assistant", "content": ""}
    assert next_answer(empty, script=STEPS).text == "a"
    interrupted = called("read", "[Tool execution was interrupted]")
    assert next_answer(*interrupted, script=STEPS).text == "a"
    assert next_answer(*called("read", "x"), *interrupted, script=STEPS).text == "b"


def test_words_of_a_script__are_filled_in_and_other_braces_left_alone():
    script = {"review": [[{"text": "{key} {title} {round} {cwd} {name}"}]]}
    answer = next_answer(script=script, phase="review", key="A-1", title="T", round=2)
    assert answer.text == "A-1 T 2 /srv/tree {name}"


def test_rounds__the_last_one_repeats():
    script = {"fix": [[{"text": "one"}], [{"text": "two"}]]}
    answers = [next_answer(script=script, phase="fix", round=number).text for number in (1, 2, 3, 9)]
    assert answers == ["one", "two", "two", "two"]


def test_plan__by_tool_or_as_text():
    script = {"planning": [[{"plan": "# The plan"}, {"text": "Handed in."}]]}
    assert next_answer(script=script, phase="planning").calls[0].arguments == {"plan": "# The plan"}
    assert next_answer(script=script, phase="planning", tools=()).text == "# The plan"
    accepted = called("studio_submit_plan", "The plan is stored.")
    assert next_answer(*accepted, script=script, phase="planning").text == "Handed in."


@pytest.mark.parametrize(
    "result", ["Error executing tool submit_plan: no", "MCP error -32001: Request timed out", "Unable to connect."]
)
def test_studio_tool_that_fails__is_answered_in_prose(result):
    script = {"planning": [[{"plan": "# The plan"}, {"text": "Handed in."}]]}
    answer = next_answer(*called("studio_submit_plan", result), script=script, phase="planning")
    assert (answer.text, answer.calls) == ("# The plan", ())


FINDING = {"severity": "error", "title": "Wrong", "body": "It is wrong.", "file": "a.py", "line": 3}
REVIEW = {"review": [[{"verdict": "changes_requested", "summary": "One thing.", "findings": [FINDING]}]]}


def test_verdict__by_tools_findings_first():
    first = next_answer(script=REVIEW, phase="review")
    assert [(call.name, call.arguments) for call in first.calls] == [("studio_report_finding", FINDING)]
    second = next_answer(*called("studio_report_finding", "Noted as #1."), script=REVIEW, phase="review")
    assert [(call.name, call.arguments) for call in second.calls] == [
        ("studio_submit_verdict", {"verdict": "changes_requested", "summary": "One thing."})
    ]


@pytest.mark.parametrize("without_tools", [True, False])
def test_verdict__in_prose_is_a_fenced_block(without_tools):
    history = [] if without_tools else called("studio_report_finding", "Unable to connect.")
    answer = next_answer(*history, script=REVIEW, phase="review", tools=() if without_tools else STUDIO_TOOLS)
    block = answer.text.split("```json\n")[1].split("\n```")[0]
    assert json.loads(block) == {"verdict": "changes_requested", "summary": "One thing.", "findings": [FINDING]}
    assert answer.calls == ()


def test_mark__names_the_findings_of_the_prompt():
    script = {"fix": [[{"mark": "fixed", "note": "Done."}, {"text": "End."}]]}
    listed = "<findings>\n#2 [error, open] Wrong (a.py:3)\n    #9 [no] a body\n#5 [info, open] Odd\n</findings>\n"
    answer = next_answer(script=script, phase="fix", extra=listed)
    assert [call.arguments for call in answer.calls] == [
        {"number": 2, "state": "fixed", "note": "Done."},
        {"number": 5, "state": "fixed", "note": "Done."},
    ]
    assert next_answer(script=script, phase="fix", extra="#7 [not a finding]").text == "End."


def test_resolve__takes_the_markers_out_of_the_files_that_the_prompt_lists(tmp_path):
    script = {"fix": [[{"resolve": "both"}, {"text": "End."}]]}
    assert next_answer(script=script, phase="fix", tools=("bash",)).text == "End."
    extra = "\n<conflicts>\nb c.txt\n    <<<<<<< HEAD\n</conflicts>\n"
    (call,) = next_answer(script=script, phase="fix", tools=("bash",), extra=extra).calls
    file = tmp_path / "b c.txt"
    file.write_text("a\n<<<<<<< HEAD\nmine\n||||||| abc\nbase\n=======\ntheirs\n>>>>>>> def\nz\n")
    subprocess.run(["bash", "-c", call.arguments["command"]], cwd=tmp_path, check=True)
    assert file.read_text() == "a\nmine\ntheirs\nz\n"


@pytest.mark.parametrize(
    "block",
    [
        "{",
        "[]",
        '{"nonsense": []}',
        '{"planning": 5}',
        '{"planning": [[7]]}',
        '{"planning": [[{"fault": {"kind": "x"}}]]}',
    ],
)
def test_script_that_cannot_be_followed__says_so(block):
    answer = next_answer(script=f"```practice\n{block}\n```", phase="planning")
    assert "cannot be followed" in answer.text
    assert answer.calls == ()


def test_missing_phase__is_the_default_one():
    answer = next_answer(script={"planning": [[]]}, phase="implementation")
    assert answer.text == DEFAULT["implementation"][0][0]["text"]


@pytest.mark.parametrize("title", SAMPLES)
def test_sample_scripts__can_be_followed_in_every_phase(title):
    for phase in ("planning", "implementation", "review", "fix"):
        for number in (1, 2, 3):
            answer = next_answer(title=title, phase=phase, round=number)
            assert "cannot be followed" not in answer.text
            assert answer.text or answer.calls


@pytest.fixture
def practice(tmp_path):
    with PracticeServer(log=tmp_path / "log.jsonl") as server:
        yield server


def post(server, body, **options):
    headers = {"x-session-id": "ses_9"}
    return requests.post(
        f"{server.url}/chat/completions", json=body, headers=headers, stream=True, timeout=10, **options
    )


def chunks(answer):
    lines = [line.removeprefix(b"data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == b"[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def deltas(answer):
    return [choice["delta"] for chunk in chunks(answer) for choice in chunk["choices"]]


def log(server):
    path = server._log
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_answer__is_streamed_in_pieces_with_usage(practice):
    script = {
        "implementation": [
            [
                {
                    "text": "four words in here",
                    "reasoning": "hm",
                    "chunk": 5,
                    "tools": [{"name": "read", "args": {"a": 1}}],
                }
            ]
        ]
    }
    found = chunks(post(practice, request(script=script)))
    parts = [choice["delta"] for chunk in found for choice in chunk["choices"]]
    assert "".join(part.get("reasoning_content", "") for part in parts) == "hm"
    assert [part["content"] for part in parts if part.get("content")] == ["four ", "words", " in h", "ere"]
    calls = [part["tool_calls"][0] for part in parts if "tool_calls" in part]
    assert calls[0]["function"] == {"name": "read", "arguments": ""}
    assert "".join(call["function"]["arguments"] for call in calls) == '{"a": 1}'
    assert found[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert found[-1]["usage"]["total_tokens"] > found[-1]["usage"]["completion_tokens"] > 0


def test_answer__claims_the_usage_that_its_step_names(practice):
    script = {"implementation": [[{"text": "Done.", "usage": {"input": 1_000_000, "output": 20}}]]}
    usage = chunks(post(practice, request(script=script)))[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (1_000_000, 20, 1_000_020)


def test_log__has_one_line_per_request(practice):
    post(practice, request(script=STEPS, key="A-1")).content  # noqa: B018 -- reading it is what is meant
    wait_for(lambda: log(practice))
    line = log(practice)[0]
    assert line.pop("at")
    assert line == {
        "session": "ses_9",
        "cwd": "/srv/tree",
        "task": "A-1",
        "phase": "implementation",
        "round": 1,
        "step": 0,
        "message": "",
        "outcome": "served",
        "tools": ["read"],
    }


def test_other_conversations__get_small_talk(practice):
    answer = post(practice, {"messages": [{"role": "user", "content": "Make a title"}], "stream": True})
    assert "".join(part.get("content", "") for part in deltas(answer)) == SMALL_TALK


def test_models_and_nonsense(practice):
    assert requests.get(f"{practice.url}/models", timeout=5).json()["data"][0]["id"] == "practice"
    assert requests.get(f"{practice.url}/nothing", timeout=5).status_code == 404
    assert requests.post(f"{practice.url}/chat/completions", data="[]", timeout=5).status_code == 400
    assert requests.post(f"{practice.url}/chat/completions", data="{", timeout=5).status_code == 400


def faulty(**fault):
    return request(script={"implementation": [[{"text": "half of it", "fault": fault}]]})


def test_fault_status__comes_as_often_as_it_says(practice):
    body = faulty(kind="status", status=429, retry_after=7, times=2)
    answers = [post(practice, body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "7"
    wait_for(lambda: len(log(practice)) == 3)
    assert [line["outcome"] for line in log(practice)] == ["fault", "fault", "served"]
    elsewhere = request(script=STEPS)
    assert post(practice, elsewhere).status_code == 200


def test_fault_times__are_counted_for_each_directory(practice):
    script = {"implementation": [[{"text": "x", "fault": {"kind": "status", "status": 500, "times": 1}}]]}
    here, there = request(script=script, cwd="/srv/a"), request(script=script, cwd="/srv/b")
    assert [post(practice, body).status_code for body in (here, there, here, there)] == [500, 500, 200, 200]


def test_faults_in_the_stream__break_it_in_their_way(practice):
    assert post(practice, faulty(kind="html")).headers["Content-Type"] == "text/html"
    assert b"data: {this is not json" in post(practice, faulty(kind="rubbish")).content
    unfinished = post(practice, faulty(kind="no_finish")).content
    assert b"half of it" in unfinished
    assert b'finish_reason": "' not in unfinished
    with pytest.raises(requests.RequestException):
        post(practice, faulty(kind="drop")).content  # noqa: B018


def test_fault_hang__ends_when_the_client_goes(practice):
    before = threading.active_count()
    with pytest.raises(requests.RequestException):
        requests.post(f"{practice.url}/chat/completions", json=faulty(kind="hang", seconds=600), timeout=0.3)
    wait_for(lambda: threading.active_count() <= before)


def test_client_that_goes__is_logged_as_cut(practice):
    body = json.dumps(request(script={"implementation": [[{"text": "x" * 500, "chunk": 1, "pace": 0.02}]]})).encode()
    with socket.create_connection(("127.0.0.1", practice.port), timeout=5) as raw:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(head.encode() + body)
        assert raw.recv(12) == b"HTTP/1.1 200"
    wait_for(lambda: log(practice))
    assert log(practice)[0]["outcome"] == "cut"


@pytest.mark.real
def test_command__serves_and_ends_on_sigterm(tmp_path):
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "agents.practice", "--port-file", str(port_file), "--log", str(tmp_path / "log")]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        port = int(wait_for(lambda: port_file.exists() and port_file.read_text()))
        assert requests.get(f"http://127.0.0.1:{port}/v1/models", timeout=5).ok
    finally:
        process.terminate()
        code = process.wait(60)
    assert code == 0


def test_package__needs_neither_django_nor_anything_installed():
    code = "import sys, agents.practice.__main__; sys.exit(any(m.split('.')[0] in ('django', 'requests') for m in sys.modules))"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=True, timeout=30)
