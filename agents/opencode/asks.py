"""What the server says of permissions and questions, as the studio's own words. Bounded and cleaned; malformed raises.

Every function raises one of `entries.MALFORMED` for what cannot be read.
"""

from __future__ import annotations

from typing import Any

from agents.asks import (
    COMMAND_LIMIT,
    DESCRIPTION_LIMIT,
    HEADER_LIMIT,
    LABEL_LIMIT,
    OPTIONS,
    PATCH_LIMIT,
    PATHS,
    PATTERN_LIMIT,
    PATTERNS,
    QUESTION_LIMIT,
    QUESTIONS,
    TITLE_LIMIT,
    AskEnded,
    Option,
    PermissionAsked,
    Question,
    QuestionAsked,
)
from agents.opencode.entries import identity
from studio.kernel.text import clean, cut

NAME_LIMIT = 100  # characters of a permission's name
REPLIES = {"once", "always", "reject"}
# How a permission reads on a card; any other is named as the server names it.
TITLES = {
    "bash": "Run {what}",
    "edit": "Edit {what}",
    "read": "Read {what}",
    "webfetch": "Fetch {what}",
    "websearch": "Search the web for {what}",
    "external_directory": "Use files outside the checkout: {what}",
    "doom_loop": "Go on although it repeats itself: {what}",
    "task": "Start the sub-agent {what}",
}


def permission_asked(request: dict[str, Any], directory: str) -> PermissionAsked:
    """A pending permission, as in an event or in the list of them."""
    metadata = _mapping(request.get("metadata"))
    permission = clean(_text(request["permission"]))
    raw = [_text(one) for one in request.get("patterns") or []]
    patterns = tuple(cut(clean(one), PATTERN_LIMIT) for one in raw[:PATTERNS])
    command = _text(metadata.get("command"))
    patch = _text(metadata.get("diff") or metadata.get("patch"))
    exact = (
        list(patterns) == raw
        and len(permission) <= NAME_LIMIT
        and (clean(command) == command and len(command) <= COMMAND_LIMIT)
    )
    always = [_text(one) for one in request.get("always") or []][:PATTERNS]
    if always == ["*"]:
        always = raw[:PATTERNS]  # "always" is for what is asked here, not for everything of its kind
    return PermissionAsked(
        session=identity(request["sessionID"]),
        id=identity(request["id"]),
        directory=directory,
        permission=cut(permission, NAME_LIMIT),
        patterns=patterns,
        # A lasting permission is only offered for patterns that can be kept as they are.
        always=tuple(one for one in always if one and clean(one) == one and len(one) <= PATTERN_LIMIT),
        command=cut(clean(command), COMMAND_LIMIT),
        patch=cut(clean(patch), PATCH_LIMIT),
        paths=_paths(metadata),
        call=_call(request),
        title=_title(permission, metadata, patterns),
        exact=exact,
    )


def question_asked(request: dict[str, Any], directory: str) -> QuestionAsked:
    """A pending question, as in an event or in the list of them."""
    questions = tuple(_question(one) for one in request["questions"][:QUESTIONS])
    first = questions[0].header or questions[0].question
    return QuestionAsked(
        session=identity(request["sessionID"]),
        id=identity(request["id"]),
        directory=directory,
        questions=questions,
        call=_call(request),
        title=cut(" ".join(f"Question: {first}".split()), TITLE_LIMIT),
    )


def ask_ended(properties: dict[str, Any]) -> AskEnded:
    """An event that says that a permission or a question was answered."""
    reply = properties.get("reply")
    if "answers" in properties:
        reply = "answers"
    return AskEnded(
        session=identity(properties["sessionID"]),
        id=identity(properties["requestID"]),
        reply=reply if reply in REPLIES | {"answers"} else "reject",
    )


def _question(given: dict[str, Any]) -> Question:
    options = [_mapping(one) for one in given.get("options") or []][:OPTIONS]
    return Question(
        question=cut(clean(_text(given["question"])), QUESTION_LIMIT),
        header=cut(clean(_text(given.get("header"))), HEADER_LIMIT),
        options=tuple(
            Option(
                cut(clean(_text(one["label"])), LABEL_LIMIT),
                cut(clean(_text(one.get("description"))), DESCRIPTION_LIMIT),
            )
            for one in options
        ),
        multiple=given.get("multiple") is True,
    )


def _title(permission: str, metadata: dict[str, Any], patterns: tuple[str, ...]) -> str:
    command = _text(metadata.get("command")) if permission == "bash" else ""
    what = clean(command or ", ".join(patterns) or permission)
    words = TITLES.get(permission, "Use " + permission.replace("{", "").replace("}", "") + ": {what}")
    return cut(" ".join(words.format(what=what).split()), TITLE_LIMIT)


def _paths(metadata: dict[str, Any]) -> tuple[str, ...]:
    """The files and folders that it is about."""
    listed = metadata.get("directories") or metadata.get("paths") or []
    found = [metadata.get("filepath"), *(listed if isinstance(listed, list) else [])]
    paths = [cut(clean(one), PATTERN_LIMIT) for one in found if isinstance(one, str) and one]
    return tuple(dict.fromkeys(paths))[:PATHS]


def _call(request: dict[str, Any]) -> str:
    call = _mapping(request.get("tool")).get("callID")
    return cut(clean(call), HEADER_LIMIT) if isinstance(call, str) else ""


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    """A text, or nothing. Raises TypeError for what is no text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
