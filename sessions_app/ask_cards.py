"""What agents ask, prepared for the card on which a person answers. Pure.

What is asked comes from an agent and is hostile: it is cleaned and bounded here, and escaped by the template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from agents.roles import PERMISSION_NAMES
from sessions_app.models import Ask, AskKind, AskReply, AskState, BudgetMetric
from sessions_app.services.ask_words import WANTS, lasting_patterns
from studio.kernel.text import clean, cut
from studio.kernel.unseen import escaped, legible
from studio.templatetags.figures import money, tokens

PATCH_LINES = 400  # of a change that a card shows
TEXT_SHOWN = 8_000  # characters of a command
PATHS_SHOWN = 50
OPTIONS_SHOWN = 30
REPLIED = {
    AskReply.ONCE: "Allowed once",
    AskReply.ALWAYS: "Allowed from now on",
    AskReply.REJECT: "Rejected",
    AskReply.ANSWERS: "Answered",
}
ENDED = {
    AskState.EXPIRED: "Nobody answered in time",
    AskState.WITHDRAWN: "Void: the turn ended first",
    AskState.LOST: "Void: the agent server was restarted; the agent asks again",
}


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of a question."""

    label: str
    description: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `name` is its field's; `own` what was written beside the choices."""

    name: str
    header: str
    text: str
    multiple: bool
    options: list[Option]
    own: str


@dataclass(frozen=True, slots=True)
class AskCard:
    """An ask as its card shows it. `note` says why an answer was refused; `posted` keeps what was written."""

    ask: Ask
    may_answer: bool
    note: str = ""
    posted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Whether it still waits for an answer."""
        return self.ask.state == AskState.PENDING

    @property
    def wants(self) -> str:
        """What the asker wants, in two or three words."""
        return WANTS[AskKind(self.ask.kind)]

    @property
    def permission(self) -> str:
        """What the permission is about, in words."""
        return PERMISSION_NAMES.get(self.ask.permission, self.ask.permission)

    @property
    def is_question(self) -> bool:
        """Whether it is answered by choosing or writing."""
        return self.ask.kind == AskKind.QUESTION

    @property
    def is_budget(self) -> bool:
        """Whether it lets a turn go on past a budget."""
        return self.ask.kind == AskKind.BUDGET

    @property
    def ended(self) -> str:
        """How it ended, in a sentence without its point; empty while it waits."""
        if self.ask.state == AskState.ANSWERED:
            said = REPLIED.get(AskReply(self.ask.reply), "Answered") if self.ask.reply else "Answered"
            return f"{said} by {self.ask.answered_name}" if self.ask.answered_name else said
        return ENDED.get(AskState(self.ask.state), "")

    @property
    def answered(self) -> str:
        """What was written or chosen."""
        chosen = [", ".join(map(str, one)) for one in _list(self.ask.answers) if isinstance(one, list) and one]
        return clean(self.ask.message or "; ".join(chosen))

    @property
    def command(self) -> str:
        """The command that the agent wants to run."""
        return legible(cut(clean(self._detail("command")), TEXT_SHOWN))

    @property
    def patch(self) -> list[tuple[str, str]]:
        """The change that the agent wants to make: (added, removed, head or same; the line)."""
        lines = legible(clean(self._detail("patch"))).splitlines()
        shown = [(_side(line), line) for line in lines[:PATCH_LINES]]
        return [*shown, ("head", f"… and {len(lines) - PATCH_LINES} more lines")] if len(lines) > PATCH_LINES else shown

    @property
    def paths(self) -> list[str]:
        """What the ask touches, where neither a command nor a change says so."""
        paths = _texts((self.ask.detail or {}).get("paths")) if isinstance(self.ask.detail, dict) else []
        found = paths or ([] if self.command or self.patch else _texts(self.ask.patterns))
        return [escaped(one) for one in found[:PATHS_SHOWN]]

    @property
    def always(self) -> list[str]:
        """Exactly what "always" would allow from now on; empty where that is no choice (as `services.asks` decides it)."""
        return lasting_patterns(self.ask) if self.ask.kind == AskKind.PERMISSION else []

    @property
    def grants(self) -> str:
        """How much more a budget would allow, with its unit; empty where it is only asked whether the next run begins."""
        more = self._detail("more") if self.is_budget else ""
        return amount_in_words(more, self._detail("metric")) if more else ""

    @property
    def questions(self) -> list[Question]:
        """The questions with their choices, and what was chosen before the answer was refused."""
        return [
            self._question(index, one) for index, one in enumerate(_list(self.ask.questions)) if isinstance(one, dict)
        ]

    def _question(self, index: int, one: Mapping[str, Any]) -> Question:
        name = f"answer-{index}"
        chosen = _list(self.posted.get(name))
        options = [option for option in _list(one.get("options")) if isinstance(option, dict)][:OPTIONS_SHOWN]
        return Question(
            name=name,
            header=clean(one.get("header") or ""),
            text=clean(one.get("question") or ""),
            multiple=bool(one.get("multiple")),
            options=[
                Option(
                    label=clean(option.get("label") or ""),
                    description=clean(option.get("description") or ""),
                    chosen=option.get("label") in chosen,
                )
                for option in options
            ],
            own=str(self.posted.get(f"{name}-own") or ""),
        )

    def _detail(self, name: str) -> str:
        return str(self.ask.detail.get(name) or "") if isinstance(self.ask.detail, dict) else ""


def given_answers(ask: Ask, posted: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The answers in a posted form: a list for each question, the choices and what was written beside them."""
    answers = []
    for index, _ in enumerate(_list(ask.questions)):
        chosen = [one for one in posted.get(f"answer-{index}", []) if one]
        own = [one.strip() for one in posted.get(f"answer-{index}-own", []) if one.strip()]
        answers.append([*chosen, *own])
    return answers


def amount_in_words(amount: str, metric: str) -> str:
    """An amount of a budget, such as "$1.00" or "5k tokens"; empty for what is none."""
    try:
        value = Decimal(amount)
    except InvalidOperation:
        return ""
    return f"${money(value)}" if metric == BudgetMetric.COST else f"{tokens(int(value))} tokens"


def _side(line: str) -> str:
    if line.startswith(("+++", "---", "@@", "Index:", "===", "diff ")):
        return "head"
    return {"+": "added", "-": "removed"}.get(line[:1], "same")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [cut(clean(one), 500) for one in _list(value) if isinstance(one, str) and one]
