"""What became of a turn, judged from the server's messages (opencode.md, section 6). Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from agents.backend import TEXT_LIMIT, LogEntry, Tokens, TurnView, TurnViewState
from agents.opencode.entries import MALFORMED, error_text, message_entries, moment, retry_entry, token_counts
from studio.kernel.text import clean, cut

# How the server words a tool call that somebody refused; the turn stops after it.
REFUSED = re.compile(r"rejected permission|dismissed this question", re.IGNORECASE)
# How it words a tool call that an abort has ended.
ABORTED = re.compile(r"\A(task cancelled|tool execution aborted)", re.IGNORECASE)
NOT_FOUND = re.compile(r"(model|agent|provider) not found|ProviderModelNotFoundError", re.IGNORECASE)
RATE_LIMIT = re.compile(r"rate.?limit|too many requests|quota|\b429\b", re.IGNORECASE)
CREDENTIALS = re.compile(r"unauthori[sz]ed|invalid.{0,12}(api.?)?key|\b40[13]\b|authentication", re.IGNORECASE)
# Failures of the way to the provider, which the server does not always mark as such.
PASSING = re.compile(
    r"connection (reset|refused|closed)|timed? ?out|overloaded|temporarily|\b50[0234]\b", re.IGNORECASE
)

NO_REASON = "The model provider ended its answer without saying why."
CUT_OFF = "The answer reached the model's output limit."
REFUSED_MESSAGE = "A tool call was refused, and the agent stopped."


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a turn of an idle session ended."""

    state: TurnViewState
    code: str = ""
    message: str = ""
    retryable: bool = False


def turn_messages(
    messages: list[dict[str, Any]], message_id: str, steers: Collection[str] = ()
) -> list[dict[str, Any]] | None:
    """The messages of the turn that began with `message_id`, that one first; None when it is not among them.

    A later message of a person belongs to the turn when it is among `steers` or came while the agent had more to do, and
    so do the messages that the server writes itself when it compacts.
    """
    start = next((index for index, message in enumerate(messages) if message["info"]["id"] == message_id), None)
    if start is None:
        return None
    turn = [messages[start]]
    for message in messages[start + 1 :]:
        info = message["info"]
        if info["role"] == "user" and info["id"] not in steers and not _by_server(message) and _ended(turn):
            break
        turn.append(message)
    return turn


def view_of(
    turn: list[dict[str, Any]] | None,
    status: dict[str, Any] | None,
    *,
    session: str,
    directory: str,
    steers: Collection[str] = (),
    answered_until: str = "",
) -> TurnView:
    """The view of a turn from its messages and the session's status (None: idle).

    `answered_until` is the last answer of an earlier try: while none follows it, the present try has not begun.
    """
    if turn is None:
        return TurnView(state="running" if status else "died", missing=tuple(steers))
    answers = [message for message in turn if message["info"]["role"] == "assistant"]
    last_answer = str(answers[-1]["info"]["id"]) if answers else ""
    present = {message["info"]["id"] for message in turn}
    if status:
        judgement = Judgement("running")
    elif answered_until and last_answer == answered_until:
        judgement = Judgement("died")
    else:
        judgement = Judgement("died") if _unanswered(turn, steers) else judge(answers)
    entries = _entries(turn, directory, idle=not status)
    retry_note, retry_at = "", None
    if status and status.get("type") == "retry":
        entry = retry_entry(session, status)
        entries.append(entry)
        retry_note = entry.data["message"]
        retry_at = moment(status["next"]) if status.get("next") else None
    return TurnView(
        state=judgement.state,
        error_code=judgement.code,
        error_message=judgement.message,
        retryable=judgement.retryable,
        cut_off=any(ABORTED.search(_tool_error(part)) for message in answers for part in message["parts"]),
        last_answer=last_answer,
        missing=tuple(one for one in steers if one not in present),
        result_text=_last_words(answers),
        steps=sum(not message["info"].get("summary") for message in answers),
        cost=sum((_cost(message["info"]) for message in answers), Decimal(0)),
        tokens=_tokens(answers),
        retry_note=retry_note,
        retry_at=retry_at,
        events=entries,
    )


