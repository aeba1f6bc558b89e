"""What the studio puts into a checkout, reads of it and brings back, the same in every system."""

from __future__ import annotations

import io

import pytest

from tests.repositories import git, jj
from tests.workspaces.contract.world import AGENT, BRANCH, TARGET, apply_patch, contents, write
from workspaces.vcs import reading_of

PLACED = ["node_modules", ".env", "a[1]*.txt", "made"]


def names_in(world, commit) -> set[str]:
    return set(git(world.store, "ls-tree", "-r", "--name-only", commit).split("\n")) - {""}


@pytest.fixture
def placed(world, checkout, tmp_path):
    """A checkout with a link, a copied file that the repository wants by name, an odd name and a folder; all excluded."""
    world.commit(checkout, {".gitignore": "node_modules/\n!.env\n"})
    (checkout / "node_modules").symlink_to(tmp_path)
    write(checkout, {".env": "SECRET=1\n", "a[1]*.txt": "x\n", "made/deep/file.txt": "x\n", "a1.txt": "mine\n"})
    assert world.vcs.exclude(checkout, [*PLACED, "app.py"]) == ["app.py"]
    return checkout


def test_exclude__nothing_of_it_is_in_status_diff_patch_or_commit(world, placed):
    assert [file.path for file in world.vcs.changes(placed, world.target).files] == [".gitignore", "a1.txt"]
    status = world.vcs.status(placed, TARGET)
    assert status.unstaged + status.untracked == ["a1.txt"]
    head = world.commit(placed, {"more.txt": "more\n"})
    assert names_in(world, head) - names_in(world, world.target) == {"a1.txt", "more.txt"}
    for path in PLACED:
        assert (placed / path).exists()
    assert world.commit(placed, {}) == head


def test_exclude__taken_in_before_by_whoever_works_there_it_comes_out_again(world, checkout, tmp_path):
    (checkout / "node_modules").symlink_to(tmp_path)
    write(checkout, {".env": "SECRET=1\n", "mine.txt": "mine\n"})
    if world.is_jj:
        jj(checkout, "status")
    else:
        git(checkout, "add", "-f", "mine.txt")
    assert world.vcs.exclude(checkout, ["node_modules", ".env"]) == []
    assert [file.path for file in world.vcs.changes(checkout, world.target).files] == ["mine.txt"]
    head = world.commit(checkout, {})
    assert names_in(world, head) - names_in(world, world.target) == {"mine.txt"}
    assert (checkout / ".env").read_text() == "SECRET=1\n"
    assert (checkout / "node_modules").is_symlink()


def test_exclude__holds_for_whoever_works_there_and_through_updates(world, placed):
    if world.is_jj:
        jj(placed, "commit", "-m", "By the agent")
    else:
        git(placed, "add", "-A", "--", ":!.env")
        git(placed, "commit", "-q", "-m", "By the agent")
    now = world.person_commits({"theirs.txt": "theirs\n"})
    world.vcs.update_checkout(placed, BRANCH, now, "merge", AGENT)
    head = world.commit(placed, {"more.txt": "more\n"})
    assert not names_in(world, head) & {"node_modules", ".env", "made/deep/file.txt"}
    assert (placed / ".env").read_text() == "SECRET=1\n"
    world.vcs.restore_checkout(placed, BRANCH, now, AGENT)
    assert (placed / ".env").exists()


def test_exclude__each_call_replaces_the_last_and_goes_with_the_checkout(world, placed):
    world.vcs.exclude(placed, ["made"])
    found = {file.path for file in world.vcs.changes(placed, world.target).files}
    assert {".env", "a[1]*.txt", "node_modules"} <= found
    assert not any(path.startswith("made") for path in found)
    world.vcs.remove_checkout(world.repository, placed)
    assert not placed.exists()


def test_file_at_and_common(world, checkout):
    base, head = world.target, world.commit(checkout, {"lib/new.txt": "0123456789"})
    other = world.person_commits({"theirs.txt": "theirs\n"})
    at = world.vcs.file_at
    assert at(world.repository, head, "lib/new.txt", limit=5) == b"01234"
    assert at(world.repository, head, "lib", limit=5) is at(world.repository, base, "lib/new.txt", limit=5) is None
    assert world.vcs.common(world.repository, head, other) == base


def test_bring_back__what_was_exported_and_a_checkout_goes_on_from_it(world, checkout, tmp_path):
    base, head = world.target, world.commit(checkout, {"new.txt": "new\n"})
    patch = world.vcs.export(world.repository, BRANCH, base, head, tmp_path / "kept", "one", merged=False)
    world.vcs.remove_checkout(world.repository, checkout)
    world.vcs.delete_branch(world.repository, BRANCH, head)
    assert world.vcs.bring_back(world.repository, patch.with_suffix(".bundle")) == head
    again = world.checkout(name="demo-1-again", base=head)
    assert (again / "new.txt").read_text() == "new\n"
    assert world.vcs.status(again, TARGET).ahead == 1


def test_reading__the_checkout_and_its_commits(world, placed, tmp_path):
    reading, base = reading_of(world.vcs.name), world.target
    write(placed, {"lib/two.txt": "needle\n", "made/deep/file.txt": "needle\n"})
    (placed / "way").symlink_to("lib/two.txt")
    live = set(reading.files(placed, ""))
    assert {"a1.txt", "app.py", "way"} <= live
    assert not live & {"node_modules", "made/deep/file.txt", ".jj/repo"}
    with reading.grep(placed, "", "needle", regex=False, seconds=30) as hits:
        assert [(hit.path, hit.line, hit.text) for hit in hits] == [("lib/two.txt", 1, b"needle")]
    out = io.BytesIO()
    assert reading.write_patch(placed, base, "", out, 1_000_000)
    assert not reading.write_patch(placed, base, "", io.BytesIO(), 10)
    head = world.commit(placed, {})
    applied = apply_patch(world.store, base, out.getvalue(), tmp_path / "clone")
    assert applied == {path: entry for path, entry in contents(placed).items() if path.partition("/")[0] not in PLACED}
    assert set(reading.files(world.repository, head)) == names_in(world, head)
    assert {entry.path for entry in reading.folder(world.repository, head, "lib")} == {"lib/deep", "lib/two.txt"}
    assert reading.entry(world.repository, head, "way").target == "lib/two.txt"
    with reading.content(world.repository, head, "lib/two.txt") as pieces:
        assert b"".join(pieces) == b"needle\n"
