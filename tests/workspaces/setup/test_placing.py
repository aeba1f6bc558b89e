from __future__ import annotations

import os

import pytest

from workspaces.setup import patterns
from workspaces.setup.config import Setup
from workspaces.setup.patterns import matching, means
from workspaces.setup.placing import VARIABLES, place, plan


@pytest.fixture
def places(tmp_path):
    """A repository's own checkout, the agent's, and somewhere outside."""
    made = [tmp_path / name for name in ("own", "agents", "outside")]
    for folder in made:
        folder.mkdir()
    (made[2] / "secret").write_text("secret")
    return made


def carried_out(setup, own, agents, earlier=()):
    made = plan(setup, own, agents, list(earlier))
    return made, made.notes + place(made, agents, {"B": "it's", "A": "1"})


def test_place__copies_links_and_variables(places):
    own, agents, _ = places
    (own / ".env").write_text("A=1")
    (own / ".env.local").write_text("B=1")
    (own / "config").mkdir()
    (own / "config" / "deep").mkdir()
    (own / "config" / "deep" / "run.sh").write_text("x")
    (own / "config" / "deep" / "run.sh").chmod(0o755)
    (own / "node_modules").mkdir()
    (own / "node_modules" / "a.js").write_text("x")
    setup = Setup(copy=(".env*", "config/**", "missing.txt"), link=("node_modules", "venv"))
    made, notes = carried_out(setup, own, agents)
    assert notes == [
        "missing.txt: the repository's checkout has no such file.",
        "venv: the repository's checkout has no such folder.",
    ]
    assert made.paths == ["node_modules", ".env", ".env.local", "config/deep/run.sh", VARIABLES]
    assert (agents / ".env.local").read_text() == "B=1"
    assert (agents / "config" / "deep" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (agents / ".env").stat().st_mode & 0o077 == 0o044
    assert (agents / "node_modules").readlink() == own / "node_modules"
    assert (agents / VARIABLES).read_text().splitlines()[1:] == ["export A=1", "export B='it'\"'\"'s'"]
    (own / ".env").write_text("A=2")
    (agents / "node_modules").unlink()
    assert carried_out(setup, own, agents, made.paths)[1] == notes
    assert (agents / ".env").read_text() == "A=2"  # what was placed is placed anew
    assert (agents / "node_modules" / "a.js").exists()


def test_place__nothing_comes_from_outside_the_repository(places):
    own, agents, outside = places
    (own / ".env").symlink_to(outside / "secret")
    (own / "node_modules").symlink_to(outside)
    (own / "away").symlink_to("/")
    (own / "loop").symlink_to("loop")
    os.mkfifo(own / "pipe")
    (own / ".git").mkdir()
    (own / ".git" / "config").write_text("token")
    (own / "inner").symlink_to(".git/config")
    made, notes = carried_out(
        Setup(
            copy=(".env", "away/etc/passwd", "loop", "pipe", "inner", "node_modules/*"), link=("node_modules", "away")
        ),
        own,
        agents,
    )
    assert made.paths == [VARIABLES]
    assert notes == [
        ".env: it leads out of the repository, so it is not copied.",
        "away/etc/passwd: it leads out of the repository, so it is not copied.",
        "loop: it cannot be read.",
        "pipe: it is no plain file.",
        "inner: it leads out of the repository, so it is not copied.",
        "node_modules/secret: it leads out of the repository, so it is not copied.",
        "node_modules: it leads out of the repository, so it is not linked.",
        "away: it leads out of the repository, so it is not linked.",
    ]


def test_place__nothing_is_written_outside_the_checkout_and_nothing_is_overwritten(places):
    own, agents, outside = places
    (own / "config").mkdir()
    (own / "config" / "a").write_text("new")
    (own / ".env").write_text("new")
    (own / "link").mkdir()
    (agents / "config").symlink_to(outside)
    (agents / ".env").write_text("the agent's")
    (agents / "link").write_text("a file")
    (agents / ".opencode-studio").symlink_to(outside)
    _, notes = carried_out(Setup(copy=("config/a", ".env"), link=("link",)), own, agents)
    assert notes == [
        "link: the checkout has it already, so it is left alone.",
        ".env: the checkout has it already, so it is left alone.",
        "config/a: it could not be placed (Not a directory).",
        f"{VARIABLES}: it could not be placed (Not a directory).",
    ]
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert (agents / ".env").read_text() == "the agent's"


def test_matching__is_bounded(places, monkeypatch):
    own = places[0]
    for number in range(30):
        (own / f"f{number}").write_text("x" * 10)
    monkeypatch.setattr(patterns, "LOOKED_AT", 10)
    assert "more than 10 names" in matching(own, ("**/*.x/**",)).notes[0]
    monkeypatch.setattr(patterns, "LOOKED_AT", 1000)
    monkeypatch.setattr(patterns, "FILES", 5)
    found = matching(own, ("f*", "f1"))
    assert len(found.files) == 5
    assert "more than 5 files" in found.notes[0]
    monkeypatch.setattr(patterns, "FILES", 500)
    monkeypatch.setattr(patterns, "BYTES", 100)
    assert "the rest is not copied" in matching(own, ("f*",)).notes[0]


@pytest.mark.parametrize(
    ("pattern", "path", "meant"),
    [
        (".env*", ".env.prod", True),
        (".env*", "a/.env", False),
        ("**/.env*", "a/b/.env.x", True),
        ("**/.env*", ".env", True),
        ("a/**", "a", False),
        ("a/**", "a/b/c", True),
        ("secrets", "secrets/x/y", True),
        ("a/*/c", "a/c", False),
        ("a/**/**/b", "a/x/b", True),
        ("conf/*.key", "conf/x/y.key", False),
    ],
)
def test_means__a_path_by_its_name_alone(pattern, path, meant):
    assert means([pattern], path) is meant
