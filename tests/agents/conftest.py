"""Repositories and turns for the tests of the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from agents.asks import PermissionAsked
from agents.backend import Prompt, TurnView
from agents.opencode.backend import OpenCodeBackend
from agents.roles import agent_name, decision, permission_rules, server_rules, system_text
from tests.factories import make_repository
from tests.real.agentserver import RealAgentServer, fresh_ids, prompt_text, wait_for
from workspaces.sample import FILES


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with the files of the sample project."""
    return make_repository(tmp_path.resolve() / "greetings", branch="trunk", files=FILES)


@dataclass
class RealTurn:
    """One turn on the real server, driven as the studio drives it."""

    server: RealAgentServer
    backend: OpenCodeBackend
    directory: Path
    role: str
    session: str
    prompt: Prompt

    def send(self) -> None:
        """Hand the prompt over; again it is the same prompt."""
        self.backend.admit(self.prompt)

    def view(self) -> TurnView:
        """The turn as the server knows it."""
        return self.backend.view_turn(self.session, str(self.directory), self.prompt.message_id)

    def settled(self) -> TurnView:
        """The turn once it has ended. "died" right after sending only says that it has not begun."""

        def ended() -> TurnView | None:
            view = self.view()
            return view if view.state not in ("running", "died") else None

        found: TurnView = wait_for(ended, what="for the turn")
        return found

    def answered(self) -> TurnView:
        """The turn once it has ended, with each permission answered as the studio's own rules answer it."""

        def ended() -> TurnView | None:
            for ask in self.backend.pending_asks(str(self.directory)):
                assert isinstance(ask, PermissionAsked)
                allowed = decision(self.role, permission_rules(self.role), ask) == "allow"
                self.backend.answer_permission(ask.id, str(self.directory), "once" if allowed else "reject", "No.")
            view = self.view()
            return view if view.state not in ("running", "died") else None

        found: TurnView = wait_for(ended, what="for the turn")
        return found

    def lines(self):
        """What the practice model was asked in this turn."""
        return self.server.practice_lines(self.directory)


@pytest.fixture
def begin(opencode_server, repository):
    """Opens a session and makes a turn: begin(script, role=...), not sent yet."""

    def make(
        script="", *, role="implementer", rules=None, model="", agent="", backend=None, directory=repository, **header
    ):
        backend = backend or opencode_server.backend()
        name = agent or agent_name(role)
        header.setdefault("phase", {"planner": "planning", "reviewer": "review"}.get(role, "implementation"))
        session = backend.open_session(
            directory=str(directory),
            title="A test",
            rules=rules or server_rules(role, permission_rules(role)),
            agent=name,
            model=model,
        )
        message_id, part_id = fresh_ids()
        text = prompt_text(script, **header)
        prompt = Prompt(session, str(directory), message_id, part_id, name, model, system_text(role), text)
        return RealTurn(opencode_server, backend, directory, role, session, prompt)

    return make
