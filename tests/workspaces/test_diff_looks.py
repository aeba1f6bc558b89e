"""Lines side by side, and changes of white space taken for none."""

from __future__ import annotations

import pytest

from workspaces.diff import FileDiff, Hunk, Line
from workspaces.diff_looks import COMPARED, pairs, without_space

KINDS = {"-": "removed", "+": "added", " ": "context", "\\": "note"}


def hunk(*rows):
    lines, old, new = [], 0, 0
    for row in rows:
        kind = KINDS[row[0]]
        old += kind in ("removed", "context")
        new += kind in ("added", "context")
        numbers = (old if kind in ("removed", "context") else None, new if kind in ("added", "context") else None)
        lines.append(Line(kind, *numbers, row[1:]))
    return Hunk(1, old, 1, new, "", lines)


def file(*hunks):
    return FileDiff("id", "a", "a", "modified", "", "", 1, 1, False, hunks=list(hunks))


def text(line):
    return line.text if line else None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([" a", "-b", "+c", " d"], [("a", "a"), ("b", "c"), ("d", "d")]),
        (["-a", "-b", "+c"], [("a", "c"), ("b", None)]),
        (["+a", " b", "-c"], [(None, "a"), ("b", "b"), ("c", None)]),
        (["-a", "+b", "-c", "+d"], [("a", "b"), ("c", "d")]),
        (["-a", "\\no end", "+a"], [("a", None), ("no end", None), (None, "a")]),
        (["-a", "+b", "\\no end"], [("a", "b"), (None, "no end")]),
        ([" a", "\\no end"], [("a", "a"), ("no end", "no end")]),
        ([], []),
    ],
)
def test_pairs__old_beside_new(rows, expected):
    assert [(text(old), text(new)) for old, new in pairs(hunk(*rows))] == expected


def test_without_space__what_differs_in_it_alone_is_context():
    shown = without_space(file(hunk("-if x:", "-\ta", "-b", "+if x :", "+    a", "+new", "+c", " same")))
    kinds = [(line.kind, line.old_no, line.new_no, line.text) for line in shown.hunks[0].lines]
    assert kinds == [
        ("context", 1, 1, "if x :"),
        ("context", 2, 2, "    a"),
        ("removed", 3, None, "b"),
        ("added", None, 3, "new"),
        ("added", None, 4, "c"),
        ("context", 4, 5, "same"),
    ]


def test_without_space__an_unseen_character_is_none():
    (shown,) = without_space(file(hunk("-a b", "+a\u2028 b"))).hunks
    assert [line.kind for line in shown.lines] == ["removed", "added"]


def test_without_space__a_hunk_without_other_changes_is_left_out():
    shown = without_space(file(hunk(" a", "-b c", "+bc"), hunk("-x", "+y")))
    assert [[line.text for line in one.lines] for one in shown.hunks] == [["x", "y"]]


def test_without_space__very_long_runs_are_left_as_they_are():
    rows = [f"-{n}" for n in range(COMPARED + 1)] + [f"+ {n}" for n in range(COMPARED + 1)]
    assert len(without_space(file(hunk(*rows))).hunks[0].lines) == len(rows)
