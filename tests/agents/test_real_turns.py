"""Turns on the real OpenCode server with the practice model: what the backend sends, sees and concludes."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from agents.backend import Connected, Entry, Idle
from agents.environment import MARK
from agents.opencode.backend import OpenCodeBackend
from agents.opencode.client import OpenCodeClient
from studio.kernel.errors import NotFound, Upstream
from tests.real.agentserver import wait_for

pytestmark = pytest.mark.real


def write(name, text="written\n", **more):
    return {"tools": [{"name": "write", "args": {"filePath": "{cwd}/" + name, "content": text}}], **more}


def bash(command, **more):
    return {"tools": [{"name": "bash", "args": {"command": command, "description": "Run it"}}], **more}


def kinds(view):
    return [entry.kind for entry in view.events]


def finished(view, tool):
    return [entry.data for entry in view.events if entry.kind == "tool.finished" and entry.data["tool"] == tool]


def test_full_turn__is_seen_with_all_its_entries(begin, repository):
    script = {"implementation": [[write("new.txt", reasoning="A file."), bash("cat new.txt"), {"text": "All done."}]]}
    turn = begin(script)
    turn.send()
    view = turn.settled()
    assert (view.state, view.error_code, view.result_text, view.steps) == ("completed", "", "All done.", 3)
    assert (repository / "new.txt").read_text() == "written\n"
    assert kinds(view) == [
        "user",
        "reasoning",
        "tool.started",
        "tool.finished",
        "file.edited",
        "step.finished",
        "tool.started",
        "tool.finished",
        "step.finished",
        "text",
        "step.finished",
    ]
    assert view.events[0].key == f"user:{turn.prompt.message_id}"
    assert view.events[0].data["text"] == turn.prompt.text
    assert finished(view, "bash")[0] | {"ms": 0} == {
        "part": finished(view, "bash")[0]["part"],
        "call": finished(view, "bash")[0]["call"],
        "tool": "bash",
        "title": finished(view, "bash")[0]["title"],
        "input": {"command": "cat new.txt", "description": "Run it"},
        "output": "written\n",
        "status": "completed",
        "error": "",
        "exit": 0,
        "ms": 0,
    }
    assert view.cost > 0
    assert view.tokens.input > 0
    assert view.tokens.output > 0


def test_stream__gives_the_same_keys_as_the_messages(begin, opencode_server):
    turn = begin(
        {"implementation": [[write("a.txt", text="x\n"), bash("echo one; sleep 0.3; echo two"), {"text": "End."}]]}
    )
    entries = []
    stream = turn.backend.stream()
    assert next(stream) == Connected()
    turn.send()
    for item in stream:
        if isinstance(item, Entry) and item.session == turn.session:
            entries.append(item.entry)
        if isinstance(item, Idle) and item.session == turn.session:
            break
    stream.close()
    view = turn.settled()
    assert [entry.key for entry in entries] == [entry.key for entry in view.events]
    assert [(entry.kind, entry.data) for entry in entries] == [(entry.kind, entry.data) for entry in view.events]


def test_same_post_twice__is_one_message_and_one_run(begin, opencode_server, repository):
    turn = begin({"implementation": [[bash("sleep 1; echo once >> count.txt"), {"text": "Done."}]]})
    turn.send()
    turn.send()
    assert turn.settled().state == "completed"
    turn.send()
    wait_for(lambda: not turn.backend.busy(str(repository)))
    assert (repository / "count.txt").read_text() == "once\n"
    messages = turn.backend.client.get(f"/session/{turn.session}/message")
    assert [message["info"]["role"] for message in messages].count("user") == 1
    assert len(messages[0]["parts"]) == 1
    assert [line["step"] for line in turn.lines()] == [0, 1]


def test_killed_server__goes_on_after_a_restart_without_repeating_a_finished_step(begin, opencode_server, repository):
    script = {
        "implementation": [[bash("echo one >> log.txt"), bash("echo two >> log.txt; sleep 30"), {"text": "Done."}]]
    }
    turn = begin(script)
    turn.send()
    wait_for(lambda: (repository / "log.txt").exists() and "two" in (repository / "log.txt").read_text())
    opencode_server.kill()
    with pytest.raises(Upstream) as refused:
        turn.view()
    assert (refused.value.code, refused.value.transient) == ("server_unreachable", True)
    boot = opencode_server.boot
    opencode_server.restart()
    assert opencode_server.boot != boot
    turn.backend = opencode_server.backend()
    died = turn.view()
    assert died.state == "died"
    assert [one["status"] for one in finished(died, "bash")] == ["completed", "error"]
    turn.send()
    wait_for(lambda: (repository / "log.txt").read_text().count("two") == 2)
    assert turn.view().state == "running"
    turn.backend.abort(turn.session)
    assert turn.settled().state == "aborted"
    assert (repository / "log.txt").read_text() == "one\ntwo\ntwo\n"
    assert [line["step"] for line in turn.lines()] == [0, 1, 1]


def test_planner_and_reviewer__cannot_change_a_file(begin, repository):
    attempts = [
        write("planted.txt"),
        {
            "tools": [
                {"name": "edit", "args": {"filePath": "{cwd}/README.md", "oldString": "tiny", "newString": "huge"}}
            ]
        },
        bash("echo x > planted.txt"),
        bash("pwd && cat README.md > planted.txt"),
        bash("git log --oneline > planted.txt"),
        bash("git log --output=planted.txt"),
        bash("git diff --no-index README.md greetings.py > planted.txt"),
        bash("git log $(touch planted.txt)"),
        bash("cat README.md | tee planted.txt"),
        bash("rm README.md"),
        bash("git checkout -b elsewhere"),
        bash("GIT_PAGER='touch planted.txt' git -p log"),
        bash("git log --oneline"),
        bash("cat README.md"),
        {"text": "Done."},
    ]
    for role, phase in (("planner", "planning"), ("reviewer", "review")):
        turn = begin({phase: [attempts]}, role=role)
        turn.send()
        view = turn.answered()
        assert view.state == "completed"
        assert [one["status"] for one in finished(view, "bash")] == ["error"] * 10 + ["completed"] * 2
        assert "rule which prevents" in finished(view, "bash")[0]["error"]
    status = subprocess.run(
        ["git", "status", "--porcelain", "--branch"], cwd=repository, capture_output=True, text=True
    )
    assert status.stdout == "## trunk\n"


def test_implementer__can_edit_but_not_push_and_is_asked_outside_and_at_secrets(begin, repository, tmp_path):
    outside = tmp_path.resolve() / "outside.txt"
    outside.write_text("secret\n")
    (repository / ".env").write_text("TOKEN=abc\n")
    steps = [
        {
            "tools": [
                {"name": "edit", "args": {"filePath": "{cwd}/README.md", "oldString": "tiny", "newString": "small"}}
            ]
        },
        bash("git push origin trunk"),
        {"tools": [{"name": "read", "args": {"filePath": str(outside)}}]},
        {"tools": [{"name": "read", "args": {"filePath": "{cwd}/.env"}}]},
        {"text": "Done."},
    ]
    turn = begin({"implementation": [steps]})
    turn.send()
    asked = []
    for _ in range(2):
        waiting = wait_for(lambda: turn.backend.pending_asks(str(repository)))
        asked += [(ask.permission, ask.paths or ask.patterns) for ask in waiting]
        assert turn.backend.answer_permission(waiting[0].id, str(repository), "reject", "Go on without it.")
    assert asked == [("external_directory", (str(outside),)), ("read", (".env",))]
    view = turn.settled()
    assert "small package" in (repository / "README.md").read_text()
    assert [one["status"] for one in finished(view, "edit")] == ["completed"]
    assert [one["status"] for one in finished(view, "bash")] == ["error"]
    assert [one["status"] for one in finished(view, "read")] == ["error", "error"]


def test_shell__does_not_see_what_only_the_server_may_know(begin, opencode_server):
    turn = begin({"implementation": [[bash("env"), {"text": "Done."}]]})
    turn.send()
    environment = finished(turn.settled(), "bash")[0]["output"]
    names = {line.partition("=")[0] for line in environment.splitlines()}
    assert opencode_server.password not in environment
    assert not names & {"OPENCODE_SERVER_PASSWORD", "OPENCODE_CONFIG_CONTENT", "SECRET_KEY", "XDG_DATA_HOME"}
    assert {"PATH", "HOME", MARK} <= names


def test_abort__ends_the_turn_and_its_command(begin, repository):
    turn = begin({"implementation": [[bash("touch begun.txt; sleep 30; touch ended.txt"), {"text": "Done."}]]})
    turn.send()
    wait_for((repository / "begun.txt").exists)
    turn.backend.abort(turn.session)
    view = turn.settled()
    assert (view.state, view.error_code) == ("aborted", "aborted")
    assert not (repository / "ended.txt").exists()


def test_unknown_model_or_agent__is_refused_before_anything_is_sent(begin):
    for turn in (begin(model="practice/nothing"), begin(agent="nobody")):
        with pytest.raises(Upstream) as refused:
            turn.send()
        assert (refused.value.code, refused.value.transient) == ("model_not_found", False)
        assert turn.view().state == "died"
        assert turn.backend.client.get(f"/session/{turn.session}/message") == []


def test_unknown_session__is_absent(begin, repository):
    turn = begin()
    assert turn.backend.view_turn("ses_0000000000000000000000000", str(repository), "msg_x").state == "absent"
    turn.backend.abort("ses_0000000000000000000000000")
    turn.prompt = replace(turn.prompt, external_session="ses_0000000000000000000000000")
    with pytest.raises(NotFound):
        turn.send()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "status", "status": 401}, "provider_auth"),
        ({"kind": "status", "status": 400}, "provider_error"),
        ({"kind": "rubbish"}, "provider_error"),
    ],
    ids=["401", "400", "rubbish"],
)
def test_provider_that_refuses__fails_the_turn(begin, fault, code):
    turn = begin({"implementation": [[{"fault": fault}]]})
    turn.send()
    view = turn.settled()
    assert (view.state, view.error_code) == ("failed", code)
    assert view.error_message
    assert kinds(view)[-1] == "error"


def test_rate_limit__is_waited_out(begin):
    limited = {"text": "Here I am.", "fault": {"kind": "status", "status": 429, "retry_after": 1, "times": 2}}
    turn = begin({"implementation": [[limited]]})
    turn.send()
    waiting = wait_for(lambda: view if (view := turn.view()).retry_note else None)
    assert waiting.state == "running"
    assert waiting.retry_at is not None
    assert kinds(waiting)[-1] == "retry"
    view = turn.settled()
    assert (view.state, view.result_text) == ("completed", "Here I am.")
    assert [line["outcome"] for line in turn.lines()] == ["fault", "fault", "served"]


@pytest.mark.parametrize("kind", ["status", "hang", "drop"])
def test_provider_that_recovers__is_asked_again_in_the_same_step(begin, repository, kind):
    fails_once = write("after.txt", fault={"kind": kind, "status": 500, "times": 1})
    turn = begin({"implementation": [[write("before.txt"), fails_once, {"text": "Done."}]]})
    turn.send()
    view = turn.settled()
    assert (view.state, view.result_text, view.steps) == ("completed", "Done.", 3)
    assert (repository / "after.txt").exists()
    assert [line["step"] for line in turn.lines()] == [0, 1, 1, 2]


def test_endless_loop__is_seen_as_steps(begin):
    turn = begin({"implementation": [[{"fault": {"kind": "html"}}]]})
    turn.send()
    view = wait_for(lambda: view if (view := turn.view()).steps >= 4 else None)
    assert view.state == "running"
    assert kinds(view).count("step.finished") >= 3
    turn.backend.abort(turn.session)
    assert turn.settled().state in ("aborted", "failed")


def test_dispose__ends_what_runs_and_the_server_still_serves(begin, repository):
    turn = begin({"implementation": [[bash("touch begun.txt; sleep 30")]]})
    turn.send()
    wait_for((repository / "begun.txt").exists)
    turn.backend.dispose_directory(str(repository))
    assert turn.settled().state == "aborted"
    assert turn.backend.health().version.startswith("1.18.")


def test_child_session__is_part_of_the_turn(begin, repository):
    task = {"name": "task", "args": {"description": "Look", "prompt": "Look around.", "subagent_type": "explore"}}
    turn = begin({"implementation": [[{"tools": [task]}, {"text": "Done."}]]})
    turn.send()
    view = turn.settled()
    assert view.state == "completed"
    own = [entry for entry in view.events if "child" not in entry.data]
    children = [entry for entry in view.events if "child" in entry.data]
    assert finished(view, "task")[0]["status"] == "completed"
    assert [entry.kind for entry in children] == ["text", "step.finished"]
    own_cost = sum(entry.data["cost"] for entry in own if entry.kind == "step.finished")
    assert float(view.cost) > own_cost


def test_catalog__knows_models_agents_and_that_it_is_practice(opencode_server):
    catalog = opencode_server.backend().catalog()
    assert catalog.practice
    assert catalog.default == "practice/practice"
    assert catalog.offers("practice/practice")
    assert {"studio-planner", "studio-implementer", "studio-reviewer", "build"} <= catalog.agents


def test_wrong_password__is_unreachable_not_a_crash(opencode_server):
    backend = OpenCodeBackend(OpenCodeClient(opencode_server.url, "opencode", "wrong"))
    with pytest.raises(Upstream) as refused:
        backend.health()
    assert refused.value.code == "server_unreachable"
    with pytest.raises(Upstream):
        next(backend.stream())


def test_sample_tasks__run_from_plan_to_approval(begin, repository):
    """With the studio's commits in between, one after the other in one checkout."""

    def commit(text):
        identity = ["-c", "user.name=Studio", "-c", "user.email=studio@example.invalid"]
        subprocess.run(["git", "add", "-A"], cwd=repository, check=True)
        subprocess.run(["git", *identity, "commit", "-q", "-m", text], cwd=repository, check=True)

    def run(role, **header):
        turn = begin("Please.", role=role, **header)
        turn.send()
        view = turn.answered()
        assert view.state == "completed", view
        wrong = [entry.data for entry in view.events if entry.data.get("status") == "error"]
        assert not wrong
        assert all(entry.data.get("exit", 0) == 0 for entry in view.events)
        return view.result_text

    for title in ("Add a farewell", "Greet in another language", "Document the package", "Something else"):
        assert run("planner", title=title).startswith("# Plan")
        run("implementer", title=title)
        commit(title)
        review = run("reviewer", title=title)
        if title == "Greet in another language":
            assert '"changes_requested"' in review
            run("implementer", title=title, phase="fix")
            commit("Fix")
            review = run("reviewer", title=title, round=2)
        assert '"approved"' in review
    checked = subprocess.run(["python3", "-B", "-m", "unittest"], cwd=repository, capture_output=True, text=True)
    assert "Ran 4 tests" in checked.stderr
    assert "OK" in checked.stderr
    assert "## Use" in (repository / "README.md").read_text()
    assert (repository / "docs" / "practice" / "DEMO-1.md").exists()
