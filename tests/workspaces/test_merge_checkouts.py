"""A person's checkout of the target when a merge brings it along: dirty files, untracked ones, several checkouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import git
from tests.workspaces.merging import clean_at, merge, work
from workspaces.vcs import git_target

pytestmark = pytest.mark.django_db


def test_dirty__is_refused_with_the_names_and_nothing_moves(workspace, repository, settled):
    work(workspace, {"a.txt": "1\n"})
    (repository / "app.py").write_text("unsaved\n")
    (repository / "lib" / "two.txt").write_text("staged\n")
    git(repository, "add", "lib")
    before = git(repository, "rev-parse", "trunk"), git(repository, "status", "--porcelain")
    attempt = merge(workspace)
    assert (attempt.state, attempt.error_code) == ("refused", "merge_refused")
    assert "app.py, lib/two.txt" in attempt.error
    assert str(repository) in attempt.error
    assert (git(repository, "rev-parse", "trunk"), git(repository, "status", "--porcelain")) == before
    assert not (repository / "a.txt").exists()
    assert settled == [attempt.pk]
    git(repository, "reset", "-q", "--hard")
    assert merge(workspace).state == "merged"
    assert clean_at(repository)


@pytest.mark.parametrize("kind", ["file", "ignored", "folder", "in the way of a folder", "link"])
def test_untracked__files_that_would_be_overwritten(workspace, repository, commit, tmp_path, kind):
    (repository / ".gitignore").write_text("*.env\n")
    commit(repository)
    work(workspace, {"new/local.env.txt": "agent's\n", "secret.txt": "agent's\n"})
    git(workspace.path, "mv", "secret.txt", "secret.env")
    git(workspace.path, "commit", "-q", "-m", "m")
    names = {
        "file": "new/local.env.txt",
        "ignored": "secret.env",
        "folder": "secret.env/inside.txt",
        "in the way of a folder": "new",
        "link": "new/local.env.txt",
    }
    mine = repository / names[kind]
    mine.parent.mkdir(exist_ok=True)
    if kind == "link":
        (tmp_path / "target").write_text("precious\n")
        mine.symlink_to(tmp_path / "target")
    else:
        mine.write_text("precious\n")
    before = git(repository, "rev-parse", "trunk")
    attempt = merge(workspace)
    assert (attempt.state, names[kind] in attempt.error) == ("refused", True), attempt.error
    assert mine.read_text() == "precious\n"
    assert git(repository, "rev-parse", "trunk") == before


def test_untracked__files_elsewhere_do_not_matter(workspace, repository):
    work(workspace, {"new/a.txt": "1\n"})
    (repository / "new").mkdir()
    (repository / "new" / "mine.txt").write_text("mine\n")
    (repository / "notes.txt").write_text("mine\n")
    assert merge(workspace).state == "merged"
    assert (repository / "new" / "a.txt").exists()
    assert git(repository, "status", "--porcelain") == "?? new/mine.txt\n?? notes.txt\n"


def test_checkout__follows_deletions_renames_modes_and_types(workspace, repository):
    checkout = Path(workspace.path)
    (checkout / "README.md").unlink()
    git(checkout, "mv", "lib/deep/one.txt", "ünö.txt")
    (checkout / "app.py").chmod(0o755)
    (checkout / "lib/two.txt").unlink()
    (checkout / "lib/two.txt").symlink_to("../app.py")
    assert merge(workspace).state == "merged"
    assert clean_at(repository)
    assert not (repository / "lib" / "deep").exists()
    assert (repository / "lib/two.txt").is_symlink()


def test_checkout__touched_files_are_not_dirty(workspace, repository):
    work(workspace, {"app.py": "new\n"})
    (repository / "app.py").touch()
    assert merge(workspace).state == "merged"
    assert clean_at(repository)


def test_checkout__several_and_none_of_them_left_behind(workspace, repository, tmp_path):
    work(workspace, {"a.txt": "1\n"})
    git(repository, "checkout", "-q", "--detach")
    git(repository, "worktree", "add", "-q", str(tmp_path / "one"), "trunk")
    git(repository, "worktree", "add", "-q", "--force", str(tmp_path / "two"), "trunk")
    attempt = merge(workspace)
    assert attempt.state == "merged"
    assert clean_at(tmp_path / "one")
    assert clean_at(tmp_path / "two")
    assert not (repository / "a.txt").exists()


def test_checkout__one_dirty_of_several_refuses_all(workspace, repository, tmp_path):
    work(workspace, {"a.txt": "1\n"})
    git(repository, "worktree", "add", "-q", "--force", str(tmp_path / "two"), "trunk")
    (tmp_path / "two" / "app.py").write_text("unsaved\n")
    assert merge(workspace).state == "refused"
    assert clean_at(repository)
    assert not (repository / "a.txt").exists()


@pytest.mark.parametrize("begun", ["merge", "rebase", "cherry-pick"])
def test_checkout__in_the_middle_of_something(workspace, repository, commit, begun):
    work(workspace, {"a.txt": "1\n"})
    git(repository, "checkout", "-q", "-b", "side")
    (repository / "app.py").write_text("side\n")
    commit(repository)
    git(repository, "checkout", "-q", "trunk")
    (repository / "app.py").write_text("trunk\n")
    before = commit(repository)
    with pytest.raises(Exception, match=begun):
        git(repository, begun, "side")
    attempt = merge(workspace)
    assert (attempt.state, begun in attempt.error) == ("refused", True), attempt.error
    assert git(repository, "rev-parse", "trunk").strip() == before


def test_checkout__another_git_is_at_work(workspace, repository, monkeypatch):
    monkeypatch.setattr(git_target, "PATIENCE", 0.2)
    work(workspace, {"a.txt": "1\n"})
    (repository / ".git" / "index.lock").write_text("")
    attempt = merge(workspace)
    assert (attempt.state, "index.lock" in attempt.error) == ("refused", True)
    assert (repository / ".git" / "index.lock").exists()


def test_checkout__becomes_dirty_between_look_and_leap(workspace, repository, monkeypatch):
    """git itself refuses then, and what was brought along already is taken back."""
    work(workspace, {"app.py": "agent's\n"})
    look = git_target._require_free

    def look_then_edit(checkout, *args, **options):
        look(checkout, *args, **options)
        (checkout / "app.py").write_text("just typed\n")

    monkeypatch.setattr(git_target, "_require_free", look_then_edit)
    before = git(repository, "rev-parse", "trunk")
    attempt = merge(workspace)
    assert (attempt.state, "app.py" in attempt.error) == ("refused", True), attempt.error
    assert (repository / "app.py").read_text() == "just typed\n"
    assert git(repository, "rev-parse", "trunk") == before
