"""What is jj's alone: how the default bookmark is found, hostile configuration, races with other jj commands, taking back."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from studio.kernel.errors import Conflict, Invalid
from tests.repositories import GIT_ENV, git, jj, make_jj_repository
from tests.workspaces.contract.conftest import require_jj
from tests.workspaces.contract.world import AGENT, BRANCH, TARGET, make_world, write
from workspaces.services import ensure_workspace, register_project
from workspaces.vcs import SYSTEMS, detect, jj_target
from workspaces.vcs.base import Raced
from workspaces.vcs.jj_command import JjError

JJ = SYSTEMS["jj"]


@pytest.fixture(autouse=True)
def with_jj():
    require_jj()


@pytest.fixture(params=["jj", "jj-colocated"])
def world(request, tmp_path):
    """A jj repository."""
    return make_world(request.param, tmp_path)


def refusal(path: Path) -> Invalid:
    with pytest.raises(Invalid) as caught:
        JJ.find(path)
    return caught.value


def test_register__a_jj_repository_and_make_a_workspace(owner, world, db):
    project = register_project(actor=owner, path=str(world.repository), name="Demo", key="DEMO")
    assert (project.vcs, project.default_branch) == ("jj", TARGET)
    workspace = ensure_workspace(project=project, label="DEMO-1")
    assert (Path(workspace.path) / ".jj").is_dir()
    assert not (Path(workspace.path) / ".git").exists()
    with pytest.raises(Conflict):
        register_project(actor=owner, path=str(world.repository))


def test_find__without_jj_says_how_to_get_it(world, monkeypatch):
    monkeypatch.setattr("workspaces.vcs.jj_inspect.version", lambda: (0, 0))
    if world.kind == "jj":
        assert detect(world.repository).name == "jj"
        assert (refusal(world.repository).code, "Install jj" in refusal(world.repository).message) == (
            "jj_missing",
            True,
        )
    else:
        assert detect(world.repository).name == "git"  # its other half works


def test_find__the_bookmark_below_the_working_copy(world):
    write(world.repository, {"more.txt": "more\n"})
    jj(world.repository, "commit", "-m", "Not yet under a bookmark")
    assert JJ.find(world.repository).default_branch == TARGET
    jj(world.repository, "bookmark", "create", "nearer", "-r", "@-")
    assert JJ.find(world.repository).default_branch == "nearer"


def test_find__the_only_bookmark_when_the_working_copy_is_behind_it(world):
    jj(world.repository, "new", "root()")
    assert JJ.find(world.repository).default_branch == TARGET


def test_find__what_trunk_means_goes_before(world, tmp_path):
    jj(world.repository, "bookmark", "create", "nearer", "-r", "@")
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(world.store), str(remote)], env=GIT_ENV, check=True)
    git(remote, "update-ref", f"refs/heads/{TARGET}", world.target)
    git(world.store, "remote", "add", "origin", str(remote))
    git(world.store, "fetch", "-q", "origin")
    jj(world.repository, "git", "import")
    assert JJ.find(world.repository).default_branch == TARGET


def test_find__several_bookmarks_are_not_guessed(world):
    jj(world.repository, "bookmark", "create", "other", "-r", TARGET)
    error = refusal(world.repository)
    assert (error.code, "other, trunk" in error.message, "trunk()" in error.message) == (
        "bookmark_ambiguous",
        True,
        True,
    )
    jj(world.repository, "bookmark", "delete", "other", TARGET)
    assert refusal(world.repository).code == "bookmark_missing"


HOSTILE = """
fsmonitor.backend = "watchman"
git.executable-path = "{evil}"
ui.pager = "{evil}"
ui.paginate = "auto"
ui.editor = "{evil}"
ui.diff-formatter = ["{evil}"]
ui.diff-editor = "{evil}"
ui.merge-editor = "{evil}"
signing.behavior = "own"
signing.backend = "gpg"
signing.backends.gpg.program = "{evil}"
aliases.log = ["util", "exec", "--", "{evil}"]
revset-aliases."immutable_heads()" = "none()"
snapshot.auto-track = "none()"
"""


@pytest.fixture
def evil(tmp_path):
    """A program that leaves a trace, and the trace."""
    program, trace = tmp_path / "evil", tmp_path / "trace"
    program.write_text(f"#!/bin/sh\necho ran >> {shlex.quote(str(trace))}\nexit 1\n")
    program.chmod(0o755)
    return program, trace


def test_hostile_configuration__runs_nothing(world, evil):
    program, trace = evil
    place = Path(jj(world.repository, "config", "path", "--repo").strip())
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(HOSTILE.format(evil=program))
    checkout = world.checkout()
    head = world.commit(checkout, {"a.txt": "a\n"})
    assert world.show(head, "a.txt") == "a\n"
    world.vcs.status(checkout, TARGET)
    world.advance(world.target, world.merge(head).commit)
    JJ.find(world.repository)
    JJ.identity(world.repository)
    world.vcs.remove_checkout(world.repository, checkout)
    world.vcs.delete_branch(world.repository, BRANCH, head)
    assert not trace.exists()
    subprocess.run(
        ["jj", "new"],
        cwd=world.repository,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        check=False,
        timeout=60,
    )
    assert trace.exists()  # the trap works: a person's own command falls into it


def test_configuration_that_came_with_the_repository__is_not_taken_over_by_the_studio(world):
    for place in (
        world.repository / ".jj" / "repo" / "config.toml",
        world.repository / ".jj" / "workspace-config.toml",
    ):
        place.unlink(missing_ok=True)
        place.write_text('user.name = "Somebody else"\n')
        error = refusal(world.repository)
        assert (error.code, "jj config" in error.message) == ("jj_config", True)
        assert place.read_text() == 'user.name = "Somebody else"\n'
        place.unlink()


def test_merge__can_be_taken_back_with_the_command_of_its_note(world):
    checkout = world.checkout()
    before, seen = world.target, world.print()
    result = world.merge(world.commit(checkout, {"new.txt": "new\n"}))
    world.advance(before, result.commit)
    note = world.vcs.moved_note(world.repository, TARGET, result.commit)
    command = shlex.split(note[note.index("jj op revert") :])
    jj(world.repository, "--ignore-working-copy", *command[1:])
    assert (world.target, world.print()) == (before, seen)


def test_race__another_jj_moves_the_bookmark_at_the_same_moment(world, monkeypatch):
    """Between the last look and the move: jj lets both stand, and the studio must take its own back."""
    checkout = world.checkout()
    mine = world.merge(world.commit(checkout, {"new.txt": "new\n"})).commit
    before = world.target
    write(world.repository, {"theirs.txt": "theirs\n"})
    jj(world.repository, "commit", "-m", "Theirs")
    theirs = jj(world.repository, "log", "--no-graph", "-r", "@-", "-T", "commit_id").strip()
    operation = jj(world.repository, "--ignore-working-copy", "op", "log", "--no-graph", "-n1", "-T", "id").strip()
    jj_of_the_studio = jj_target.jj

    def at_the_same_moment(cwd, *arguments, **options):
        done = jj_of_the_studio(cwd, *arguments, **options)
        if arguments[:2] == ("bookmark", "set"):
            jj(world.repository, "--at-operation", operation, "bookmark", "set", TARGET, "-r", theirs)
        return done

    monkeypatch.setattr(jj_target, "jj", at_the_same_moment)
    with pytest.raises(Raced):
        world.advance(before, mine)
    monkeypatch.undo()
    assert world.target == theirs
    assert world.vcs.contains(world.repository, theirs, before)


def test_race__a_harmless_operation_at_the_same_moment_does_not_matter(world, monkeypatch):
    checkout = world.checkout()
    mine = world.merge(world.commit(checkout, {"new.txt": "new\n"})).commit
    operation = jj(world.repository, "--ignore-working-copy", "op", "log", "--no-graph", "-n1", "-T", "id").strip()
    jj_of_the_studio = jj_target.jj

    def at_the_same_moment(cwd, *arguments, **options):
        done = jj_of_the_studio(cwd, *arguments, **options)
        if arguments[:2] == ("bookmark", "set"):
            jj(world.repository, "--at-operation", operation, "bookmark", "create", "elsewhere", "-r", TARGET)
        return done

    monkeypatch.setattr(jj_target, "jj", at_the_same_moment)
    world.advance(world.target, mine)
    assert world.target == mine


def test_tip__a_bookmark_in_two_places_is_said_and_not_guessed(world):
    operation = jj(world.repository, "op", "log", "--no-graph", "-n1", "-T", "id").strip()
    for number in (1, 2):
        jj(world.repository, "--at-operation", operation, "new", TARGET, "-m", f"Place {number}", "--no-edit")
    places = jj(
        world.repository, "log", "--no-graph", "-r", "description(glob:'Place*')", "-T", 'commit_id ++ "\\n"'
    ).split()
    operation = jj(world.repository, "op", "log", "--no-graph", "-n1", "-T", "id").strip()
    for place in places:
        jj(world.repository, "--at-operation", operation, "bookmark", "set", TARGET, "-r", place)
    with pytest.raises(JjError, match="2 commits at once"):
        JJ.tip(world.repository, TARGET)


def test_colocated__commits_that_a_person_made_with_git_are_seen(tmp_path):
    world = make_world("jj-colocated", tmp_path)
    git(world.repository, "switch", "-q", TARGET)
    write(world.repository, {"by-git.txt": "x\n"})
    git(world.repository, "add", "by-git.txt")
    git(world.repository, "commit", "-q", "-m", "With git")
    head = git(world.repository, "rev-parse", "HEAD").strip()
    assert world.target == head
    checkout = world.checkout()
    assert (checkout / "by-git.txt").exists()
    result = world.merge(world.commit(checkout, {"new.txt": "new\n"}))
    world.advance(head, result.commit)
    assert git(world.repository, "rev-parse", "HEAD").strip() == head  # where it was; the branch went on
    assert git(world.repository, "rev-parse", TARGET).strip() == result.commit
    assert "new.txt" not in git(world.repository, "status", "--porcelain")


def test_stale_workspace__what_is_on_the_disk_is_committed(world):
    checkout = world.checkout()
    world.commit(checkout, {"one.txt": "1\n"})
    write(checkout, {"two.txt": "2\n"})
    jj(checkout, "status")
    at = jj(checkout, "--ignore-working-copy", "log", "--no-graph", "-r", "@", "-T", "change_id").strip()
    write(checkout, {"three.txt": "3\n"})
    jj(world.repository, "--ignore-working-copy", "describe", "-r", at, "-m", "A person renamed it")
    jj(world.repository, "--ignore-working-copy", "restore", "--to", at, "two.txt")
    head = world.commit(checkout, {})
    assert (world.show(head, "two.txt"), world.show(head, "three.txt")) == ("2\n", "3\n")
    assert (checkout / "two.txt").exists()


def test_names_that_jj_cannot_store__are_named_and_stay_out(world):
    checkout = world.checkout()
    odd = os.fsencode(checkout) + b"/odd\xff.txt"
    Path(os.fsdecode(odd)).write_text("x")
    write(checkout, {"plain.txt": "x\n"})
    changes = world.vcs.changes(checkout, world.target)
    assert ([file.path for file in changes.files], changes.nested) == (["plain.txt"], [os.fsdecode(b"odd\xff.txt")])
    head = world.vcs.commit_all(checkout, BRANCH, "Plain", AGENT)
    assert git(world.store, "diff", "--name-only", world.target, head).split() == ["plain.txt"]


def test_submodules__their_pointers_are_carried_along(world):
    base = world.point_to_submodule("sub")
    commit, checkout = world.target, world.checkout()
    assert world.vcs.changes(checkout, commit).files == []
    head = world.commit(checkout, {"new.txt": "new\n"})
    assert git(world.store, "ls-tree", head, "sub").split()[:3] == ["160000", "commit", base]
    assert [file.path for file in world.vcs.changes(checkout, commit).files] == ["new.txt"]


def test_learn__two_at_once_do_not_take_each_others_commits_away(world):
    made = git(
        world.store, "commit-tree", f"{world.target}^{{tree}}", "-p", world.target, "-m", "Being learned"
    ).strip()
    ref = f"refs/heads/studio-import/{made}"
    git(world.store, "update-ref", ref, made)  # another worker is between its two steps
    world.vcs.create_checkout(world.repository, world.room / "other", "studio/other", world.target)
    assert git(world.store, "rev-parse", ref).strip() == made
    jj(world.repository, "git", "import", "--ignore-working-copy")
    world.vcs.create_checkout(world.repository, world.room / "later", "studio/later", world.target)
    assert git(world.store, "for-each-ref", "refs/heads/studio-import") == ""


def test_merge__of_commits_with_unresolved_conflicts_is_refused(world):
    checkout = world.checkout()
    head = world.commit(checkout, {"lib/two.txt": "mine\n"})
    target = world.person_commits({"lib/two.txt": "theirs\n"})
    jj(checkout, "new", head, target, "-m", "Both")
    conflicted = jj(checkout, "log", "--no-graph", "-r", "@", "-T", "commit_id").strip()
    assert "conflicts" in world.merge(conflicted).refusal
    assert "conflicts" in world.merge(conflicted, "squash").refusal


def test_find__an_old_store_or_none(tmp_path):
    folder = make_jj_repository(tmp_path / "odd")
    (folder / ".jj" / "repo" / "store" / "type").write_text("local")
    assert refusal(folder).code == "jj_backend"
