"""Stopping on the real OpenCode server: whatever the agent does at that moment, afterwards nothing of it runs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from agents.strays import find_strays
from sessions_app.models import AgentSession, PermissionRule, Turn
from sessions_app.services import abort, asks, dispatch, reconcile, settle, stopping, turns
from studio.kernel.clock import now
from tests.factories import make_profiles, make_project, make_workspace
from tests.real.agentserver import prompt_text, wait_for
from tests.real.parts import free_port

pytestmark = [pytest.mark.real, pytest.mark.django_db]


def bash(command, **more):
    return {"tools": [{"name": "bash", "args": {"command": command, "description": "Run it"}}], **more}


@pytest.fixture
def session(opencode_server, settings):
    make_profiles()
    workspace = make_workspace(make_project())
    settings.DATA = opencode_server.data  # whose commands carry its mark
    return turns.open_session(
        workspace=workspace,
        server=opencode_server.row(managed=True),
        role="implementer",
        title="Work",
        agent="studio-implementer",
        model="practice/practice",
    )


@pytest.fixture
def begin(session):
    """Admits and dispatches a turn that follows the steps."""

    def begin(*steps):
        turn = turns.admit_turn(
            session=session,
            prompt=prompt_text({"implementation": [list(steps)]}),
            max_steps=30,
            wall_seconds=300,
            idle_seconds=60,
        )
        dispatch.dispatch(turn.pk)
        session.refresh_from_db()
        return turn

    return begin


@pytest.fixture
def strays(opencode_server, session):
    """The command lines that still run in the session's workspace."""

    def strays():
        found = find_strays(str(opencode_server.setup.folder.root), session.directory)
        return [" ".join(process.cmdline()) for process in found]

    return strays


# A tool server whose tool does not come back.
TOOLS = """
import sys
from pathlib import Path
from anyio import sleep
from mcp.server import MCPServer

server = MCPServer("studio")

@server.tool()
async def submit_plan(plan: str) -> str:
    Path(sys.argv[2]).touch()
    await sleep(600)
    return "Stored."

server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]), json_response=True, stateless_http=True)
"""


@pytest.fixture
def slow_tool(tmp_path):
    port = free_port()
    called = tmp_path / "called"
    process = subprocess.Popen([sys.executable, "-c", TOOLS, str(port), str(called)])

    def listening():
        assert process.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(listening)
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}/mcp", called=called)
    finally:
        process.kill()
        process.wait()


def begun(session):
    """Wait until the agent's command has begun."""
    wait_for((Path(session.directory) / "begun").exists, what="for the command")


def stop(turn, reason="stopped", message=""):
    """Stop as the jobs do, again and again until the turn is settled and the server says that nothing of it runs."""
    abort.request_abort(turn_id=turn.pk, reason=reason, message=message)

    def check():
        abort.abort(turn.pk)
        turn.refresh_from_db()
        return turn.state == "settled"

    wait_for(check, what="for the turn's end")
    assert turn.unconfirmed
    confirm(turn)
    return turn


def confirm(turn):
    """The sweeper's part: ask until it is certain."""
    wait_for(lambda: stopping.confirm_stopped(turn.pk), what="for the server's word")
    turn.refresh_from_db()
    assert not turn.unconfirmed


def nothing_runs(opencode_server, session, strays):
    """Neither on the server nor beside it, and nothing more is asked of the provider."""
    assert opencode_server.backend().busy(session.directory) == set()
    assert strays() == []
    asked = len(opencode_server.practice_lines(session.directory))
    with pytest.raises(AssertionError):
        wait_for(lambda: len(opencode_server.practice_lines(session.directory)) > asked, seconds=1.5)


