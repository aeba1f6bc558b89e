"""Which lines of a patch are a conflict that nobody has resolved. Real diffs are in tests/workspaces/contract/test_merges.py."""

from __future__ import annotations

import pytest

from tests.repositories import git, make_repository
from workspaces.vcs import git_marks
from workspaces.vcs.git_marks import adds_conflict

GIT = "+<<<<<<< HEAD\n+one\n+=======\n+two\n+>>>>>>> branch\n"
JJ = (
    "+<<<<<<< conflict 1 of 1\n+%%%%%%% diff from: base\n+\\\\\\\\\\\\\\        to: mine\n+-one\n++two\n"
    "++++++++ theirs\n+three\n+>>>>>>> conflict 1 of 1 ends\n"
)
MARKED = {
    "git": GIT,
    "diff3": GIT.replace("+=======", "+||||||| base\n+none\n+======="),
    "jj": JJ,
    "jj, snapshot": "+<<<<<<< a\n++++++++ b\n+one\n+------- c\n+none\n++++++++ d\n+two\n+>>>>>>> e\n",
    "longer, where the file has such lines": GIT.replace("<" * 7, "<" * 11).replace("=" * 7, "=" * 11).replace(">" * 7, ">" * 11),
    "Windows": GIT.replace("\n", "\r\n").replace(" HEAD", "").replace(" branch", ""),
    "no end of line": GIT.removesuffix(" branch\n"),
    "the middle stood there as a heading": GIT.replace("+=======", " ======="),
    "an end that stood there": GIT.replace("+>>>>>>>", " >>>>>>>"),
    "behind one that stood there": GIT.replace("+", " ") + GIT,
}  # fmt: skip
PLAIN = {
    "a heading": "+Title\n+=======\n",
    "a beginning": "+<<<<<<< HEAD\n+=======\n",
    "an end": "+=======\n+>>>>>>> branch\n",
    "no middle": "+<<<<<<< HEAD\n+||||||| base\n+>>>>>>> branch\n",
    "the wrong way round": "+>>>>>>> branch\n+=======\n+<<<<<<< HEAD\n",
    "not at the start": GIT.replace("+", "+ "),
    "other lengths": GIT.replace("<" * 7, "<" * 8),
    "too short": GIT.replace("<" * 7, "<" * 6).replace(">" * 7, ">" * 6),
    "letters behind": GIT.replace("<<<<<<< ", "<<<<<<<"),
    "taken away": GIT.replace("+", "-"),
    "stood there": GIT.replace("+", " "),
    "quoted mail": "+>>>>>>> he wrote\n+=======\n+>>>>>>> she wrote\n",
}


def patch(lines: str) -> bytes:
    header = "diff --git a/a b/a\nindex 1..2 100644\n--- a/a\n+++ b/a\n@@ -1,9 +1,9 @@\n"
    return (header + lines).encode()


@pytest.mark.parametrize("name", MARKED)
def test_conflict__is_found(name):
    assert adds_conflict(patch(" before\n" + MARKED[name]))


@pytest.mark.parametrize("name", PLAIN)
def test_text__is_none(name):
    assert not adds_conflict(patch(PLAIN[name]))


def test_alone__one_line_that_no_text_has_is_enough():
    assert adds_conflict(patch("+>>>>>>> branch\n"), alone=True)
    for plain in ("+=======\n", "->>>>>>> branch\n", " >>>>>>> branch\n"):
        assert not adds_conflict(patch(plain), alone=True)


def test_processes__one_where_nothing_is_found(monkeypatch):
    asked = []
    real = git_marks.git

    def counted(*arguments, **options):
        asked.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(git_marks, "git", counted)
    monkeypatch.setattr(git_marks, "compare", None)
    folder = make_repository(files={"a.txt": "one\n"})
    before = git(folder, "rev-parse", "HEAD").strip()
    (folder / "a.txt").write_text("two\n=======\n")
    git(folder, "commit", "-qam", "Two")
    assert git_marks.marked_files(folder, before, git(folder, "rev-parse", "HEAD").strip()) == []
    assert len(asked) == 1
