"""The change is everything in the checkout, each file once, shown safely and bounded, and reading it changes nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from studio.kernel.errors import NotFound
from tests.factories import git
from workspaces import diff as diffs
from workspaces.models import WorkspaceState
from workspaces.services import commit_left, diff_for
from workspaces.vcs import git_changes

pytestmark = pytest.mark.django_db


def shown(diff):
    return {file.path: (file.status, file.additions, file.deletions) for file in diff.files}


def lines(file):
    return [(line.kind, line.old_no, line.new_no, line.text) for hunk in file.hunks for line in hunk.lines]


def one(workspace, path):
    return next(file for file in diff_for(workspace).files if path in (file.old_path, file.new_path))


def state_of(checkout: Path, repository: Path):
    index = repository / ".git" / "worktrees" / checkout.name / "index"
    return hashlib.sha256(index.read_bytes()).hexdigest(), git(checkout, "status", "--porcelain")


def test_diff__committed_staged_unstaged_and_untracked_each_once(workspace, checkout, repository):
    (checkout / "committed.txt").write_text("1\n")
    (checkout / "app.py").write_text("committed\n")
    commit_left(workspace, message="m", author_name="a")
    (checkout / "staged.txt").write_text("2\n")
    (checkout / "app.py").write_text("staged\n")
    git(checkout, "add", "-A")
    (checkout / "app.py").write_text("unstaged\n")
    (checkout / "staged.txt").write_text("2\n2\n")
    (checkout / "untracked.txt").write_text("3\n")
    (checkout / "README.md").unlink()
    before = state_of(checkout, repository)
    diff = diff_for(workspace)
    assert shown(diff) == {
        "README.md": ("deleted", 0, 1),
        "app.py": ("modified", 1, 1),
        "committed.txt": ("added", 1, 0),
        "staged.txt": ("added", 2, 0),
        "untracked.txt": ("added", 1, 0),
    }
    assert (diff.total_files, diff.additions, diff.deletions, diff.head) == (5, 5, 2, "")
    assert diff.base == workspace.base_commit
    assert lines(one(workspace, "app.py")) == [("removed", 1, None, "print('hello')"), ("added", None, 1, "unstaged")]
    assert state_of(checkout, repository) == before


def test_diff__a_range(workspace, checkout):
    (checkout / "first.txt").write_text("1\n")
    first = commit_left(workspace, message="m", author_name="a")
    (checkout / "second.txt").write_text("2\n")
    second = commit_left(workspace, message="m", author_name="a")
    (checkout / "third.txt").write_text("3\n")
    diff = diff_for(workspace, base=first, head=second)
    assert (list(shown(diff)), diff.base, diff.head) == (["second.txt"], first, second)
    assert list(shown(diff_for(workspace, base=first))) == ["second.txt", "third.txt"]


def test_diff__nothing(workspace):
    diff = diff_for(workspace)
    assert (diff.files, diff.total_files, diff.truncated, diff.notes) == ([], 0, False, [])


def test_diff__renames_whether_staged_or_not(workspace, checkout):
    git(checkout, "mv", "lib/deep/one.txt", "staged ü.txt")
    diff = diff_for(workspace)
    assert [(f.status, f.old_path, f.new_path, f.additions) for f in diff.files] == [
        ("renamed", "lib/deep/one.txt", "staged ü.txt", 0)
    ]
    (checkout / "staged ü.txt").rename(checkout / "by hand.txt")
    (checkout / "by hand.txt").write_text((checkout / "by hand.txt").read_text().replace("line 20\n", "line XX\n"))
    diff = diff_for(workspace)
    assert [(f.status, f.old_path, f.new_path, f.additions, f.deletions) for f in diff.files] == [
        ("renamed", "lib/deep/one.txt", "by hand.txt", 1, 1)
    ]
    assert ("added", None, 20, "line XX") in lines(diff.files[0])


def test_diff__modes_links_and_types(workspace, checkout):
    (checkout / "app.py").chmod(0o755)
    (checkout / "README.md").unlink()
    (checkout / "README.md").symlink_to("/etc/passwd")
    (checkout / "link").symlink_to("lib")
    files = {file.path: file for file in diff_for(workspace).files}
    assert (files["app.py"].old_mode, files["app.py"].new_mode, files["app.py"].mode_changed) == (
        "100644",
        "100755",
        True,
    )
    assert lines(files["app.py"]) == []
    assert (files["README.md"].status, files["README.md"].new_mode) == ("type_changed", "120000")
    assert [line[3] for line in lines(files["README.md"])] == [
        "# A repository",
        "/etc/passwd",
        " No newline at end of file",
    ]
    assert lines(files["link"])[0][3] == "lib"


def test_diff__a_folder_becomes_a_file_and_the_reverse(workspace, checkout):
    for path in (checkout / "lib" / "deep" / "one.txt", checkout / "lib" / "two.txt"):
        path.unlink()
    (checkout / "lib" / "deep").rmdir()
    (checkout / "lib").rmdir()
    (checkout / "lib").write_text("now a file\n")
    (checkout / "app.py").unlink()
    (checkout / "app.py").mkdir()
    (checkout / "app.py" / "inside").write_text("x\n")
    assert {(f.status, f.path) for f in diff_for(workspace).files} == {
        ("added", "app.py/inside"),
        ("deleted", "app.py"),
        ("added", "lib"),
        ("deleted", "lib/deep/one.txt"),
        ("deleted", "lib/two.txt"),
    }


def test_diff__binary_and_empty(workspace, checkout):
    (checkout / "data.bin").write_bytes(b"\0\1\2")
    (checkout / "empty").write_bytes(b"")
    binary, empty = diff_for(workspace).files
    assert (binary.path, binary.binary, binary.hunks) == ("data.bin", True, [])
    assert (empty.path, empty.binary, empty.status, empty.additions) == ("empty", False, "added", 0)


ODD = [b"new\nline", b"tab\there", b'quote"s', b"back\\slash", b"bad\xff\xfe", b" lead", b"a b/c d", "日本.txt".encode(), b"-dash",
       b":(top)magic", b"x b/y", b"esc\x1b[31m", b"del\x7f", b"a => b", b"{c => d}"]  # fmt: skip


@pytest.mark.parametrize("committed", [False, True])
def test_diff__odd_names(workspace, checkout, committed):
    for name in ODD:
        path = checkout / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"in {len(name)}\n")
    if committed:
        commit_left(workspace, message="m", author_name="a")
    diff = diff_for(workspace)
    assert diff.total_files == len(ODD)
    assert len({file.id for file in diff.files}) == len(ODD)
    for file in diff.files:
        assert (file.status, file.additions, len(lines(file))) == ("added", 1, 1), file.path
        assert "\x1b" not in file.path
        file.path.encode()  # no surrogate is left
    assert "bad\ufffd\ufffd" in {file.path for file in diff.files}
    for file in diff.files:
        assert [shown.path for shown in diff_for(workspace, file=file.id).files] == [file.path]


def test_diff__what_nobody_sees_is_escaped_in_names_and_warned_of_in_lines(workspace, checkout):
    (checkout / "a\u202etxt.py").write_text("\ufeffseen\nun\u200bseen" + "x" * diffs.LINE_CHARACTERS + "\u2069\n")
    (checkout / "b.py").write_text("\ufeffseen שלום\n")
    hostile, plain = diff_for(workspace).files
    assert hostile.path == "a\\u202etxt.py"
    assert hostile.warning.endswith("text: U+200B, U+2069.")  # the end of a line that is cut is known too
    assert plain.warning == ""
    assert [shown.id for shown in diff_for(workspace, file=hostile.path).files] == [hostile.id]


def test_diff__names_from_a_hostile_file(workspace, checkout):
    """A file whose lines look like the headers of a patch is still one file."""
    text = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-y\n+z\n\\ No newline at end of file\n"
    (checkout / "evil.patch").write_text(text)
    (checkout / "app.py").write_text(text)
    files = diff_for(workspace).files
    assert [file.path for file in files] == ["app.py", "evil.patch"]
    assert [line[3] for line in lines(files[1])] == text.splitlines()


def test_diff__line_ends_and_odd_characters(workspace, checkout):
    (checkout / "app.py").write_bytes(
        "a\r\nb\x0cc\x0bd\ne\u2028f\x85g\n\x1b[31mred\x1b[0m\x00"[:-1].encode() + b"\xff\n"
    )
    kinds = lines(one(workspace, "app.py"))
    assert kinds[1:] == [
        ("added", None, 1, "a␍"),
        ("added", None, 2, "b␌c␋d"),
        ("added", None, 3, "e\u2028f\x85g"),
        ("added", None, 4, "␛[31mred␛[0m\ufffd"),
    ]


def test_diff__numbers_and_sections(workspace, checkout):
    path = checkout / "lib/deep/one.txt"
    path.write_text(path.read_text().replace("line 20\n", "").replace("line 30\n", "line thirty\n"))
    first, second = one(workspace, "lib/deep/one.txt").hunks
    assert (first.old_start, first.old_lines, first.new_start, first.new_lines) == (17, 7, 17, 6)
    assert second.section == "line 26"
    assert ("removed", 30, None, "line 30") in [(li.kind, li.old_no, li.new_no, li.text) for li in second.lines]
    assert ("added", None, 29, "line thirty") in [(li.kind, li.old_no, li.new_no, li.text) for li in second.lines]


def test_diff__a_persons_settings_do_not_change_it(workspace, checkout, repository, tmp_path):
    settings = {
        "diff.external": f"touch {tmp_path}/external-ran; false",
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "diff.context": "0",
        "diff.renames": "false",
        "diff.suppressBlankEmpty": "true",
        "diff.submodule": "log",
        "diff.orderFile": "/dev/null",
        "color.ui": "always",
        "core.quotePath": "true",
        "core.pager": f"touch {tmp_path}/pager-ran",
        "status.short": "true",
        "diff.evil.textconv": f"touch {tmp_path}/textconv-ran; cat",
    }
    for key, value in settings.items():
        git(repository, "config", key, value)
    (checkout / ".gitattributes").write_text("*.txt diff=evil\n")
    git(checkout, "mv", "lib/two.txt", "lib/zwei.txt")
    path = checkout / "lib/deep/one.txt"
    path.write_text(path.read_text().replace("line 20\n", "\nline XX\n"))
    files = {file.path: file for file in diff_for(workspace).files}
    assert files["lib/zwei.txt"].status == "renamed"
    assert lines(files["lib/deep/one.txt"])[0] == ("context", 17, 17, "line 17")
    assert not list(tmp_path.glob("*-ran"))


def test_diff__a_file_changed_in_the_same_instant_as_the_index(workspace, checkout, repository):
    """git trusts time stamps; one that is as young as the index proves nothing, in the copy of the index too."""
    git(repository, "config", "core.trustctime", "false")
    path = checkout / "lib" / "two.txt"
    at = path.stat().st_mtime_ns - 10 * 10**9
    os.utime(path, ns=(at, at))
    git(checkout, "update-index", "--refresh")
    os.utime(repository / ".git" / "worktrees" / checkout.name / "index", ns=(at, at))
    path.write_text("TWO\n")
    os.utime(path, ns=(at, at))
    assert lines(one(workspace, "lib/two.txt")) == [("removed", 1, None, "two"), ("added", None, 1, "TWO")]


def test_diff__while_files_come_and_go(workspace, checkout, monkeypatch):
    """A file that vanishes between being listed and being read does not hide the others."""
    for name in ("a.txt", "b.txt", "c.txt"):
        (checkout / name).write_text("x\n")
    real = git_changes.listed

    def vanish(paths):
        raw = real(paths)
        (checkout / "b.txt").unlink(missing_ok=True)
        return raw

    monkeypatch.setattr(git_changes, "listed", vanish)
    assert [file.path for file in diff_for(workspace).files] == ["a.txt", "c.txt"]


def test_diff__unmerged_files_once(workspace, checkout, repository, commit):
    (repository / "app.py").write_text("theirs\n")
    commit(repository)
    (checkout / "app.py").write_text("mine\n")
    commit(checkout)
    with pytest.raises(Exception, match="merge"):
        git(checkout, "merge", "-q", "trunk")
    before = git(checkout, "status", "--porcelain")
    (file,) = diff_for(workspace).files
    assert (file.path, file.status, file.old_mode, file.new_mode) == ("app.py", "modified", "100644", "100644")
    assert (file.additions, file.deletions) == (5, 1)
    assert ("added", None, 1, "<<<<<<< HEAD") in lines(file)
    assert git(checkout, "status", "--porcelain") == before


def test_diff__long_files_are_folded_until_asked_for(workspace, checkout):
    (checkout / "long.txt").write_text("".join(f"{number}\n" for number in range(diffs.COLLAPSE_LINES + 1)))
    (checkout / "short.txt").write_text("x\n")
    long, short = diff_for(workspace).files
    assert (long.collapsed, long.hunks, long.additions) == (True, [], diffs.COLLAPSE_LINES + 1)
    assert not short.collapsed
    for name in (long.id, "long.txt"):
        diff = diff_for(workspace, file=name)
        assert len(lines(diff.files[0])) == diffs.COLLAPSE_LINES + 1
        assert not diff.files[0].too_large
    with pytest.raises(NotFound):
        diff_for(workspace, file="app.py")


def test_diff__very_long_files_are_cut(workspace, checkout, monkeypatch):
    monkeypatch.setattr(diffs, "FILE_LINES", 50)
    (checkout / "long.txt").write_text("".join(f"{number}\n" for number in range(60)))
    path = checkout / "lib/deep/one.txt"
    path.write_text("".join(f"LINE {number}\n" for number in range(1, 41)))
    cut_file, twice = (diff_for(workspace, file=name).files[0] for name in ("long.txt", "lib/deep/one.txt"))
    assert (len(lines(cut_file)), cut_file.too_large) == (50, True)
    assert (len(lines(twice)), twice.too_large) == (50, True)


def test_diff__the_whole_is_bounded(workspace, checkout, monkeypatch):
    monkeypatch.setattr(diffs, "TOTAL_LINES", 10)
    monkeypatch.setattr(diffs, "FILES_LIMIT", 4)
    for number in range(6):
        (checkout / f"file{number}.txt").write_text("x\n" * 4)
    diff = diff_for(workspace)
    assert [file.collapsed for file in diff.files] == [False, False, True, True]
    assert (diff.total_files, diff.additions, diff.truncated) == (6, 24, True)
    rest = diff_for(workspace, offset=4)
    assert ([file.path for file in rest.files], rest.truncated) == (["file4.txt", "file5.txt"], False)


def test_diff__a_huge_patch_is_cut_between_files(workspace, checkout, monkeypatch):
    monkeypatch.setattr(git_changes, "PATCH_LIMIT", 6_000)
    for number in range(4):
        (checkout / f"file{number}.txt").write_text("some text\n" * 200)
    diff = diff_for(workspace)
    assert [file.collapsed for file in diff.files] == [False, False, True, True]
    assert [file.additions for file in diff.files] == [200] * 4
    assert len(lines(diff_for(workspace, file="file3.txt").files[0])) == 200


def test_diff__huge_files_are_not_compared(workspace, checkout):
    (checkout / "huge.txt").write_text("some text\n" * 300_000)
    (file,) = diff_for(workspace).files
    assert (file.binary, file.hunks, "differ" in file.patch) == (True, [], True)


def test_diff__long_lines_are_cut(workspace, checkout):
    (checkout / "min.js").write_text("x" * 50_000)
    assert len(lines(one(workspace, "min.js"))[0][3]) == diffs.LINE_CHARACTERS


def test_diff__patch_is_the_files_part_of_the_unified_diff(workspace, checkout):
    (checkout / "app.py").write_text("bye\n")
    patch = one(workspace, "app.py").patch
    assert patch.startswith("diff --git a/app.py b/app.py\n")
    assert patch.endswith("-print('hello')\n+bye\n")


def test_diff__a_workspace_that_is_not_made_yet_has_none(workspace):
    workspace.state = WorkspaceState.CREATING
    assert diff_for(workspace).files == []


@pytest.mark.parametrize("seed", range(4))
def test_diff__agrees_with_git_itself(workspace, checkout, seed):
    """Random edits: the files and counts are those of committing everything and asking git."""
    import random

    chance = random.Random(seed)
    for number in range(25):
        kind = chance.choice(["new", "edit", "delete", "stage", "commit", "move"])
        existing = [path for path in checkout.rglob("*") if path.is_file() and ".git" not in path.parts]
        victim = chance.choice(existing) if existing else checkout / "first"
        if kind == "new" or not existing:
            place = checkout / chance.choice(["", "ü d/", "lib/"]) / f"new {number}"
            place.parent.mkdir(exist_ok=True)
            place.write_text("".join(f"{chance.random()}\n" for _ in range(chance.randint(0, 6))))
        elif kind == "edit":
            victim.write_bytes(victim.read_bytes() + chance.choice([b"more\n", b"no end", b"\r\n", b"\0"]))
        elif kind == "delete":
            victim.unlink()
        elif kind == "move":
            victim.rename(victim.with_name(f"moved {number}"))
        elif kind == "stage":
            git(checkout, "add", "-A")
        else:
            git(checkout, "add", "-A")
            git(checkout, "commit", "-q", "--allow-empty", "-m", "x")
    diff = diff_for(workspace)
    head = commit_left(workspace, message="m", author_name="a")
    expected = git(checkout, "diff", "-M", "--numstat", "-z", workspace.base_commit, head)
    counted = [field.split("\t")[:2] for field in expected.split("\0") if field.count("\t") == 2]
    assert [[str(f.additions), str(f.deletions)] if not f.binary else ["-", "-"] for f in diff.files] == counted
    committed = diff_for(workspace, base=workspace.base_commit, head=head)
    assert [(f.path, f.status, lines(f)) for f in committed.files] == [(f.path, f.status, lines(f)) for f in diff.files]
