"""An agent server reduced to its promises: what a message id means, when it answers, what a death or an abort leaves.

The promises are those that were established on the real server (opencode.md, sections 3 and 6) and are tested there; here
they are put under interleavings that nobody can arrange for real. Its messages are judged by the product's own code.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from agents.backend import Prompt, TurnView
from agents.opencode.turns import turn_messages, view_of
from studio.kernel.errors import NotFound, Upstream
from tests.fakes.agent_backend import FakeBackend

UNREACHABLE = Upstream("The agent server did not answer.", code="server_unreachable", transient=True)


class Crash(BaseException):
    """The studio's process ends here."""


class ModelServer(FakeBackend):
    """One server with any number of sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: dict[str, list[dict[str, Any]]] = {}
        self.running: set[str] = set()
        self.down = False
        self.crash = ""  # "before" or "after": the next prompt ends the studio's process there
        self.forget_next = False  # the next prompt is accepted and lost, as by a server that dies right after
        self.answers = 0

    def open_session(self, **_: Any) -> str:
        if self.down:
            raise UNREACHABLE
        name = f"ses_{uuid.uuid4().hex}"
        self.messages[name] = []
        return name

    def admit(self, prompt: Prompt) -> None:
        crash, self.crash = self.crash, ""
        if crash == "before":
            raise Crash
        if self.down:
            raise UNREACHABLE
        if prompt.external_session not in self.messages:
            raise NotFound("unknown")
        if self.forget_next:
            self.forget_next = False
        else:
            self._store(prompt)
        if crash == "after":
            raise Crash

    def _store(self, prompt: Prompt) -> None:
        stored = self.messages[prompt.external_session]
        if all(message["info"]["id"] != prompt.message_id for message in stored):
            part = {"id": prompt.part_id, "type": "text", "messageID": prompt.message_id, "text": prompt.text}
            stored.append({"info": {"id": prompt.message_id, "role": "user", "time": {"created": 1}}, "parts": [part]})
        if self._open_end(stored):
            self.running.add(prompt.external_session)

    @staticmethod
    def _open_end(stored: list[dict[str, Any]]) -> bool:
        """Whether the model has something to answer: a message, or an answer that did not come to its end."""
        last = stored[-1]["info"]
        return last["role"] == "user" or last.get("finish") != "stop"

    def step(self, session: str, *, more: bool) -> None:
        """One answer of the model; with `more` it goes on to the next."""
        if session not in self.running:
            return
        self.answers += 1
        info = {
            "id": f"msg_answer{self.answers}",
            "role": "assistant",
            "time": {"created": 1, "completed": time.time()},
        }
        self.messages[session].append({"info": {**info, "finish": "tool-calls" if more else "stop"}, "parts": []})
        if not more:
            self.running.discard(session)

    def abort(self, session: str) -> None:
        if self.down:
            raise UNREACHABLE
        if session in self.running:
            self.running.discard(session)
            self.answers += 1
            error = {"name": "MessageAbortedError", "data": {"message": "Aborted"}}
            info = {"id": f"msg_answer{self.answers}", "role": "assistant", "time": {"completed": 1}, "error": error}
            self.messages[session].append({"info": info, "parts": []})

    def busy(self, directory: str) -> set[str]:
        if self.down:
            raise UNREACHABLE
        return set(self.running)

    def die(self) -> None:
        """The process ends and comes back: what was running stays unfinished."""
        for session in self.running:
            self.answers += 1
            info = {"id": f"msg_answer{self.answers}", "role": "assistant", "time": {"created": 1}}
            self.messages[session].append({"info": info, "parts": []})
        self.running.clear()

    def view_turn(
        self, session: str, directory: str, message_id: str, *, steers: Sequence[str] = (), answered_until: str = ""
    ) -> TurnView:
        if self.down:
            raise UNREACHABLE
        status = {"type": "busy"} if session in self.running else None
        turn = turn_messages(self.messages[session], message_id, steers)
        return view_of(turn, status, session=session, directory=directory, steers=steers, answered_until=answered_until)

    def said(self, session: str) -> list[str]:
        """The texts of people's messages as the server has them, in order."""
        stored = self.messages.get(session, [])
        return [message["parts"][0]["text"] for message in stored if message["info"]["role"] == "user"]
