"""The tools through the real client: in process, and over a real daphne."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from studio.kernel.tokens import sign_subject
from tasks.choices import Phase, Status
from tasks.mcp import BODY_LIMIT, TOOLS, mcp_app
from tasks.models import Finding, PhaseRun, Plan, Review
from tests.tasks.pipeline import Pipeline
from workspaces.models import Command

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
async def no_connection_left(transactional_db):
    """The thread in which async code reads the database gives its connection back."""
    yield
    await sync_to_async(connections.close_all)()


@pytest.fixture
def run_of(transactional_db):
    """Brings a task to a running run of a phase."""
    return sync_to_async(lambda phase: Pipeline().to(phase))


def http(token: str | None) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    transport = httpx2.ASGITransport(app=mcp_app())
    return httpx2.AsyncClient(transport=transport, base_url="http://studio", headers=headers)


class Tools:
    """The tools as an agent of `run` has them."""

    def __init__(self, run: PhaseRun) -> None:
        self.token = sign_subject(str(run.pk))

    async def __call__(self, name: str, **arguments: Any) -> Any:
        async with (
            http(self.token) as client,
            streamable_http_client("http://studio/mcp", http_client=client) as streams,
            ClientSession(streams[0], streams[1]) as session,
        ):
            await session.initialize()
            if name == "list":
                return sorted(tool.name for tool in (await session.list_tools()).tools)
            answer = await session.call_tool(name, arguments)
            [said] = answer.content
            return answer.is_error, getattr(said, "text", None)


@pytest.mark.parametrize("phase", Phase.values)
async def test_tools__are_those_of_the_phase(run_of, phase):
    offered = await Tools(await run_of(phase))("list")
    assert offered == sorted(name for name, tool in TOOLS.items() if phase in tool.phases)


async def test_submit_plan__stores_it_at_once(run_of):
    call = Tools(await run_of(Phase.PLANNING))
    assert await call("submit_plan", plan="# One") == (False, "Plan version 1 is stored.")
    assert await call("submit_plan", plan="# Two") == (False, "Plan version 1 is stored.")
    assert await Plan.objects.values_list("text", flat=True).aget() == "# Two"


async def test_review__findings_and_a_verdict_that_contradicts_them(run_of):
    call = Tools(await run_of(Phase.REVIEW))
    finding = {"severity": "error", "title": "Wrong", "body": "Why", "file": "a.py", "line": 3}
    assert await call("report_finding", **finding) == (False, "Finding #1 is stored.")
    error, text = await call("submit_verdict", verdict="approved", summary="ok")
    assert (error, "#1" in text, "count as changes requested" in text) == (False, True, True)
    assert await call("mark_finding", number=1, state="verified") == (False, "Finding #1 is marked verified.")
    assert await call("submit_verdict", verdict="approved") == (False, "The verdict approved is stored.")
    assert await Review.objects.values_list("verdict", flat=True).aget() == "approved"
    assert await call("phase_summary", text="Read it all.") == (False, "The summary is stored.")


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("submit_verdict", {"verdict": "not approved"}, "'approved' or 'changes_requested'"),
        ("submit_verdict", {}, "verdict: Field required"),
        ("report_finding", {"severity": "bad", "title": "t"}, "severity"),
        ("report_finding", {"severity": "error", "title": "t", "line": 0}, "line"),
        ("report_finding", {"severity": "error", "title": " "}, "needs a title"),
        ("mark_finding", {"number": 7, "state": "open"}, "no finding #7"),
        ("submit_plan", {"plan": "# Plan"}, "does not belong to the phase"),
        ("phase_summary", {"text": "x" * 60_000}, "text"),
        ("rm_rf", {}, "no tool called"),
    ],
)
async def test_wrong_calls__are_told_to_the_agent(run_of, name, arguments, words):
    error, text = await Tools(await run_of(Phase.REVIEW))(name, **arguments)
    assert error
    assert words in text
    assert await Finding.objects.acount() == 0


async def test_run_is_over__nothing_is_taken(run_of):
    run = await run_of(Phase.PLANNING)
    run.state = "succeeded"
    await run.asave(update_fields=["state"])
    error, text = await Tools(run)("submit_plan", plan="# Late")
    assert (error, text) == (True, "This run is over; nothing can be handed in any more.")
    await run.task.adelete()
    assert await Tools(run)("list") == []
    assert (await Tools(run)("submit_plan", plan="# Later"))[0]


async def test_commands__are_started_seen_and_ended(run_of):
    call = Tools(await run_of(Phase.IMPLEMENTATION))
    error, text = await call("run_command", command="make test", title="Tests")
    assert not error
    [command] = [row async for row in Command.objects.all()]
    assert text.startswith(f"The command {command.pk} is started.")
    assert "runs already" in (await call("run_command", command="make test"))[1]
    error, text = await call("command_status", id=str(command.pk))
    assert (error, "`make test`) is about to start." in text, "It has written nothing." in text) == (False, True, True)
    assert await call("cancel_command", id=str(command.pk)) == (False, f"The command {command.pk} is being ended.")
    for name, given in {
        "run_command": {"command": "git push"},
        "command_status": {"id": "x"},
        "cancel_command": {},
    }.items():
        assert (await call(name, **given))[0]


@pytest.mark.parametrize("token", [None, "", "nonsense", "a:b:c", "cut short"])
async def test_token__of_somebody_else(token):
    async with http(sign_subject("x")[:-2] if token == "cut short" else token) as client:
        answer = await client.post("/mcp", json={})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unauthorized"
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_token__with_another_scheme():
    async with http(None) as client:
        answer = await client.post("/mcp", json={}, headers={"Authorization": f"Basic {sign_subject('x')}"})
    assert answer.status_code == 401


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "OPTIONS"])
async def test_other_methods(method):
    async with http(sign_subject("x")) as client:
        answer = await client.request(method, "/mcp")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_rubbish__is_refused_not_crashed_on():
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    async with http(sign_subject("x")) as client:
        for body in (b"", b"{", b"[]", b"\xff\xfe", json.dumps({"jsonrpc": "2.0"}).encode()):
            answer = await client.post("/mcp", content=body, headers=headers)
            assert 400 <= answer.status_code < 500
        huge = await client.post("/mcp", content=b"x" * (BODY_LIMIT + 1), headers=headers)
    assert huge.status_code == 413


async def test_subject__that_is_no_id_sees_no_tool():
    call = Tools.__new__(Tools)
    call.token = sign_subject("no id")
    assert await call("list") == []
    assert (await call("submit_plan", plan="x"))[0]


@pytest.mark.real
async def test_daphne__serves_it_without_lifespan(run_of, daphne):
    run = await run_of(Phase.PLANNING)
    headers = {"Authorization": f"Bearer {sign_subject(str(run.pk))}"}
    async with (
        httpx2.AsyncClient(headers=headers) as client,
        streamable_http_client(f"{daphne}/mcp", http_client=client) as streams,
        ClientSession(streams[0], streams[1]) as session,
    ):
        await session.initialize()
        answer = await session.call_tool("submit_plan", {"plan": "# Over the wire"})
    assert not answer.is_error
    assert await Plan.objects.values_list("text", flat=True).aget() == "# Over the wire"
    assert (await sync_to_async(run.task.__class__.objects.get)(pk=run.task_id)).status == Status.PLANNING
