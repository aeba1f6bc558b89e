"""The AgentBackend of an OpenCode server, through its v1 interface (opencode.md says why not v2)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from threading import Lock
from typing import Any

import structlog

from agents.asks import PermissionAsked, QuestionAsked, Rule, ServerReply, SessionInfo
from agents.backend import (
    Catalog,
    Health,
    LogEntry,
    Model,
    Prompt,
    Replayed,
    StreamItem,
    Tokens,
    TurnView,
)
from agents.opencode.asks import permission_asked, question_asked
from agents.opencode.client import QUICK_SECONDS, OpenCodeClient, TimedOut, unreachable
from agents.opencode.entries import MALFORMED, message_entries, token_counts
from agents.opencode.history import replay
from agents.opencode.stream import follow
from agents.opencode.turns import children_of, turn_messages, view_of
from agents.roles import AGENT_NAMES
from studio.kernel.errors import NotFound, Upstream
from studio.kernel.text import clean, cut

log = structlog.get_logger(__name__)

PRACTICE_PROVIDER = "practice"
PLAIN_AGENT = "build"  # of servers that do not have the studio's agents
TOOLS_NAME = "studio"  # its tools are called studio_…
TOOLS_TIMEOUT_MS = 30_000
CATALOG_SECONDS = 60.0
WARM_SECONDS = 1.0
PAGE = 50  # messages
PAGE_LIMIT = 200  # pages of one session that are looked through
CHILD_LIMIT = 20  # sub-agents of one turn


class OpenCodeBackend:
    """One server. Thread-safe; keeps connections and, for a minute, the catalogue by which prompts are checked."""

    def __init__(
        self, client: OpenCodeClient, *, boot: str = "", tools_url: str = "", practice_only: bool = False
    ) -> None:
        self.client = client
        self._boot = boot
        self._tools_url = tools_url
        self._practice_only = practice_only
        self._lock = Lock()
        self._catalog: tuple[float, Catalog] | None = None

    def health(self) -> Health:
        """See AgentBackend."""
        try:
            answer = self.client.get("/global/health", timeout=QUICK_SECONDS)
        except NotFound:
            answer = None
        if not isinstance(answer, dict) or answer.get("healthy") is not True:
            raise unreachable(f"{self.client.url} did not answer like an OpenCode server.", trouble="not_opencode")
        return Health(version=clean(answer.get("version") or ""), boot=self._boot)

    def catalog(self) -> Catalog:
        """See AgentBackend. Read from the server each time, and kept for the checks of `admit`."""
        try:
            catalog = self._read_catalog()
        except MALFORMED as error:
            raise unreachable("The agent server's list of models cannot be read.") from error
        with self._lock:
            self._catalog = (time.monotonic(), catalog)
        return catalog

    def _read_catalog(self) -> Catalog:
        answer = self.client.get("/config/providers")
        chosen = self.client.get("/config").get("model") or ""
        agents = frozenset(clean(agent["name"]) for agent in self.client.get("/agent"))
        others = any(provider["id"] != PRACTICE_PROVIDER and provider["models"] for provider in answer["providers"])
        practice = self._practice_only or not others
        models = tuple(
            _model(provider["id"], model, usable=practice or provider["id"] != PRACTICE_PROVIDER)
            for provider in answer["providers"]
            for model in provider["models"].values()
        )
        catalog = Catalog(models=models, default="", practice=practice, agents=agents)
        candidates = [chosen, *(f"{provider}/{model}" for provider, model in sorted(answer["default"].items()))]
        if practice:
            candidates = [f"{PRACTICE_PROVIDER}/{PRACTICE_PROVIDER}"]
        candidates += sorted(model.ref for model in models if model.usable)
        return replace(catalog, default=next((ref for ref in candidates if catalog.offers(ref)), ""))

    def open_session(self, *, directory: str, title: str, rules: Sequence[Rule], agent: str, model: str) -> str:
        """See AgentBackend. The session's agent and model go with each prompt."""
        body: dict[str, Any] = {"title": title, "permission": list(rules)}
        answer = self.client.post("/session", body, directory=directory)
        try:
            return str(answer["id"])
        except MALFORMED as error:
            raise unreachable("The agent server opened a session without an id.") from error

    def set_rules(self, session: str, rules: Sequence[Rule]) -> None:
        """See AgentBackend. The server appends to what a session has, and of its rules the last match wins."""
        wanted = list(rules)
        present = self._session(session).get("permission")
        if isinstance(present, list) and present[-len(wanted) :] == wanted:
            return
        self.client.patch(f"/session/{session}", {"permission": wanted})

    def session_info(self, session: str) -> SessionInfo | None:
        """See AgentBackend."""
        try:
            found = self._session(session)
        except NotFound:
            return None
        parent, title = found.get("parentID"), found.get("title")
        return SessionInfo(
            parent=parent if isinstance(parent, str) else "",
            title=cut(clean(title), 200) if isinstance(title, str) else "",
        )

    def _session(self, session: str) -> dict[str, Any]:
        answer = self.client.get(f"/session/{session}")
        if not isinstance(answer, dict):
            raise unreachable("The agent server's description of a session cannot be read.")
        return answer

    def attach_tools(self, directory: str, token: str) -> bool:
        """See AgentBackend. One POST; the server tries the connection at once and says how it went."""
        config = {
            "type": "remote",
            "url": self._tools_url,
            "headers": {"Authorization": f"Bearer {token}"},
            "oauth": False,
            "timeout": TOOLS_TIMEOUT_MS,
        }
        answer = self.client.post("/mcp", {"name": TOOLS_NAME, "config": config}, directory=directory)
        state = answer.get(TOOLS_NAME) if isinstance(answer, dict) else None
        if isinstance(state, dict) and state.get("status") == "connected":
            return True
        log.warning("tools_not_connected", directory=directory, state=cut(str(state), 300))
        return False

    def admit(self, prompt: Prompt) -> None:
        """See AgentBackend."""
        agent, model = self._checked(prompt.agent, prompt.model)
        provider, _, name = model.partition("/")
        body = {
            "messageID": prompt.message_id,
            "agent": agent,
            "model": {"providerID": provider, "modelID": name},
            "system": prompt.system,
            "parts": [{"id": prompt.part_id, "type": "text", "text": prompt.text}],
        }
        self.client.post(f"/session/{prompt.external_session}/prompt_async", body, directory=prompt.directory)

    def _checked(self, agent: str, model: str) -> tuple[str, str]:
        """The agent and the model to name: the server accepts unknown ones and fails later, without an end of the turn."""
        with self._lock:
            known = self._catalog
        catalog = known[1] if known and time.monotonic() - known[0] < CATALOG_SECONDS else None
        found = catalog and _choose(catalog, agent, model)
        return found or _choose(self.catalog(), agent, model) or _raise_not_offered(agent, model)

    def abort(self, session: str) -> None:
        """See AgentBackend."""
        try:
            self.client.post(f"/session/{session}/abort")
        except NotFound:
            log.info("abort_of_unknown_session", session=session)

    def view_turn(
        self, session: str, directory: str, message_id: str, *, steers: Sequence[str] = (), answered_until: str = ""
    ) -> TurnView:
        """See AgentBackend. The status is read first: a turn that ends meanwhile still counts as running."""
        try:
            status = self._status(directory).get(session)
            turn = self._turn(session, message_id, steers)
            view = view_of(
                turn, status, session=session, directory=directory, steers=steers, answered_until=answered_until
            )
            return self._with_children(view, children_of(turn or []), directory)
        except NotFound:
            return TurnView(state="absent")
        except MALFORMED as error:
            raise unreachable("The agent server's messages cannot be read.") from error

    def busy(self, directory: str) -> set[str]:
        """See AgentBackend."""
        return set(self._status(directory))

    def _status(self, directory: str) -> dict[str, dict[str, Any]]:
        """Session -> status, of those that are not idle."""
        answer = self.client.get("/session/status", directory=directory)
        if not isinstance(answer, dict):
            raise unreachable("The agent server's list of busy sessions cannot be read.")
        return {name: one for name, one in answer.items() if isinstance(one, dict) and one.get("type") != "idle"}

    def _turn(self, session: str, message_id: str, steers: Sequence[str]) -> list[dict[str, Any]] | None:
        """The turn's messages; None when its first one is not there."""
        messages: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(PAGE_LIMIT):
            params: dict[str, str | int] = {"limit": PAGE} | ({"before": cursor} if cursor else {})
            page, cursor = self.client.get_page(f"/session/{session}/message", **params)
            messages = [message for message in page if _readable(message)] + messages
            if not cursor or any(message["info"]["id"] == message_id for message in messages):
                break
        return turn_messages(messages, message_id, steers)

    def _with_children(self, view: TurnView, children: list[str], directory: str) -> TurnView:
        """The view with what sub-agents did and cost, once the turn is over; before, the stream tells it."""
        if view.state == "running" or not children:
            return view
        events, cost, tokens = list(view.events), view.cost, view.tokens
        for child in children[:CHILD_LIMIT]:
            try:
                info = self.client.get(f"/session/{child}")
                messages = self.client.get(f"/session/{child}/message", limit=PAGE)
            except NotFound:
                continue
            events += _child_entries(child, messages, directory)
            cost += Decimal(str(info.get("cost") or 0))
            count = token_counts(info.get("tokens"))
            tokens = Tokens(**{name: getattr(tokens, name) + value for name, value in count.items()})
        return replace(view, events=events, cost=cost, tokens=tokens)

    def pending_asks(self, directory: str) -> list[PermissionAsked | QuestionAsked]:
        """See AgentBackend."""
        asks: list[PermissionAsked | QuestionAsked] = []
        try:
            asks += [permission_asked(one, directory) for one in self.client.get("/permission", directory=directory)]
            asks += [question_asked(one, directory) for one in self.client.get("/question", directory=directory)]
        except MALFORMED as error:
            raise unreachable("The agent server's list of questions cannot be read.") from error
        return asks

    def answer_permission(self, ask: str, directory: str, reply: ServerReply, message: str = "") -> bool:
        """See AgentBackend. The server's own "always" is never used: it would be forgotten with the server's process."""
        body = {"reply": reply} | ({"message": message} if message else {})
        return self._answer(f"/permission/{ask}/reply", body, directory)

    def answer_question(self, ask: str, directory: str, answers: Sequence[Sequence[str]]) -> bool:
        """See AgentBackend."""
        return self._answer(f"/question/{ask}/reply", {"answers": [list(one) for one in answers]}, directory)

    def reject_question(self, ask: str, directory: str) -> bool:
        """See AgentBackend."""
        return self._answer(f"/question/{ask}/reject", None, directory)

    def _answer(self, path: str, body: dict[str, Any] | None, directory: str) -> bool:
        try:
            self.client.post(path, body, directory=directory)
        except NotFound:
            return False
        return True

    def stream(self) -> Iterator[StreamItem]:
        """See AgentBackend."""
        return follow(self.client)

    def history(self, cursors: Mapping[str, int]) -> Iterator[Replayed]:
        """See AgentBackend."""
        return replay(self.client, cursors)

    def warm(self, directory: str) -> None:
        """See AgentBackend. Of the cheap calls this one loads most: half of what a first prompt would wait for."""
        try:
            self.client.get("/config/providers", directory=directory, timeout=WARM_SECONDS)
        except TimedOut:
            log.debug("still_warming", directory=directory)

    def archive_session(self, session: str) -> None:
        """See AgentBackend."""
        try:
            self.client.patch(f"/session/{session}", {"time": {"archived": int(time.time() * 1000)}})
        except NotFound:
            log.info("archive_of_unknown_session", session=session)

    def dispose_directory(self, directory: str) -> None:
        """See AgentBackend."""
        self.client.post("/instance/dispose", directory=directory)

    def dispose_all(self) -> None:
        """See AgentBackend."""
        self.client.post("/global/dispose")


