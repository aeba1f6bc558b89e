"""Search by name and by content, with ripgrep and with git, in checkouts and in commits."""

from __future__ import annotations

import os
import shutil

import pytest

from studio.kernel.errors import Invalid
from workspaces.files import search
from workspaces.files.search import HITS, HITS_PER_FILE, LINE_CHARACTERS, find_lines, find_names
from workspaces.services import commit_left, remove_workspace

pytestmark = pytest.mark.django_db
ODD = os.fsdecode(b"caf\xe9\n:1:.py")


@pytest.fixture(params=["rg", "git"])
def program(request, monkeypatch):
    """Either of the two programs."""
    if request.param == "git":
        monkeypatch.setattr(search.shutil, "which", lambda _: None)
    else:
        assert shutil.which("rg"), "ripgrep is missing: install it, see docs"
    return request.param


def lines(found):
    return [(file.path, line.number, line.text) for file in found.files for line in file.lines]


def test_lines__are_found_as_they_stand(workspace, checkout, tmp_path, program):
    (tmp_path / "secret.txt").write_text("a.b(c\n")
    (checkout / "new.txt").write_text("first\nA.b(C and <b>\nax(c\n")
    (checkout / ODD).write_bytes(b"\xff a.b(c\n")
    (checkout / "link.txt").symlink_to(tmp_path / "secret.txt")
    (checkout / "folder").symlink_to(tmp_path)
    (checkout / "binary").write_bytes(b"\0\1 a.b(c\n")
    (checkout / ".hidden").write_text("a.b(c\n")
    (checkout / ".gitignore").write_text("ignored.txt\n")
    (checkout / "ignored.txt").write_text("a.b(c\n")
    found = find_lines(workspace, "a.b(c")
    assert sorted(lines(found)) == sorted([
        ("new.txt", 2, "A.b(C and <b>"), (ODD, 1, "� a.b(c"), (".hidden", 1, "a.b(c"),
    ])  # fmt: skip
    assert find_lines(workspace, "A.b(C").count == 1  # capital letters count when there are some
    assert found.stopped == ""
    assert lines(find_lines(workspace, "gitdir:")) == []


@pytest.mark.parametrize("words", ["-e", "--files", "-f/etc/passwd", "--pre=sh", "$(id)"])
def test_words__are_never_options(workspace, checkout, program, words):
    (checkout / "new.txt").write_text(f"a {words} b\n")
    assert lines(find_lines(workspace, words)) == [("new.txt", 1, f"a {words} b")]


def test_regex__is_taken_when_asked_for(workspace, program):
    assert lines(find_lines(workspace, "^line (7|40)$", regex=True)) == [
        ("lib/deep/one.txt", 7, "line 7"), ("lib/deep/one.txt", 40, "line 40"),
    ]  # fmt: skip
    with pytest.raises(Invalid, match="Look for something else"):
        find_lines(workspace, "a(b", regex=True)


def test_hits__are_bounded(workspace, checkout, program, monkeypatch):
    for number in range(HITS // HITS_PER_FILE + 3):
        (checkout / f"f{number}.txt").write_text("needle\n" * 100)
    (checkout / "long.txt").write_text("straw " * 100_000 + "needle\n")
    found = find_lines(workspace, "needle")
    assert found.count == HITS
    assert "first 300" in found.stopped
    assert all(len(file.lines) <= HITS_PER_FILE for file in found.files)
    [(_, _, text)] = lines(find_lines(workspace, "straw needle"))
    assert len(text) <= LINE_CHARACTERS
    monkeypatch.setattr(search, "SECONDS", 0.0)
    assert "ended after" in find_lines(workspace, "needle").stopped


@pytest.mark.parametrize("words", ["", "  ", "a\nb", "x" * 501])
def test_words__that_cannot_be_looked_for_are_refused(workspace, words):
    for find in (find_lines, find_names):
        with pytest.raises(Invalid):
            find(workspace, words)


def test_names__by_all_words_the_last_part_first(workspace, checkout):
    (checkout / "lib/Two-more.TXT").write_text("")
    (checkout / "two").mkdir()
    (checkout / "two" / "other.txt").write_text("")
    (checkout / ODD).write_text("")
    assert [file.path for file in find_names(workspace, "two txt").files] == [
        "lib/two.txt", "lib/Two-more.TXT", "two/other.txt",
    ]  # fmt: skip
    assert [file.path for file in find_names(workspace, "caf .py").files] == [ODD]
    assert find_names(workspace, "nothing-like-it").files == []


def test_removed_workspace__is_searched_in_its_commit(workspace, checkout):
    (checkout / ODD).write_text("one needle\n")
    commit_left(workspace, message="All", author_name="Test")
    remove_workspace(workspace_id=workspace.pk)
    workspace.refresh_from_db()
    assert lines(find_lines(workspace, "needle")) == [(ODD, 1, "one needle")]
    assert [file.path for file in find_names(workspace, "caf").files] == [ODD]
