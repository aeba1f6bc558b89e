from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.verdicts import FINDINGS_LIMIT, parse_verdict


def block(value: object) -> str:
    return f"```json\n{value if isinstance(value, str) else json.dumps(value)}\n```"


APPROVED = {"verdict": "approved", "summary": "Fine."}
CHANGES = {"verdict": "changes_requested", "summary": "No."}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (block(APPROVED), "approved"),
        (block(CHANGES), "changes_requested"),
        (f"I read everything.\n\n{block(APPROVED)}\nThat is all.", "approved"),
        (f"```JSON\n{json.dumps(APPROVED)}\n```", "approved"),
        (block(APPROVED).replace("\n", "\r\n"), "approved"),
        (f"NOT APPROVED. Really not approved!\n{block(CHANGES)}", "changes_requested"),
        (f"{block(CHANGES)}\n{block(CHANGES)}", "changes_requested"),
        (f"{block({'config': 1})}\n{block(APPROVED)}", "approved"),
    ],
)
def test_parse_verdict__reads_a_clear_one(text, verdict):
    assert parse_verdict(text).verdict == verdict


@pytest.mark.parametrize(
    "text",
    [
        "",
        "approved",
        "APPROVED",
        "I approve this change.",
        "This is NOT APPROVED. I approved nothing.",
        "verdict: approved",
        '{"verdict": "approved"}',
        f"```\n{json.dumps(APPROVED)}\n```",
        f"```python\n{json.dumps(APPROVED)}\n```",
        f"`json {json.dumps(APPROVED)}`",
        block({"verdict": "not approved"}),
        block({"verdict": "NOT_APPROVED"}),
        block({"verdict": "Approved"}),
        block({"verdict": "approved "}),
        block({"verdict": "approve"}),
        block({"verdict": True}),
        block({"verdict": None}),
        block({"verdict": ["approved"]}),
        block({"verdict": {"value": "approved"}}),
        block({"verdict": "approved | changes_requested"}),
        block([APPROVED]),
        block({"result": APPROVED}),
        block('{"verdict": "approved"'),
        block('{"verdict": "changes_requested", "verdict": "approved"}'),
        block("{" * 100_000),
        block("[" * 100_000),
        f"{block(APPROVED)}\n{block(CHANGES)}",
        f"{block(CHANGES)}\n{block(APPROVED)}",
        f"{block(APPROVED)}\n{block({'verdict': 'not approved'})}",
        f"```json\n{json.dumps(APPROVED)}\n",
    ],
)
def test_parse_verdict__anything_else_is_none(text):
    assert parse_verdict(text) is None


@given(st.text())
def test_parse_verdict__no_prose_approves(text):
    assert parse_verdict(text) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_parse_verdict__takes_any_findings(findings):
    found = parse_verdict(block({**APPROVED, "findings": findings}))
    assert found.verdict == "approved"
    assert all(one.title and one.severity in ("error", "warning", "info") for one in found.findings)


def test_parse_verdict__reads_findings():
    findings = [
        {"severity": "warning", "title": "T", "body": "B", "file": "a.py", "line": 3},
        {"severity": "terrible", "title": "unknown severities are grave"},
        {"body": "first line\nsecond"},
        {"severity": "info", "title": "", "body": ""},
        {"severity": "info", "title": "bad line", "line": -1, "file": 7},
        {"severity": "info", "title": "big line", "line": 2**40},
        "no object",
    ]
    found = parse_verdict(block({**CHANGES, "findings": findings}))
    assert [(one.severity, one.title, one.file, one.line) for one in found.findings] == [
        ("warning", "T", "a.py", 3),
        ("error", "unknown severities are grave", "", None),
        ("error", "first line", "", None),
        ("info", "bad line", "", None),
        ("info", "big line", "", None),
    ]


def test_parse_verdict__bounds_findings_and_text():
    many = [{"severity": "info", "title": f"{n}"} for n in range(FINDINGS_LIMIT + 50)]
    text = "x" * 500_000 + "\n" + block({**CHANGES, "findings": many})
    assert len(parse_verdict(text).findings) == FINDINGS_LIMIT


def test_parse_verdict__cleans_text():
    found = parse_verdict(block({**APPROVED, "summary": "a\x00b\x1b[31mc \ud800"}))
    assert found.summary == "abc ���"
