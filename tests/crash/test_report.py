"""The table of `make crash`, and its place in the document."""

from __future__ import annotations

import re

import pytest

from studio.queue import Names
from tests.crash import report
from tests.crash.cases import Outcome
from tests.crash.every import all_points
from tests.crash.points import STEPS, Point
from tests.e2e.studio_process import ROOT

APPS = ("studio", "agents", "workspaces", "sessions_app", "tasks")
# Their tests are test_stop.py and those of background commands, setups, merges and pull requests.
ELSEWHERE = {
    "abort.before_post", "abort.after_post", "command.before_spawn", "command.after_spawn", "setup.placed",
    "prepare.updated", "pull_request.pushed", "pull_request.before_create", "pull_request.created",
}  # fmt: skip
POINTS = [Point(name, lambda scene: None) for name in ("kill this", "stop that", "cut the rest")]
OUTCOMES = [
    Outcome("kill this", 1, [], 12.0, 4.0, 1.0),
    Outcome("kill this", 2, [], 14.0, 6.0, 3.0, "taken over in 2.0 s"),
    Outcome("stop that", 1, ["practice: a step is missing"], 20.0, 9.0, 2.0),
]


def test_render__says_what_passed_what_failed_and_what_was_not_run():
    section = report.render(OUTCOMES, POINTS, [1, 2], "make crash", 3.0)
    assert "3 points, 2 seeds, 3 runs, **2 passed, 1 failed**" in section
    assert "| kill this (taken over in 2.0 s) | ok | ok | 5.0 | 3.0 |" in section
    assert "| stop that | **failed** | not run |  |  |" in section
    assert "| cut the rest | not run | not run |  |  |" in section


def test_write_section__replaces_what_is_between_the_marks(tmp_path, monkeypatch):
    document = tmp_path / "reliability.md"
    monkeypatch.setattr(report, "DOCUMENT", document)
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_section("new")
    assert document.read_text() == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    document.write_text("nothing")
    with pytest.raises(ValueError, match="no place"):
        report.write_section("new")


def test_points__are_many_and_each_has_a_name_of_its_own():
    names = [point.name for point in all_points()]
    assert len(names) >= 60
    assert len(set(names)) == len(names)


def test_steps__each_stands_in_the_code_and_each_in_the_code_has_a_point():
    code = "".join(path.read_text() for app in APPS for path in (ROOT / app).rglob("*.py"))
    named = set(re.findall(r'\breach\("([\w.]+)"\)', code))
    jobs = {value for name, value in vars(Names).items() if name.isupper()}
    assert {step for step in STEPS if step not in jobs} <= named
    assert named - set(STEPS) <= ELSEWHERE
