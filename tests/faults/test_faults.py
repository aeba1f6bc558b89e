"""Bad input and faults. The ordinary suite makes the quick ones; `make faults` makes all of them, in their full size."""

from __future__ import annotations

import os

import pytest

from tests.faults import content, jujutsu, places, report, trouble
from tests.faults.catalogue import FAULTS, Fault
from tests.faults.report import Outcome
from tests.faults.scene import Broken, Scene
from tests.workspaces.contract.conftest import require_jj

WANTED = os.environ.get("STUDIO_FAULTS", "")
MODULES = (content, places, trouble, jujutsu)  # their import enters their faults into the table


def wanted(fault: Fault, system: str) -> bool:
    """The quick ones; all with STUDIO_FAULTS=all; else those whose names have its words."""
    if not WANTED:
        return system in fault.fast
    return WANTED == "all" or any(words in fault.name for words in WANTED.split("|"))


def cases() -> list[object]:
    """Each fault in each system that it can be made in."""
    return [
        pytest.param(
            fault,
            system,
            id=f"{fault.name}, {system}",
            marks=[pytest.mark.django_db(transaction=fault.threads)],
        )
        for fault in FAULTS
        for system in fault.systems
        if wanted(fault, system)
    ]


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    """No fault reads the configuration of whoever makes it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.mark.parametrize(("fault", "system"), cases())
def test_fault__has_a_good_outcome(fault, system, tmp_path, owner, record_property):
    if system != "git":
        require_jj()
    scene = Scene(tmp_path, owner, system, whole=bool(WANTED))
    record_property("fault", fault.name)
    record_property("system", system)
    record_property("absent", dict(fault.absent))
    record_property("said", scene.said)
    try:
        outcome = fault.play(scene)
        scene.check()
    except Broken as broken:
        record_property("problem", str(broken))
        raise
    record_property("outcome", outcome)


def test_render__says_what_was_lost_and_what_was_said():
    good = [
        Outcome("a | fault", "git", "It is refused.", ["Say <this>.", "Say <this>."], ""),
        Outcome("a | fault", "jj", "It is refused.", ["Say <this>."], ""),
        Outcome("a | fault", "jj colocated", "It is refused there.", ["Say that."], ""),
    ]
    bad = Outcome("another", "git", "", [], "the commit is lost")
    section = report.render([*good, bad], "make faults", 2.0, {"another": {"jj": "it has no locks"}})
    assert (
        "2 faults, made 4 times (2 in git, 1 in jj, 1 in jj colocated): **3 with a good outcome, 1 without**" in section
    )
    row = "| a \\| fault | It is refused. | The same. Colocated: It is refused there. | Say &lt;this>. *jj colocated*: Say that. |"
    assert row in section
    assert "| another | **failed**: the commit is lost | not in jj: it has no locks |  | see outcome |" in section


def test_write_section__replaces_what_is_between_the_marks(tmp_path, monkeypatch):
    document = tmp_path / "reliability.md"
    monkeypatch.setattr(report, "DOCUMENT", document)
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_section("new")
    assert document.read_text() == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"


@pytest.mark.parametrize("system", ["git", "jj"])
def test_check__sees_what_was_lost(system, tmp_path, owner, db):
    if system != "git":
        require_jj()
    scene = Scene(tmp_path, owner, system, whole=False)
    scene.begin()
    scene.watch()
    scene.check()
    (scene.repository / "app.py").write_text("touched\n")
    with pytest.raises(Broken, match=r"app\.py"):
        scene.check()
    scene.watch()
    (scene.checkout / "work.txt").write_text("overwritten\n")
    scene.check()  # a branch still has it
    scene.hand.delete(scene.repository, scene.workspace.branch)
    with pytest.raises(Broken, match="is lost"):
        scene.check()
