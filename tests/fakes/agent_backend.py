"""An agent server with the AgentBackend interface whose faults can be chosen to the step.

The main paths run against the real server (tests marked `real`); this one makes the moments that cannot be made for real:
a call that fails after it took effect, an answer that changes between two calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agents.backend import Catalog, Health, PermissionAsked, Prompt, QuestionAsked, Replayed, StreamItem, TurnView


@dataclass
class FakeBackend:
    """Counts what it was asked; raises or answers what the test put there."""

    view: TurnView = field(default_factory=lambda: TurnView(state="running"))
    fail: dict[str, Exception] = field(default_factory=dict)  # by method: raised until removed
    opened: list[str] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    attached: list[tuple[str, str]] = field(default_factory=list)
    during_admit: object = None  # called while the prompt is being handed over

    def _maybe_fail(self, method: str) -> None:
        if method in self.fail:
            raise self.fail[method]

    def health(self) -> Health:
        self._maybe_fail("health")
        return Health("1.18.33", "boot-1")

    def catalog(self) -> Catalog:
        return Catalog((), "practice/practice", practice=True, agents=frozenset())

    def open_session(self, *, directory: str, title: str, role: str, agent: str, model: str) -> str:
        self._maybe_fail("open_session")
        self.opened.append(title)
        return f"ses_{len(self.opened)}"

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
        return set()

    def pending_asks(self, directory: str) -> list[PermissionAsked | QuestionAsked]:
        return []

    def reject_permission(self, id: str, directory: str, message: str) -> None:
        self.rejected.append(id)

    def reject_question(self, id: str, directory: str) -> None:
        self.rejected.append(id)

    def stream(self) -> Iterator[StreamItem]:
        return iter(())

    def history(self, cursors: Mapping[str, int]) -> Iterator[Replayed]:
        self._maybe_fail("history")
        return iter(())

    def dispose_directory(self, directory: str) -> None: ...

    def dispose_all(self) -> None: ...
