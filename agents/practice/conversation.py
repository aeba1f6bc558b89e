"""Reads a chat-completions request: which prompt of the studio it continues, and how far its script has come.

The model keeps no memory of conversations: everything is in the messages, so a restarted server or a resumed turn goes on
where it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

HEADER = re.compile(
    r"\APhase: (?P<phase>\w+)\nRound: (?P<round>\d+)\nTask: (?P<key>[^\n]*)\nTitle: (?P<title>[^\n]*)\n", re.MULTILINE
)
DESCRIPTION = re.compile(r"<task-description>\n?(.*?)\n?</task-description>", re.DOTALL)
WORKING_DIRECTORY = re.compile(r"^\s*Working directory: (.+)$", re.MULTILINE)
INTERRUPTED = "[Tool execution was interrupted]"
# How the server tells a model that a call of an MCP tool went wrong.
TOOL_FAILED = re.compile(
    r"\A\s*(error|mcp error|unable to connect|the arguments of|tool execution (failed|aborted)|fetch failed)",
    re.IGNORECASE,
)
STUDIO_TOOL = "studio_"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A turn of the studio as one request shows it."""

    session: str
    phase: str
    round: int
    key: str
    title: str
    description: str
    cwd: str
    prompt: str
    step: int  # answers given since the prompt
    offered: frozenset[str]  # names of the tools
    studio_failed: bool  # the last answer called a tool of the studio and it failed


def read_conversation(body: dict[str, Any], session: str) -> Conversation | None:
    """The studio's turn in this request; None when no message begins like a prompt of the studio."""
    messages = [message for message in body.get("messages") or [] if isinstance(message, dict)]
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        prompt = content_text(message.get("content"))
        header = HEADER.match(prompt) if message.get("role") == "user" else None
        if header:
            break
    else:
        return None
    step, failed = _progress(messages[index + 1 :])
    description = DESCRIPTION.search(prompt)
    system = "\n".join(content_text(one.get("content")) for one in messages if one.get("role") == "system")
    directory = WORKING_DIRECTORY.search(system)
    return Conversation(
        session=session,
        phase=header["phase"],
        round=max(1, int(header["round"])),
        key=header["key"].strip(),
        title=header["title"].strip(),
        description=description[1] if description else "",
        cwd=directory[1].strip() if directory else ".",
        prompt=prompt,
        step=step,
        offered=frozenset(_tool_names(body.get("tools"))),
        studio_failed=failed,
    )


def content_text(content: Any) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return ""


def _tool_names(tools: Any) -> list[str]:
    return [tool["function"]["name"] for tool in tools or [] if isinstance(tool, dict) and "function" in tool]


def _progress(messages: list[dict[str, Any]]) -> tuple[int, bool]:
    """(answers that count, whether the last one's studio tools failed).

    An answer that is empty (a try that failed) or whose tool was interrupted (the server died under it) does not count:
    it is given again.
    """
    steps, failed = 0, False
    for index, message in enumerate(messages):
        if message.get("role") != "assistant":
            continue
        calls = message.get("tool_calls") or []
        if not calls and not content_text(message.get("content")).strip():
            continue
        results = _results(messages[index + 1 :])
        if any(INTERRUPTED in result for result in results.values()):
            continue
        steps += 1
        failed = any(
            call["function"]["name"].startswith(STUDIO_TOOL) and TOOL_FAILED.match(results.get(call.get("id", ""), ""))
            for call in calls
        )
    return steps, failed


def _results(following: list[dict[str, Any]]) -> dict[str, str]:
    """The tool results that follow an answer, by call id."""
    found: dict[str, str] = {}
    for message in following:
        if message.get("role") != "tool":
            break
        found[message.get("tool_call_id", "")] = content_text(message.get("content"))
    return found
