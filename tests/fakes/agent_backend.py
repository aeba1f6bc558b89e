"""An agent server with the AgentBackend interface whose faults can be chosen to the step.

The main paths run against the real server (tests marked `real`); this one makes the moments that cannot be made for real:
a call that fails after it took effect, an answer that changes between two calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agents.asks import PermissionAsked, QuestionAsked, Rule, ServerReply, SessionInfo
from agents.backend import Catalog, Health, Prompt, Replayed, StreamItem, TurnView


@dataclass
class FakeBackend:
    """Counts what it was asked; raises or answers what the test put there."""

    boot: str = "boot-1"
    view: TurnView = field(default_factory=lambda: TurnView(state="running"))
    fail: dict[str, Exception] = field(default_factory=dict)  # by method: raised until removed
    opened: list[str] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    answered: list[tuple[str, object]] = field(default_factory=list)  # ask, and what was answered
    asked: list[PermissionAsked | QuestionAsked] = field(default_factory=list)  # what agents wait for
    rules: dict[str, list[Rule]] = field(default_factory=dict)  # by session
    infos: dict[str, SessionInfo] = field(default_factory=dict)  # by session
    attached: list[tuple[str, str]] = field(default_factory=list)
    warmed: list[str] = field(default_factory=list)
    archived: list[str] = field(default_factory=list)
    disposed: list[str] = field(default_factory=list)
    working: set[str] = field(default_factory=set)  # sessions that are not idle
    during_admit: object = None  # called while the prompt is being handed over

    def _maybe_fail(self, method: str) -> None:
        if method in self.fail:
            raise self.fail[method]

    def health(self) -> Health:
        self._maybe_fail("health")
        return Health("1.18.33", self.boot)

    def catalog(self) -> Catalog:
        return Catalog((), "practice/practice", practice=True, agents=frozenset())

    def open_session(self, *, directory: str, title: str, rules: Sequence[Rule], agent: str, model: str) -> str:
        self._maybe_fail("open_session")
        self.opened.append(title)
        self.rules[f"ses_{len(self.opened)}"] = list(rules)
        return f"ses_{len(self.opened)}"

    def set_rules(self, session: str, rules: Sequence[Rule]) -> None:
        self._maybe_fail("set_rules")
        self.rules[session] = list(rules)

    def session_info(self, session: str) -> SessionInfo | None:
        return self.infos.get(session)

    def attach_tools(self, directory: str, token: str) -> bool:
        self._maybe_fail("attach_tools")
        self.attached.append((directory, token))
        return True

    def admit(self, prompt: Prompt) -> None:
        self.prompts.append(prompt)
        if callable(self.during_admit):
            self.during_admit()
        self._maybe_fail("admit")

    def abort(self, session: str) -> None:
        self._maybe_fail("abort")
        self.aborted.append(session)

    def view_turn(
        self, session: str, directory: str, message_id: str, *, steers: Sequence[str] = (), answered_until: str = ""
    ) -> TurnView:
        self._maybe_fail("view_turn")
        return self.view

    def busy(self, directory: str) -> set[str]:
        self._maybe_fail("busy")
        return set(self.working)

    def pending_asks(self, directory: str) -> list[PermissionAsked | QuestionAsked]:
        self._maybe_fail("pending_asks")
        return [ask for ask in self.asked if ask.directory == directory]

    def answer_permission(self, ask: str, directory: str, reply: ServerReply, message: str = "") -> bool:
        return self._answer(ask, directory, (reply, message) if message else reply)

    def answer_question(self, ask: str, directory: str, answers: Sequence[Sequence[str]]) -> bool:
        return self._answer(ask, directory, [list(one) for one in answers])

    def reject_question(self, ask: str, directory: str) -> bool:
        return self._answer(ask, directory, "dismissed")

    def _answer(self, ask: str, directory: str, answer: object) -> bool:
        self._maybe_fail("answer")
        waiting = [one for one in self.asked if (one.id, one.directory) == (ask, directory)]
        self.asked = [one for one in self.asked if one not in waiting]
        if waiting:
            self.answered.append((ask, answer))
        return bool(waiting)

    def stream(self) -> Iterator[StreamItem]:
        return iter(())

    def history(self, cursors: Mapping[str, int]) -> Iterator[Replayed]:
        self._maybe_fail("history")
        return iter(())

    def warm(self, directory: str) -> None:
        self._maybe_fail("warm")
        self.warmed.append(directory)

    def archive_session(self, session: str) -> None:
        self._maybe_fail("archive_session")
        self.archived.append(session)

    def dispose_directory(self, directory: str) -> None:
        self._maybe_fail("dispose_directory")
        self.disposed.append(directory)

    def dispose_all(self) -> None: ...
