"""The rules as the studio reads them are the rules as the real server reads them."""

from __future__ import annotations

import re

import pytest

from agents.rules import DENY, evaluate, rule

pytestmark = pytest.mark.real

# A rule, and a command whose name is the rule's own: only that rule can deny it.
CASES = [
    ("aa", "aa"), ("ab", "ab x"), ("ac *", "ac"), ("ad *", "ad x y"), ("ae *", "aex"), ("af*", "afx"), ("ag*", "ag x"),
    ("ah?", "ah1"), ("ai?", "ai"), ("aj?", "aj12"), ("ak.x", "ak.x"), ("al.x", "alyx"), ("am [x]", "am x"), ("an (x)*", "an"),
    ("ao * --z", "ao --z"), ("ap * --z", "ap y --z"), ("aq+", "aqq"), ("ar|zz", "ar"), ("*as*", "echo as"), ("AT *", "at x"),
    ("au *>*", "au x > y"), ("av *\n*", "av x"), ("aw $x", "aw $x"), ("ax x\\y", "ax x\\y"), ("ay x/y", "ay 'x\\y'"),
    ("az  *", "az x"), ("*b0 ", "b0"), ("b1 **", "b1"), ("b2 * *", "b2"), ("b3 *", "b3 'x\ny'"), ("^b4$", "b4"),
]  # fmt: skip


def test_patterns__mean_what_the_server_means(begin, opencode_server, repository):
    rules = [rule("*", "*", "allow"), *(rule("bash", pattern, DENY) for pattern, _ in CASES)]
    steps = [{"tools": [{"name": "bash", "args": {"command": command, "description": "x"}}]} for _, command in CASES]
    turn = begin({"implementation": [[*steps, {"text": "Done."}]]}, rules=rules)
    turn.send()
    view = turn.settled()
    assert (view.state, view.result_text) == ("completed", "Done.")
    finished = [entry.data for entry in view.events if entry.kind == "tool.finished"]
    denied = [bool(re.search("rule which prevents", one["error"])) for one in finished]
    expected = [evaluate(rules, "bash", command) == DENY for _, command in CASES]
    wrong = [(case, there) for case, there, here in zip(CASES, denied, expected, strict=True) if there != here]
    assert not wrong
    assert len(set(denied)) == 2