def _model(provider: str, model: dict[str, Any], *, usable: bool) -> Model:
    limit = model.get("limit") or {}
    return Model(
        provider=clean(provider),
        id=clean(model["id"]),
        name=cut(clean(model.get("name") or model["id"]), 200),
        context_limit=int(limit.get("context") or 0),
        output_limit=int(limit.get("output") or 0),
        usable=usable,
    )


def _choose(catalog: Catalog, agent: str, model: str) -> tuple[str, str] | None:
    """The agent and model of `catalog` for what was asked; None when it does not offer them."""
    if agent not in catalog.agents:
        agent = PLAIN_AGENT if agent in AGENT_NAMES.values() else ""
    ref = model or catalog.default
    return (agent, ref) if agent in catalog.agents and catalog.offers(ref) else None


def _raise_not_offered(agent: str, model: str) -> tuple[str, str]:
    wanted = f"the model {model}" if model else "any usable model"
    raise Upstream(f"The agent server does not offer {wanted} with the agent {agent}.", code="model_not_found")


def _readable(message: Any) -> bool:
    """Whether a message has what everything here relies on."""
    info = message.get("info") if isinstance(message, dict) else None
    return (
        isinstance(info, dict)
        and isinstance(info.get("id"), str)
        and isinstance(info.get("role"), str)
        and isinstance(message.get("parts"), list)
        and all(isinstance(part, dict) for part in message["parts"])
    )


def _child_entries(child: str, messages: Any, directory: str) -> list[LogEntry]:
    """What a sub-agent did, marked as its own; its prompt is in the call that opened it."""
    entries = [
        entry
        for message in messages
        if _readable(message) and message["info"]["role"] != "user"
        for entry in message_entries(message, directory=directory, interrupted=True)
    ]
    return [replace(entry, data={**entry.data, "child": child}) for entry in entries]
