"""Reads a chat-completions request: which prompt of the studio it continues, and how far its script has come.

The model keeps no memory of conversations: everything is in the messages, so a restarted server or a resumed turn goes on
where it was.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEADER = re.compile(
    r"\APhase: (?P<phase>\w+)\nRound: (?P<round>\d+)\nTask: (?P<key>[^\n]*)\nTitle: (?P<title>[^\n]*)\n", re.MULTILINE
)
DESCRIPTION = re.compile(r"<task-description>\n?(.*?)\n?</task-description>", re.DOTALL)
WORKING_DIRECTORY = re.compile(r"^\s*Working directory: (.+)$", re.MULTILINE)
# How the server tells a model that it died, or was stopped, under a call.
INTERRUPTED = re.compile(r"\[Tool execution was interrupted\]|\A\s*Tool execution aborted")
# How the server tells a model that a call of an MCP tool went wrong.
TOOL_FAILED = re.compile(
    r"\A\s*(error|mcp error|unable to connect|the arguments of|tool execution (failed|aborted)|fetch failed)",
    re.IGNORECASE,
)
STUDIO_TOOL = "studio_"
BLOCK = re.compile(r"^```practice[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
# How the server words a message that came while the agent was at work.
CAME_MEANWHILE = re.compile(r"The user sent the following message:\n(.*?)\n\s*Please address this message", re.DOTALL)
MESSAGE = "message"  # the phase that the log names for the steps of a message's own script


@dataclass(frozen=True, slots=True)
class Conversation:
    """A turn of the studio, or a conversation of a sub-agent, as one request shows it.

    A person's message (or a sub-agent's prompt) may carry a practice block with a list of steps: they come next, and then
    the rest of the phase's script.
    """

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
    own_steps: list[Any] | None = None  # the steps of the last message that has a script, while they are not used up
    message: str = ""  # the last message after the prompt
    unanswered: bool = False  # nothing was said since that message

    @property
    def show(self) -> str:
        """The command that shows the last commit of the working directory."""
        return SHOW_JJ if Path(self.cwd, ".jj").is_dir() else SHOW_GIT


SHOW_GIT = "git show --stat --patch HEAD"
SHOW_JJ = "jj show --stat --git @-"


def read_conversation(body: dict[str, Any], session: str) -> Conversation | None:
    """The conversation in this request; None when nobody in it gave a script to follow."""
    messages = [message for message in body.get("messages") or [] if isinstance(message, dict)]
    header, start = None, -1
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].get("role") == "user":
            header = HEADER.match(content_text(messages[index].get("content")))
            if header:
                start = index
                break
    stretches = _stretches(messages[start + 1 :])
    if header is None and all(one.steps is None for one in stretches):
        return None
    prompt = content_text(messages[start].get("content")) if header else ""
    place = _place(stretches)
    description = DESCRIPTION.search(prompt)
    system = "\n".join(content_text(one.get("content")) for one in messages if one.get("role") == "system")
    directory = WORKING_DIRECTORY.search(system)
    about = header.groupdict() if header else {}
    return Conversation(
        session=session,
        phase=MESSAGE if place.own_steps is not None else about.get("phase", MESSAGE),
        round=place.number if place.own_steps is not None else max(1, int(about.get("round", 1))),
        key=about.get("key", "").strip(),
        title=about.get("title", "").strip(),
        description=description[1] if description else "",
        cwd=directory[1].strip() if directory else ".",
        prompt=prompt,
        step=place.step,
        offered=frozenset(_tool_names(body.get("tools"))),
        studio_failed=stretches[-1].failed,
        own_steps=place.own_steps,
        message=stretches[-1].text,
        unanswered=len(stretches) > 1 and stretches[-1].answers == 0,
    )


@dataclass(slots=True)
class Stretch:
    """What follows the prompt, or a message after it, up to the next message."""

    text: str = ""
    steps: list[Any] | None = None
    answers: int = 0
    failed: bool = False
    following: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """How far the scripts have come: in a message's own one, or (without) in the phase's."""

    step: int
    number: int = 0  # of the message
    own_steps: list[Any] | None = None


def _stretches(messages: list[dict[str, Any]]) -> list[Stretch]:
    stretches = [Stretch()]
    for message in messages:
        if message.get("role") == "user":
            text = content_text(message.get("content"))
            meanwhile = CAME_MEANWHILE.search(text)
            text = meanwhile[1] if meanwhile else text
            stretches.append(Stretch(text=text, steps=_own_steps(text)))
        else:
            stretches[-1].following.append(message)
    for one in stretches:
        one.answers, one.failed = _progress(one.following)
    return stretches


def _own_steps(text: str) -> list[Any] | None:
    """The steps that a message brings itself; None when it brings none that can be read."""
    block = BLOCK.search(text)
    try:
        steps = json.loads(block[1]) if block else None
    except ValueError:
        return None
    return steps if isinstance(steps, list) else None


def _place(stretches: list[Stretch]) -> Place:
    """Answers beyond a message's own steps belong to the phase's script, which goes on where it was interrupted."""
    step = 0
    for number, one in enumerate(stretches):
        own = len(one.steps or [])
        if one is stretches[-1] and one.answers < own:
            return Place(one.answers, number, one.steps)
        step += max(0, one.answers - own)
    return Place(step)


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
        if any(INTERRUPTED.search(result) for result in results.values()):
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
