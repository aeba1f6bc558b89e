"""What the studio asks of a coding-agent server, and the transport-free words in which a server answers.

Nothing above `agents` knows a wire format: it sees these dataclasses only, so another agent can stand behind them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol

from agents.asks import (
    AskEnded,
    PermissionAsked,
    QuestionAsked,
    Rule,
    ServerReply,
    SessionInfo,
)

TEXT_LIMIT = 200_000  # characters of one text or reasoning entry
OUTPUT_LIMIT = 30_000  # characters of one tool's output
INPUT_LIMIT = 10_000  # characters of one tool's arguments, as JSON

TurnViewState = Literal["running", "completed", "failed", "aborted", "rejected", "died", "absent"]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One finished thing that happened in a session.

    Kinds: user, text, reasoning, tool.started, tool.finished, step.finished, todo, file.edited, retry, error, compacted.
    `key` says what it is about, not how it was learnt: the stream and a later reading of the same messages give the same
    key, so a reader that stores each key once may read both.
    """

    kind: str
    key: str
    data: dict[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a turn; `input` excludes what was cached, `output` excludes reasoning."""

    input: int = 0
    output: int = 0
    reasoning: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class TurnView:
    """A turn as the server knows it now.

    `died` means idle with the turn unfinished: send the same ids again to resume. `absent`: the session is unknown there.
    `error_code` is one of the board's closed list and is set for failed, aborted and rejected.
    """

    state: TurnViewState
    error_code: str = ""
    error_message: str = ""
    result_text: str = ""
    steps: int = 0
    cost: Decimal = Decimal(0)
    tokens: Tokens = Tokens()
    retry_note: str = ""
    retry_at: datetime | None = None
    retryable: bool = False  # a failure that may pass: the same ids may be sent again
    cut_off: bool = False  # an abort has ended one of its tools, whatever the agent did after that
    last_answer: str = ""  # the id of the newest answer, whatever became of it
    missing: tuple[str, ...] = ()  # steers that the server does not know
    events: list[LogEntry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt under identities of ours: admitting it again is a no-op while it runs and a resume after a crash."""

    external_session: str
    directory: str
    message_id: str
    part_id: str
    agent: str
    model: str  # provider/model; empty: the server's default
    system: str
    text: str


@dataclass(frozen=True, slots=True)
class Health:
    """A server that answers. `boot` changes with each start of its process; empty when that cannot be known."""

    version: str
    boot: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a server offers."""

    provider: str
    id: str
    name: str
    context_limit: int
    output_limit: int
    usable: bool

    @property
    def ref(self) -> str:
        """The model as it is written everywhere: provider/model."""
        return f"{self.provider}/{self.id}"


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a server can run now. `practice`: nothing but the practice model can answer."""

    models: tuple[Model, ...]
    default: str
    practice: bool
    agents: frozenset[str]

    def offers(self, ref: str) -> bool:
        """Whether the model `ref` can be used for a prompt."""
        return any(model.usable and model.ref == ref for model in self.models)


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream is open; what happened before it must be read by `view_turn`."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The server is alive and has nothing to say."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished thing for the log of a session."""

    session: str
    entry: LogEntry


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of text that is being written; disposable, its finished part comes as an Entry."""

    session: str
    part: str
    text: str
    reasoning: bool


@dataclass(frozen=True, slots=True)
class PartReset:
    """The pieces shown so far for `part` are void: the server tries again."""

    session: str
    part: str


@dataclass(frozen=True, slots=True)
class Busy:
    """The session works."""

    session: str


@dataclass(frozen=True, slots=True)
class Retrying:
    """The provider failed and the server waits until `at` to try again."""

    session: str
    attempt: int
    message: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Idle:
    """The session stopped working; `view_turn` says how. May come twice."""

    session: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The session reported an error. Not always its end: read `view_turn`."""

    session: str
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class ChildOpened:
    """The agent of `parent` opened a session of its own for a sub-agent."""

    session: str
    parent: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything durable that happened in the session up to the server's number `seq` was said before this item."""

    session: str
    seq: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something was refused or could not be read, and the rest goes on. The reasons are few; they are counted."""

    reason: str


@dataclass(frozen=True, slots=True)
class InstanceGone:
    """The server let go of everything it held for `directory` (empty: for all): what ran there has ended."""

    directory: str


StreamItem = (
    Connected
    | Heartbeat
    | Entry
    | Delta
    | PartReset
    | Busy
    | Retrying
    | Idle
    | Failed
    | ChildOpened
    | PermissionAsked
    | QuestionAsked
    | AskEnded
    | InstanceGone
    | Cursor
    | Skipped
)


@dataclass(frozen=True, slots=True)
class Replayed:
    """A page of what happened durably in one session, in order. `seq` is the number of its last event, -1 for none."""

    session: str
    seq: int
    items: list[StreamItem]


class AgentBackend(Protocol):
    """One agent server.

    Every method raises `studio.kernel.errors.Upstream(code="server_unreachable", transient=True)` when the server does not
    answer properly in time. All are safe to repeat except `open_session`, which opens one more session each time.
    """

    def health(self) -> Health:
        """The server's version and boot id."""

    def catalog(self) -> Catalog:
        """What the server offers now, read from it."""

    def open_session(self, *, directory: str, title: str, rules: Sequence[Rule], agent: str, model: str) -> str:
        """Open a session under `rules` in `directory` and return the server's id of it."""

    def set_rules(self, session: str, rules: Sequence[Rule]) -> None:
        """Let `rules` hold in the session from its next step on. Raises NotFound when the session is unknown."""

    def session_info(self, session: str) -> SessionInfo | None:
        """The session as the server describes it; None when it does not know it."""

    def attach_tools(self, directory: str, token: str) -> bool:
        """Give the agents of `directory` the studio's tools, acting under `token`; whether the server connected to them."""

    def admit(self, prompt: Prompt) -> None:
        """Hand the prompt over and return at once.

        Raises Upstream(code="model_not_found") before anything is sent when the model or the agent is not offered, and
        NotFound when the session is unknown.
        """

    def abort(self, session: str) -> None:
        """End what the session does; harmless when it is idle or unknown."""

    def view_turn(
        self, session: str, directory: str, message_id: str, *, steers: Sequence[str] = (), answered_until: str = ""
    ) -> TurnView:
        """The turn that began with `message_id`, as the server knows it; messages among `steers` belong to it.

        `answered_until` names the last answer of an earlier try: without a later one the turn counts as `died`.
        """

    def busy(self, directory: str) -> set[str]:
        """The sessions that work in `directory`."""

    def pending_asks(self, directory: str) -> list[PermissionAsked | QuestionAsked]:
        """What agents in `directory` wait for."""

    def answer_permission(self, ask: str, directory: str, reply: ServerReply, message: str = "") -> bool:
        """Answer a permission; False when it is no longer asked. After a refusal with a message the agent goes on."""

    def answer_question(self, ask: str, directory: str, answers: Sequence[Sequence[str]]) -> bool:
        """Answer each of the questions with a list of texts; False when they are no longer asked."""

    def reject_question(self, ask: str, directory: str) -> bool:
        """Dismiss the questions, which ends the agent's turn; False when they are no longer asked."""

    def stream(self) -> Iterator[StreamItem]:
        """What happens on the server from now on, in all directories.

        Begins with Connected. Raises Upstream(transient=True) when the stream ends or is silent for 25 s.
        """

    def history(self, cursors: Mapping[str, int]) -> Iterator[Replayed]:
        """What happened durably in these sessions (session -> the last number that is known, -1 for none) and below them.

        In pages of bounded size. Sub-agents' sessions that are not named come too, each after its ChildOpened. Pieces of
        text, states and asks are not durable: they are not replayed.
        """

    def warm(self, directory: str) -> None:
        """Let the server load what it needs for work in `directory`, so that a first prompt there is answered sooner.

        Returns when it has, or after a moment: then the server goes on loading.
        """

    def archive_session(self, session: str) -> None:
        """Put away a session whose directory goes. Harmless when it is unknown or was put away before."""

    def dispose_directory(self, directory: str) -> None:
        """Let the server free what it holds for `directory`; what runs there is aborted."""

    def dispose_all(self) -> None:
        """Abort everything and free what the server holds; it still serves afterwards."""
