"""Scripts: what the practice model answers, step by step, in each phase and round of a task."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, replace
from typing import Any

from agents.practice.conversation import BLOCK, Conversation
from agents.practice.samples import DEFAULT, SAMPLES

PHASES = ("planning", "implementation", "review", "fix")
FAULTS = ("status", "hang", "drop", "rubbish", "html", "no_finish")
FINDINGS = re.compile(r"^<findings>$(.*?)^</findings>$", re.DOTALL | re.MULTILINE)
FINDING_NUMBER = re.compile(r"^#(\d+) \[", re.MULTILINE)
CONFLICTS = re.compile(r"^<conflicts>$(.*?)^</conflicts>$", re.DOTALL | re.MULTILINE)
# What keeps both sides of each conflict, by side that is kept: sed commands that delete the rest.
KEPT = {
    "both": ("/^<<<<<<< /d", "/^||||||| /,/^=======$/d", "/^=======$/d", "/^>>>>>>> /d"),
    "ours": ("/^||||||| /,/^>>>>>>> /d", "/^=======$/,/^>>>>>>> /d", "/^<<<<<<< /d"),
}
DEFAULT_CHUNK = 24  # characters
HEARD = 200  # characters of a message that are repeated in the answer
LAST_WORDS = "The script for this phase has nothing more to do."

SUBMIT_PLAN = "studio_submit_plan"
REPORT_FINDING = "studio_report_finding"
MARK_FINDING = "studio_mark_finding"
SUBMIT_VERDICT = "studio_submit_verdict"


class ScriptError(ValueError):
    """A script that cannot be followed; its message is shown to the person who wrote it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure to be acted out in place of (or in the middle of) an answer."""

    kind: str
    status: int = 500
    retry_after: str = ""
    times: int = 0  # 0: for ever
    seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the model. `prose` is said in the next answer when a tool of the studio failed in this one."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    chunk: int = DEFAULT_CHUNK
    delay: float = 0.0
    pace: float = 0.0
    fault: Fault | None = None
    prose: str = ""
    usage: tuple[int, int] | None = None  # tokens in and out that it claims; None: counted by its length


def answer_for(conversation: Conversation) -> Answer:
    """The next answer of the conversation's script. A script that cannot be read is answered with the reason."""
    try:
        answers = _answers(conversation)
    except ScriptError as error:
        return Answer(text=f"The practice script cannot be followed: {error}")
    step = conversation.step
    if conversation.studio_failed and 0 < step <= len(answers) and answers[step - 1].prose:
        return replace(answers[step - 1], text=answers[step - 1].prose, calls=(), fault=None, reasoning="")
    answer = answers[step] if step < len(answers) else Answer(text=LAST_WORDS)
    if conversation.unanswered and conversation.own_steps is None:
        return replace(answer, text=f"I read: {conversation.message.strip()[:HEARD]}\n\n{answer.text}".strip())
    return answer


def _answers(conversation: Conversation) -> list[Answer]:
    if conversation.own_steps is not None:
        return [
            answer for step in conversation.own_steps for answer in _expand(_filled(step, conversation), conversation)
        ]
    rounds = _script(conversation).get(conversation.phase, DEFAULT.get(conversation.phase, []))
    if not isinstance(rounds, list) or not all(isinstance(steps, list) for steps in rounds):
        raise ScriptError(f"{conversation.phase!r} must be a list of rounds, each a list of steps")
    steps = rounds[min(conversation.round, len(rounds)) - 1] if rounds else []
    return [answer for step in steps for answer in _expand(_filled(step, conversation), conversation)]


def _script(conversation: Conversation) -> dict[str, Any]:
    block = BLOCK.search(conversation.description)
    if block is None:
        return SAMPLES.get(conversation.title, DEFAULT)
    try:
        script = json.loads(block[1])
    except ValueError as error:
        raise ScriptError(f"it is not JSON ({error})") from error
    if not isinstance(script, dict) or not set(script) <= set(PHASES):
        raise ScriptError(f"it must be an object whose keys are among {', '.join(PHASES)}")
    return script


def _filled(value: Any, conversation: Conversation) -> Any:
    """`value` with {cwd}, {key}, {title}, {round} and {show} replaced in every string; other braces are left alone."""
    if isinstance(value, str):
        for name in ("cwd", "key", "title", "round", "show"):
            value = value.replace(f"{{{name}}}", str(getattr(conversation, name)))
        return value
    if isinstance(value, list):
        return [_filled(one, conversation) for one in value]
    if isinstance(value, dict):
        return {key: _filled(one, conversation) for key, one in value.items()}
    return value


