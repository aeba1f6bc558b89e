"""The endpoint through which agents hand in results and run long commands: MCP over streamable HTTP, stateless, in JSON.

Whoever calls carries a token that names a run (studio.kernel.tokens); the run's row decides what may be handed in
(tasks.services.results). Each request is complete in itself: a restarted web process goes on where another one stopped,
and the ASGI server need not know the lifespan protocol (daphne does not).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from channels.db import database_sync_to_async
from mcp import types
from mcp.server import Server, ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic import BaseModel, Field, ValidationError

from studio import __version__
from studio.kernel.errors import StudioError
from studio.kernel.tokens import read_subject
from tasks.choices import Phase
from tasks.models import PhaseRun
from tasks.services import background, results
from tasks.verdicts import FoundFinding
from workspaces.commands.report import report

BODY_LIMIT = 2 * 1024 * 1024  # bytes of one request
INSTRUCTIONS = "Hand in the results of your phase here. They count only while your turn runs."


class SubmitPlan(BaseModel):
    """Hand in the plan. Handing in again replaces it."""

    plan: str = Field(description="The whole plan, in Markdown.", max_length=results.PLAN_LIMIT)


class ReportFinding(BaseModel):
    """Report one thing that you found in the change."""

    severity: Literal["error", "warning", "info"] = Field(description="`error`: must not be merged like this.")
    title: str = Field(description="One line that says what is wrong.", min_length=1, max_length=2_000)
    body: str = Field(default="", description="Why, and what would be right.", max_length=50_000)
    file: str = Field(default="", description="The file, relative to the repository.", max_length=results.FILE_LIMIT)
    line: int | None = Field(default=None, description="The line in the changed file.", ge=1, lt=2**31)


class MarkFinding(BaseModel):
    """Say what became of a finding of an earlier round."""

    number: int = Field(description="The finding's number.", ge=1, lt=2**31)
    state: Literal["fixed", "verified", "open"] = Field(
        description="Who fixes says `fixed`, who reviews says `verified`; both may say `open`."
    )
    note: str = Field(default="", description="How, or why not.", max_length=50_000)


class SubmitVerdict(BaseModel):
    """Give the verdict on the change, after the findings."""

    verdict: Literal["approved", "changes_requested"] = Field(description="An open error rules out `approved`.")
    summary: str = Field(default="", description="A few sentences for people.", max_length=50_000)


class PhaseSummary(BaseModel):
    """Say in a few sentences what you did and how it was verified."""

    text: str = Field(description="The summary.", max_length=50_000)


class RunCommand(BaseModel):
    """Run a long shell command (tests, a build) in the background of your checkout. You are told when it ends.

    It does not block you. What it leaves running in the background itself ends with it. Short commands belong into your
    shell tool.
    """

    command: str = Field(description="What bash runs in your working directory.", max_length=20_000)
    title: str = Field(default="", description="A few words for people.", max_length=500)
    time_limit: int | None = Field(
        default=None, description="Seconds until it is ended; 900 when not given, at most 14400."
    )
    wake: bool = Field(
        default=False,
        description="Tell you the result in a new turn when yours has ended before; else it is only kept.",
    )


class CommandStatus(BaseModel):
    """See how a background command stands, and the end of what it wrote."""

    id: str = Field(description="The id that run_command gave.", max_length=80)


class CancelCommand(BaseModel):
    """End a background command that you started."""

    id: str = Field(description="The id that run_command gave.", max_length=80)


def _submit_plan(run: str, given: SubmitPlan) -> str:
    return f"Plan version {results.submit_plan(run, given.plan).version} is stored."


def _report_finding(run: str, given: ReportFinding) -> str:
    found = FoundFinding(given.severity, given.title, given.body, given.file, given.line)
    return f"Finding #{results.report_finding(run, found).number} is stored."


def _mark_finding(run: str, given: MarkFinding) -> str:
    finding = results.mark_finding(run, given.number, given.state, given.note)
    return f"Finding #{finding.number} is marked {finding.state}."


def _submit_verdict(run: str, given: SubmitVerdict) -> str:
    review, contradicting = results.submit_verdict(run, given.verdict, given.summary)
    if contradicting:
        numbers = ", ".join(f"#{number}" for number in contradicting)
        return (
            f"The verdict is stored, but an error is open ({numbers}): it will count as changes requested. "
            "Mark what is solved as verified and give the verdict again, if that is what you mean."
        )
    return f"The verdict {review.verdict} is stored."


def _phase_summary(run: str, given: PhaseSummary) -> str:
    results.phase_summary(run, given.text)
    return "The summary is stored."


def _run_command(run: str, given: RunCommand) -> str:
    command, new = background.run_command(
        run, given.command, title=given.title, time_limit=given.time_limit, wake=given.wake
    )
    if not new:
        return f"This command runs already, as {command.pk}. You will be told when it ends."
    return f"The command {command.pk} is started. You will be told when it ends; command_status shows how it stands."


def _command_status(run: str, given: CommandStatus) -> str:
    return report(background.command_of(run, given.id))


def _cancel_command(run: str, given: CancelCommand) -> str:
    return f"The command {background.end_command(run, given.id).pk} is being ended."


@dataclass(frozen=True, slots=True)
class StudioTool:
    """A tool, the phases that it belongs to, and what it does with checked input."""

    arguments: type[BaseModel]
    phases: frozenset[str]
    call: Callable[[str, Any], str]


TOOLS: dict[str, StudioTool] = {
    "submit_plan": StudioTool(SubmitPlan, frozenset({Phase.PLANNING}), _submit_plan),
    "report_finding": StudioTool(ReportFinding, frozenset({Phase.REVIEW}), _report_finding),
    "mark_finding": StudioTool(MarkFinding, frozenset({Phase.FIX, Phase.REVIEW}), _mark_finding),
    "submit_verdict": StudioTool(SubmitVerdict, frozenset({Phase.REVIEW}), _submit_verdict),
    "phase_summary": StudioTool(PhaseSummary, frozenset(Phase.values), _phase_summary),
    "run_command": StudioTool(RunCommand, frozenset(background.PHASES), _run_command),
    "command_status": StudioTool(CommandStatus, frozenset(background.PHASES), _command_status),
    "cancel_command": StudioTool(CancelCommand, frozenset(background.PHASES), _cancel_command),
}


async def _list_tools(
    context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    """The tools that fit the phase of the caller's run; none when the run is gone."""
    phase = await database_sync_to_async(_phase_of)(_subject(context))
    fitting = {name: tool for name, tool in TOOLS.items() if phase in tool.phases}
    return types.ListToolsResult(
        tools=[
            types.Tool(
                name=name,
                description=tool.arguments.__doc__,
                input_schema={**tool.arguments.model_json_schema(), "title": name},
            )
            for name, tool in fitting.items()
        ]
    )


