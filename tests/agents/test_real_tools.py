"""Tools of the studio on the real server: attached for a directory, used by the agent, and gone in the middle."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.real.agentserver import wait_for
from tests.real.parts import free_port

pytestmark = pytest.mark.real

# A server of the official package with one tool, which answers with the token that the call carried.
TOOLS = """
import sys
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("studio")

@server.tool()
def submit_plan(plan: str, context: Context) -> str:
    if plan == "refused":
        raise ValueError("no")
    return "Stored for " + context.headers["authorization"]

server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]), json_response=True, stateless_http=True)
"""


@pytest.fixture
def tools():
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", TOOLS, str(port)])

    def listening():
        assert process.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(listening)
        process.url = f"http://127.0.0.1:{port}/mcp"
        yield process
    finally:
        process.kill()
        process.wait()


def planning(begin, opencode_server, tools, plan="# The plan"):
    backend = opencode_server.backend(tools.url)
    return begin({"planning": [[{"plan": plan}, {"text": "Handed in."}]]}, role="planner", backend=backend)


def outputs(view):
    return [entry.data for entry in view.events if entry.kind == "tool.finished"]


def test_tools__act_under_the_token_that_was_attached_last(begin, opencode_server, tools, repository):
    turn = planning(begin, opencode_server, tools)
    assert turn.backend.attach_tools(str(repository), "first")
    assert turn.backend.attach_tools(str(repository), "second")
    turn.send()
    view = turn.settled()
    assert (view.state, view.result_text) == ("completed", "Handed in.")
    assert outputs(view)[0]["output"] == "Stored for Bearer second"
    assert (outputs(view)[0]["tool"], outputs(view)[0]["title"]) == ("studio_submit_plan", "# The plan")


def test_tool_that_fails__is_followed_by_prose(begin, opencode_server, tools, repository):
    turn = planning(begin, opencode_server, tools, "refused")
    assert turn.backend.attach_tools(str(repository), "t")
    turn.send()
    view = turn.settled()
    assert (view.state, view.result_text) == ("completed", "refused")
    assert outputs(view)[0]["status"] == "error"


def test_tools_that_die_after_they_were_attached__are_followed_by_prose(begin, opencode_server, tools, repository):
    turn = planning(begin, opencode_server, tools)
    assert turn.backend.attach_tools(str(repository), "t")
    tools.kill()
    tools.wait()
    turn.send()
    assert turn.settled().result_text == "# The plan"


def test_tools_that_cannot_be_reached__are_not_attached_and_the_turn_runs(begin, opencode_server, tools, repository):
    tools.kill()
    tools.wait()
    turn = planning(begin, opencode_server, tools)
    assert not turn.backend.attach_tools(str(repository), "t")
    turn.send()
    assert turn.settled().result_text == "# The plan"
