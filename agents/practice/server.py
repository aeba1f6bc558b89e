"""The HTTP side of the practice model: `/v1/models` and streaming `/v1/chat/completions`, with faults on demand."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from agents.practice.conversation import Conversation, content_text, read_conversation
from agents.practice.script import Answer, Fault, answer_for

MODEL = "practice"
BODY_LIMIT = 64 * 1024 * 1024  # bytes
MESSAGE_LOGGED = 200  # characters of a person's message
SMALL_TALK = "This is the studio's practice model: it follows scripts and does not think."


class ClientGoneError(Exception):
    """The client closed the connection before the answer was complete."""


class PracticeServer(ThreadingHTTPServer):
    """Serves on loopback from its own threads. Use it as a context manager."""

    daemon_threads = True

    def __init__(self, port: int = 0, log: Path | None = None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.port: int = self.server_address[1]
        self._log = log
        self._lock = threading.Lock()
        self._faults: Counter[tuple[str, ...]] = Counter()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="practice-model", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        """The base URL for an OpenAI-compatible client."""
        return f"http://127.0.0.1:{self.port}/v1"

    def due(self, conversation: Conversation | None, fault: Fault | None) -> Fault | None:
        """The fault if it must be acted out now: one with `times` comes only that often for this step of this task."""
        if fault is None or not fault.times or conversation is None:
            return fault
        about = conversation
        key = (about.cwd, about.key, about.title, about.phase, str(about.round), str(about.step))
        with self._lock:
            self._faults[key] += 1
            return fault if self._faults[key] <= fault.times else None

    def note(self, conversation: Conversation | None, answer: Answer, outcome: str) -> None:
        """Append one line to the log."""
        if self._log is None:
            return
        about = conversation
        line = {
            "at": datetime.now(UTC).isoformat(),
            "session": about.session if about else "",
            "cwd": about.cwd if about else "",
            "task": about.key if about else "",
            "phase": about.phase if about else "",
            "round": about.round if about else 0,
            "step": about.step if about else 0,
            "message": about.message[:MESSAGE_LOGGED] if about else "",
            "outcome": outcome,
            "tools": [call.name for call in answer.calls],
        }
        with self._lock, self._log.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")


class Handler(BaseHTTPRequestHandler):
    """One connection, one request: every answer closes it."""

    server: PracticeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is the base class's
        """Keep quiet: the log file says what matters."""

    def do_GET(self) -> None:
        if self.path.rstrip("/") == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "studio"}]})
        else:
            self._json(404, _error("There is no such address here."))

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.path.rstrip("/") != "/v1/chat/completions" or not 0 < length <= BODY_LIMIT:
            self._json(404, _error("There is no such address here."))
            return
        try:
            body = json.loads(self.rfile.read(length))
        except ValueError:
            body = None
        if not isinstance(body, dict):
            self._json(400, _error("The request is not a JSON object."))
            return
        conversation = read_conversation(body, self.headers.get("x-session-id") or "")
        answer = answer_for(conversation) if conversation else Answer(text=SMALL_TALK)
        fault = self.server.due(conversation, answer.fault)
        if fault:
            self.server.note(conversation, answer, "fault")
        outcome = "served"
        try:
            self._pause(answer.delay)
            self._fail(fault, answer) if fault else self._stream(answer, body)
        except (ClientGoneError, OSError):
            outcome = "cut"
        if not fault:
            self.server.note(conversation, answer, outcome)
        self.close_connection = True

    def _stream(self, answer: Answer, body: dict[str, Any]) -> None:
        self._open_stream()
        self._say(answer)
        asked = sum(
            len(content_text(one.get("content"))) for one in body.get("messages") or [] if isinstance(one, dict)
        )
        said = len(answer.text) + sum(len(json.dumps(call.arguments)) for call in answer.calls)
        reason = "tool_calls" if answer.calls else "stop"
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        usage = _counts(*answer.usage, 0) if answer.usage else _usage(asked, said, len(answer.reasoning))
        self._event({"choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _say(self, answer: Answer) -> None:
        """The reasoning, the text and the tool calls as deltas."""
        self._delta({"role": "assistant", "content": ""})
        for piece in _pieces(answer.reasoning, answer.chunk):
            self._delta({"reasoning_content": piece})
            self._pause(answer.pace)
        for piece in _pieces(answer.text, answer.chunk):
            self._delta({"content": piece})
            self._pause(answer.pace)
        for index, call in enumerate(answer.calls):
            function = {"name": call.name, "arguments": ""}
            identity = {"index": index, "id": f"call_{time.time_ns():x}_{index}", "type": "function"}
            self._delta({"tool_calls": [{**identity, "function": function}]})
            for piece in _pieces(json.dumps(call.arguments), 512):
                self._delta({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
            self._pause(answer.pace)

    def _fail(self, fault: Fault, answer: Answer) -> None:
        """Act the fault out. What the answer says, but none of its calls, comes first where a stream breaks."""
        if fault.kind == "status":
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            self._json(fault.status, _error(f"Practice fault: HTTP status {fault.status}."), headers)
        elif fault.kind == "html":
            self._raw(200, "text/html", b"<!doctype html><title>Proxy</title><p>Please sign in to the network.</p>")
        elif fault.kind == "hang" and not (answer.text or answer.reasoning):
            self._pause(fault.seconds)
        else:
            self._open_stream()
            self._say(replace(answer, calls=()))
            if fault.kind == "hang":
                self._pause(fault.seconds)
            elif fault.kind == "drop":
                # A reset in place of an orderly end, as a crashed proxy gives it.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.connection.detach())
            else:
                if fault.kind == "rubbish":
                    self._chunk(b"data: {this is not json\n\n")
                self._chunk(b"")

    def _pause(self, seconds: float) -> None:
        """Wait, but not longer than the client does."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            readable, _, _ = select.select([self.connection], [], [], left)
            if readable:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    raise ClientGoneError
                time.sleep(left)

    def _open_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")  # so that an end and a broken connection are told apart
        self.send_header("Connection", "close")
        self.end_headers()

    def _delta(self, delta: dict[str, Any]) -> None:
        self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    def _event(self, fields: dict[str, Any]) -> None:
        chunk = {"id": "practice", "object": "chat.completion.chunk", "created": int(time.time()), "model": MODEL}
        self._chunk(b"data: " + json.dumps({**chunk, **fields}, ensure_ascii=False).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        """One chunk of a stream; the empty one ends it."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _json(self, status: int, value: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._raw(status, "application/json", json.dumps(value).encode(), headers)

    def _raw(self, status: int, kind: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _pieces(text: str, size: int) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _usage(asked: int, said: int, thought: int) -> dict[str, Any]:
    """Token counts by the rule of thumb of four characters each."""
    return _counts(asked // 4 + 1, (said + thought) // 4 + 1, thought // 4)


def _counts(prompt: int, completion: int, reasoning: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "practice", "code": None}}
