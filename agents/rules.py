"""Permission rules as the server reads them: wildcards, and of several rules the last match wins. Pure.

tests/agents/test_real_rules.py holds this against the real server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from agents.asks import PermissionAsked, Rule

ALLOW, ASK, DENY = "allow", "ask", "deny"


def rule(permission: str, pattern: str, action: str) -> Rule:
    """One rule."""
    return {"permission": permission, "pattern": pattern, "action": action}


def matches(text: str, pattern: str) -> bool:
    """Whether the whole of `text` fits `pattern`.

    `*` stands for any characters, line breaks included, and `?` for one; everything else for itself. A pattern that ends
    with a space and a star fits without them too: `ls *` is also the plain `ls`.
    """
    return _compiled(pattern).fullmatch(_slashes(text)) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    words = {"*": ".*", "?": "."}
    expression = "".join(words.get(letter) or re.escape(letter) for letter in _slashes(pattern))
    if pattern.endswith(" *"):
        expression = expression[: -len(re.escape(" ") + ".*")] + "(?: .*)?"
    return re.compile(expression, re.DOTALL)


def _slashes(text: str) -> str:
    """Paths are compared with forward slashes."""
    return text.replace("\\", "/")


def evaluate(rules: Sequence[Rule], permission: str, pattern: str) -> str:
    """What the rules say of one thing; what no rule speaks of is asked."""
    for one in reversed(rules):
        if matches(permission, one["permission"]) and matches(pattern, one["pattern"]):
            return one["action"]
    return ASK


def decide(rules: Sequence[Rule], asked: PermissionAsked) -> str:
    """What the rules say of all that is asked together: one denial denies it, one question leaves it to a person."""
    actions = {evaluate(rules, asked.permission, pattern) for pattern in asked.patterns or ("*",)}
    if DENY in actions:
        return DENY
    return ALLOW if actions == {ALLOW} and asked.exact else ASK


def compact(rules: Iterable[Rule]) -> list[Rule]:
    """The same rules without those that a later one overrides in full.

    A sub-agent inherits the denials alone, so a denial that was taken back must not stay in the list.
    """
    kept: list[Rule] = []
    for one in rules:
        kept = [before for before in kept if not _covers(one, before)]
        kept.append(one)
    return kept


def _covers(later: Rule, before: Rule) -> bool:
    return all(later[key] in ("*", before[key]) for key in ("permission", "pattern"))