def judge(answers: list[dict[str, Any]]) -> Judgement:
    """How a turn with these answers ended, now that its session is idle."""
    if not answers or answers[-1]["info"].get("summary") is True:
        return Judgement("died")  # never started, or nothing came after a compaction
    info, parts = answers[-1]["info"], answers[-1]["parts"]
    if info.get("error"):
        return judge_error(info["error"])
    if not (info.get("time") or {}).get("completed"):
        return Judgement("died")
    finish = info.get("finish")
    if finish == "stop":
        return Judgement("completed")
    if finish == "length":
        return Judgement("failed", "output_limit", CUT_OFF)
    if finish == "content-filter":
        return Judgement("failed", "content_filtered")
    if finish == "tool-calls":
        refused = any(part.get("type") == "tool" and REFUSED.search(_tool_error(part)) for part in parts)
        return Judgement("rejected", "agent_rejected", REFUSED_MESSAGE) if refused else Judgement("died")
    if not finish:
        return Judgement("aborted", "aborted")  # ended while it waited to try again
    return Judgement("failed", "provider_error", NO_REASON, retryable=True)


def judge_error(error: dict[str, Any]) -> Judgement:
    """The outcome of an answer that ended with an error."""
    name, message = error_text(error)
    if name == "MessageAbortedError":
        return Judgement("aborted", "aborted", "")
    data = error.get("data") or {}
    status = data.get("statusCode")
    code = error_code(name, status, message)
    retryable = data.get("isRetryable") is True or code == "rate_limited" or bool(PASSING.search(message))
    return Judgement("failed", code, message or name, retryable=retryable)


def error_code(name: str, status: Any, message: str) -> str:
    """The board's code for an error of the server."""
    by_name = {
        "ProviderAuthError": "provider_auth",
        "ContentFilterError": "content_filtered",
        "MessageOutputLengthError": "output_limit",
        "ProviderModelNotFoundError": "model_not_found",
    }
    if name in by_name:
        return by_name[name]
    if status in (401, 403):
        return "provider_auth"
    if status == 429:
        return "rate_limited"
    if NOT_FOUND.search(message) or (status == 404 and "model" in message.lower()):
        return "model_not_found"
    if status is None and RATE_LIMIT.search(message):
        return "rate_limited"
    if status is None and CREDENTIALS.search(message):
        return "provider_auth"
    return "provider_error"


def children_of(turn: list[dict[str, Any]]) -> list[str]:
    """The sessions that sub-agents of the turn worked in."""
    found: dict[str, None] = {}
    for message in turn:
        for part in message["parts"]:
            if part.get("type") == "tool" and part.get("tool") == "task":
                child = ((part.get("state") or {}).get("metadata") or {}).get("sessionId")
                if isinstance(child, str) and child:
                    found[child] = None
    return list(found)


def _by_server(message: dict[str, Any]) -> bool:
    """Whether the server wrote this user message itself, as it does when it compacts."""
    kinds = [part for part in message["parts"] if part.get("type") in ("text", "compaction", "subtask", "file")]
    return bool(kinds) and all(part.get("synthetic") or part["type"] == "compaction" for part in kinds)


def _ended(turn: list[dict[str, Any]]) -> bool:
    """Whether the agent had nothing more to do after these messages."""
    last = turn[-1]["info"]
    return last["role"] == "assistant" and (bool(last.get("error")) or last.get("finish") not in ("tool-calls", None))


def _unanswered(turn: list[dict[str, Any]], steers: Collection[str]) -> bool:
    """Whether the turn's last message is a steer that nothing followed."""
    last = turn[-1]["info"]
    return last["role"] == "user" and last["id"] in steers


def _entries(turn: list[dict[str, Any]], directory: str, *, idle: bool) -> list[LogEntry]:
    """The turn's entries. What is open in an answer that no longer changes was interrupted."""
    entries: list[LogEntry] = []
    last = max((index for index, message in enumerate(turn) if message["info"]["role"] == "assistant"), default=0)
    for index, message in enumerate(turn):
        try:
            entries += message_entries(message, directory=directory, interrupted=idle or index < last)
        except MALFORMED:
            continue
    return entries


def _last_words(answers: list[dict[str, Any]]) -> str:
    """The text of the last answer."""
    if not answers:
        return ""
    texts = [
        part["text"]
        for part in answers[-1]["parts"]
        if part.get("type") == "text" and isinstance(part.get("text"), str) and not part.get("synthetic")
    ]
    return cut(clean("\n\n".join(text for text in texts if text.strip())), TEXT_LIMIT)


def _cost(info: dict[str, Any]) -> Decimal:
    try:
        cost = Decimal(str(info.get("cost") or 0))
    except InvalidOperation:
        return Decimal(0)
    return cost if cost.is_finite() else Decimal(0)


def _tokens(answers: list[dict[str, Any]]) -> Tokens:
    counts = [token_counts(message["info"].get("tokens")) for message in answers]
    return Tokens(**{name: sum(count[name] for count in counts) for name in ("input", "output", "reasoning", "cached")})


def _tool_error(part: dict[str, Any]) -> str:
    return str((part.get("state") or {}).get("error") or "")