COMMANDS = {
    "plain": "touch begun; sleep 901",
    "background": "sleep 902 & touch begun; wait",
    "nohup": "nohup sleep 903 >/dev/null 2>&1 & touch begun; sleep 903",
    "setsid": "setsid sleep 904 & touch begun; sleep 904",
    "daemon": "(setsid sh -c '(cd /; exec sleep 905) &' >/dev/null 2>&1 &); sleep 0.2; touch begun; sleep 905",
    "stubborn": "trap '' TERM; setsid sh -c \"trap '' TERM; while :; do sleep 0.2; done\" & touch begun; sleep 906",
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_stop__in_a_command_leaves_no_process(begin, session, strays, opencode_server, command):
    turn = begin(bash(command), {"text": "Done."})
    begun(session)
    assert strays()
    assert stop(turn).outcome == "aborted"
    nothing_runs(opencode_server, session, strays)


def test_stop__leaves_the_commands_of_another_workspace_alone(begin, session, strays, opencode_server):
    other = make_workspace(make_project())
    theirs = turns.open_session(
        workspace=other,
        server=session.server,
        role="implementer",
        title="Other",
        agent="studio-implementer",
        model="practice/practice",
    )
    script = prompt_text({"implementation": [[bash("touch begun; setsid sleep 907 & sleep 907")]]})
    their_turn = turns.admit_turn(session=theirs, prompt=script, max_steps=30, wall_seconds=300, idle_seconds=60)
    dispatch.dispatch(their_turn.pk)
    begun(theirs)
    turn = begin(bash("touch begun; setsid sleep 908 & sleep 908"))
    begun(session)
    stop(turn)
    assert strays() == []
    assert find_strays(str(opencode_server.setup.folder.root), theirs.directory)
    stop(their_turn)
    assert not find_strays(str(opencode_server.setup.folder.root), theirs.directory)


def test_stop__in_the_middle_of_a_text(begin, session, strays, opencode_server):
    turn = begin({"text": "word " * 2000, "chunk": 5, "pace": 0.2})
    wait_for(lambda: opencode_server.backend().busy(session.directory))
    assert stop(turn).outcome == "aborted"
    nothing_runs(opencode_server, session, strays)


def test_stop__of_a_sub_agents_command(begin, session, strays, opencode_server):
    steps = json.dumps([bash("touch begun; setsid sleep 909 & sleep 909"), {"text": "Found it."}])
    prompt = f"Look around.\n\n```practice\n{steps}\n```\n"
    task = {"name": "task", "args": {"description": "Look", "prompt": prompt, "subagent_type": "general"}}
    turn = begin({"tools": [task]}, {"text": "Done."})

    def command_runs():
        asks.sync(session.server, {session.directory})  # the rules answer what a sub-agent asks
        return (Path(session.directory) / "begun").exists()

    wait_for(command_runs, what="for the command")
    assert len(opencode_server.backend().busy(session.directory)) == 2
    assert stop(turn).outcome == "aborted"
    nothing_runs(opencode_server, session, strays)


def test_stop__while_the_server_waits_to_ask_again(begin, session, strays, opencode_server):
    turn = begin({"text": "Here.", "fault": {"kind": "status", "status": 429, "retry_after": 3600, "times": 1}})

    def waits():
        reconcile.reconcile(turn.pk)
        turn.refresh_from_db()
        return turn.retry_at

    wait_for(waits)
    assert stop(turn).outcome == "aborted"
    nothing_runs(opencode_server, session, strays)


def test_stop__while_the_provider_hangs(begin, session, strays, opencode_server):
    turn = begin({"fault": {"kind": "hang", "seconds": 600}})
    wait_for(lambda: opencode_server.practice_lines(session.directory))
    assert stop(turn).outcome == "aborted"
    nothing_runs(opencode_server, session, strays)


def test_stop__while_a_person_is_asked(begin, session, strays, opencode_server):
    PermissionRule.objects.create(project=session.project, permission="bash", pattern="*", action="ask")
    turn = begin(bash("touch begun"), {"text": "Done."})

    def asked():
        asks.sync(session.server, {session.directory})
        return session.asks.filter(state="pending").exists()

    wait_for(asked, what="for the ask")
    assert stop(turn).outcome == "aborted"
    nothing_runs(opencode_server, session, strays)
    assert not session.asks.filter(state="pending").exists()
    assert not (Path(session.directory) / "begun").exists()


def test_stop__in_a_call_of_one_of_the_studios_tools(begin, session, strays, opencode_server, slow_tool):
    AgentSession.objects.filter(pk=session.pk).update(role="planner", agent="studio-planner")
    session.refresh_from_db()
    opencode_server.backend(slow_tool.url).attach_tools(session.directory, "token")
    turn = begin({"tools": [{"name": "studio_submit_plan", "args": {"plan": "A plan"}}]}, {"text": "Done."})
    wait_for(slow_tool.called.exists, what="for the call")
    assert stop(turn).outcome == "aborted"
    nothing_runs(opencode_server, session, strays)


def test_stop__for_a_limit_is_a_failure_with_its_code(begin, session, strays, opencode_server):
    turn = begin(bash("touch begun; sleep 910"))
    begun(session)
    stop(turn, "budget_exceeded", "This task has used $2.00 of $1.00.")
    assert (turn.outcome, turn.error_code) == ("failed", "budget_exceeded")
    assert turn.error_message == "This task has used $2.00 of $1.00."
    nothing_runs(opencode_server, session, strays)


def test_confirm__stops_what_the_server_still_runs_of_a_settled_turn(begin, session, strays, opencode_server):
    """Settled because the server was out of reach: when it is back, the agent is still at work there."""
    turn = begin(bash("touch begun; setsid sleep 911 & sleep 911"), {"text": "Done."})
    begun(session)
    Turn.objects.filter(pk=turn.pk).update(abort_requested_at=now(), abort_reason="stopped")
    turn.refresh_from_db()
    settle.settle_stopped(turn, message="The agent server could not be reached to stop the turn.")
    assert turn.pk in stopping.unconfirmed_now()
    assert not stopping.confirm_stopped(turn.pk)  # it is aborted now; whether it has ended is asked again
    Turn.objects.filter(pk=turn.pk).update(next_try_at=None)
    confirm(turn)
    nothing_runs(opencode_server, session, strays)


def test_dispatch__waits_until_nothing_of_the_stopped_turn_runs(begin, session, opencode_server):
    turn = begin(bash("touch begun; sleep 912"))
    begun(session)
    abort.request_abort(turn_id=turn.pk, reason="interrupted")
    wait_for(lambda: abort.abort(turn.pk) or Turn.objects.get(pk=turn.pk).state == "settled")
    following = begin({"text": "Something else."})
    following.refresh_from_db()
    assert following.state == "admitted"
    confirm(turn)
    dispatch.dispatch(following.pk)
    following.refresh_from_db()
    assert following.state == "running"
    stop(following)
