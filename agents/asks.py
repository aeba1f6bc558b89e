"""What an agent asks of people, and what becomes of it, in transport-free words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rule = dict[str, str]  # permission, pattern, action; of several the last match wins
ServerReply = Literal["once", "reject"]

TITLE_LIMIT = 300  # characters
COMMAND_LIMIT = 20_000
PATCH_LIMIT = 100_000
PATTERN_LIMIT = 2_000
PATTERNS = 100
PATHS = 100
QUESTION_LIMIT = 4_000  # characters of a question
HEADER_LIMIT = 200
LABEL_LIMIT = 500
DESCRIPTION_LIMIT = 2_000
QUESTIONS = 20
OPTIONS = 50


@dataclass(frozen=True, slots=True)
class PermissionAsked:
    """The agent waits for a permission; unanswered it waits for ever.

    `patterns` are what the rules are held against, `always` what a lasting permission would be given for. `exact` is false
    when something was cut off or cleaned away: what is shown is then not all of what would be done, and no rule may allow
    it.
    """

    session: str
    id: str
    directory: str
    permission: str
    patterns: tuple[str, ...]
    always: tuple[str, ...] = ()
    command: str = ""
    patch: str = ""
    paths: tuple[str, ...] = ()
    call: str = ""  # the tool call that waits
    title: str = ""
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Option:
    """One of the answers that a question offers."""

    label: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One question. A person may always answer in words of their own."""

    question: str
    header: str = ""
    options: tuple[Option, ...] = ()
    multiple: bool = False


@dataclass(frozen=True, slots=True)
class QuestionAsked:
    """The agent waits for answers; unanswered it waits for ever."""

    session: str
    id: str
    directory: str
    questions: tuple[Question, ...]
    call: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class AskEnded:
    """What was asked is no longer: answered by whomever. `reply` is once, always, reject, or answers."""

    session: str
    id: str
    reply: str


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as the server describes it; `parent` is empty for one that no sub-agent works in."""

    parent: str
    title: str