async def _call_tool(context: ServerRequestContext[Any], params: types.CallToolRequestParams) -> types.CallToolResult:
    """Do what a tool is for; whatever is wrong is told to the agent as a tool error, so that it can correct itself."""
    tool = TOOLS.get(params.name)
    if tool is None:
        return _answer(f"There is no tool called {params.name[:60]!r}.", error=True)
    try:
        given = tool.arguments.model_validate(params.arguments or {})
        return _answer(await database_sync_to_async(tool.call)(_subject(context), given))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        return _answer(f"The arguments of {params.name} do not fit: {problems}", error=True)
    except StudioError as error:
        return _answer(error.message, error=True)


def _answer(text: str, *, error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=error)


def _subject(context: ServerRequestContext[Any]) -> str:
    request = context.request
    assert request is not None  # noqa: S101 -- every call comes over HTTP, through `mcp_app`
    return str(request.scope["studio.subject"])


def _phase_of(run_id: str) -> str:
    try:
        return PhaseRun.objects.filter(pk=uuid.UUID(run_id)).values_list("phase", flat=True).first() or ""
    except ValueError:
        return ""


SERVER: Server[Any] = Server(
    "studio", version=__version__, instructions=INSTRUCTIONS, on_list_tools=_list_tools, on_call_tool=_call_tool
)

Application = Callable[[Any, Any, Any], Awaitable[None]]  # (scope, receive, send)


def mcp_app() -> Application:
    """The endpoint as an ASGI application for HTTP. It needs no lifespan events and holds nothing between requests."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] != "POST":
            await _refuse(send, 405, "This endpoint answers POST only.", (b"allow", b"POST"))
            return
        headers = dict(scope["headers"])
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        subject = read_subject(token.strip()) if kind.lower() == "bearer" else None
        if subject is None:
            await _refuse(send, 401, "The token is missing or not of this studio.", (b"www-authenticate", b"Bearer"))
            return
        manager = StreamableHTTPSessionManager(
            SERVER, json_response=True, stateless=True, max_request_body_size=BODY_LIMIT
        )
        async with manager.run():
            await manager.handle_request({**scope, "studio.subject": subject}, receive, send)

    return application


async def _refuse(send: Any, status: int, message: str, header: tuple[bytes, bytes]) -> None:
    code = {401: "unauthorized", 405: "method_not_allowed"}[status]
    body = json.dumps({"error": {"code": code, "message": message, "detail": {}}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), header]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