def _expand(step: Any, conversation: Conversation) -> list[Answer]:
    """The answers of one step: a verdict with findings takes two, so that the findings are known before it."""
    if not isinstance(step, dict):
        raise ScriptError("each step must be an object")
    try:
        plain = Answer(
            text=str(step.get("text", "")),
            reasoning=str(step.get("reasoning", "")),
            calls=tuple(Call(str(tool["name"]), dict(tool.get("args") or {})) for tool in step.get("tools", [])),
            chunk=max(1, int(step.get("chunk", DEFAULT_CHUNK))),
            delay=float(step.get("delay", 0)),
            pace=float(step.get("pace", 0)),
            fault=_fault(step.get("fault")),
            usage=_usage(step.get("usage")),
        )
        if "plan" in step:
            return [_plan(plain, str(step["plan"]), conversation)]
        if "verdict" in step:
            return _verdict(plain, step, conversation)
        if "resolve" in step:
            return _resolve(plain, str(step["resolve"]), conversation)
        if "mark" in step:
            return _mark(plain, step, conversation)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ScriptError(f"a step is malformed ({type(error).__name__}: {error})") from error
    return [plain]


def _fault(value: Any) -> Fault | None:
    if value is None:
        return None
    if value["kind"] not in FAULTS:
        raise ScriptError(f"a fault's kind must be one of {', '.join(FAULTS)}")
    return Fault(
        kind=value["kind"],
        status=int(value.get("status", 500)),
        retry_after=str(value.get("retry_after", "")),
        times=int(value.get("times", 0)),
        seconds=float(value.get("seconds", 3600)),
    )


def _usage(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    return max(0, int(value.get("input", 0))), max(0, int(value.get("output", 0)))


def _plan(plain: Answer, plan: str, conversation: Conversation) -> Answer:
    if SUBMIT_PLAN not in conversation.offered:
        return replace(plain, text=plan)
    return replace(plain, calls=(*plain.calls, Call(SUBMIT_PLAN, {"plan": plan})), prose=plan)


def _verdict(plain: Answer, step: dict[str, Any], conversation: Conversation) -> list[Answer]:
    summary, findings = str(step.get("summary", "")), [dict(finding) for finding in step.get("findings", [])]
    decided = {"verdict": step["verdict"], "summary": summary}
    block = json.dumps({**decided, "findings": findings}, indent=2, ensure_ascii=False)
    prose = f"{summary}\n\n```json\n{block}\n```"
    if SUBMIT_VERDICT not in conversation.offered or (findings and REPORT_FINDING not in conversation.offered):
        return [replace(plain, text=f"{plain.text}\n\n{prose}".strip())]
    verdict = Call(SUBMIT_VERDICT, decided)
    if not findings:
        return [replace(plain, calls=(*plain.calls, verdict), prose=prose)]
    reports = tuple(Call(REPORT_FINDING, finding) for finding in findings)
    return [
        replace(plain, calls=(*plain.calls, *reports), prose=prose),
        Answer(calls=(verdict,), chunk=plain.chunk, pace=plain.pace, prose=prose),
    ]


def _resolve(plain: Answer, kept: str, conversation: Conversation) -> list[Answer]:
    """Takes the markers out of every file that the prompt lists as in conflict; no answer when there is none."""
    listed = "".join(CONFLICTS.findall(conversation.prompt))
    files = [line for line in listed.splitlines() if line and not line.startswith(" ")]
    if kept not in KEPT:
        raise ScriptError(f"resolve must be one of {', '.join(KEPT)}")
    if not files:
        return []
    program = " ".join(f"-e {shlex.quote(part)}" for part in KEPT[kept])
    command = f"sed -i {program} -- {' '.join(shlex.quote(file) for file in files)}"
    call = Call("bash", {"command": command, "description": f"Keep {kept} in each conflict"})
    return [replace(plain, calls=(*plain.calls, call))]


def _mark(plain: Answer, step: dict[str, Any], conversation: Conversation) -> list[Answer]:
    """Marks every finding that the prompt lists; no answer when there is none, or no such tool."""
    listed = "".join(FINDINGS.findall(conversation.prompt))
    numbers = sorted({int(number) for number in FINDING_NUMBER.findall(listed)})
    if not numbers or MARK_FINDING not in conversation.offered:
        return []
    note = str(step.get("note", ""))
    calls = (Call(MARK_FINDING, {"number": number, "state": step["mark"], "note": note}) for number in numbers)
    return [replace(plain, calls=(*plain.calls, *calls))]
